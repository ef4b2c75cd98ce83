package connect

import (
	"context"
	"testing"
	"time"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	"github.com/routr-fabric/routr/services/processor"
)

// The whole decision in one process: the call to the processor, what it does, its call to the Location Service with the
// memory provider, and the answer.
func BenchmarkDecision(b *testing.B) {
	f := newFabric(b, bustest.Local(b), nil)
	f.send(request{source: peer, contacts: []contact{{uri: "sip:1001@198.51.100.7:36080"}}})
	invite := request{method: "INVITE", uri: "sip:1001@sip.local", headers: []string{
		"Allow: INVITE", "Allow: ACK", "Allow: CANCEL", "Allow: BYE", "Allow: OPTIONS", "Supported: replaces", "Supported: timer",
		"User-Agent: bench", "Content-Type: application/sdp",
	}}
	register := request{headers: []string{"User-Agent: bench"}, contacts: []contact{{uri: "sip:1001@198.51.100.7:36080"}}, expires: "3600"}

	trusted := func(r request) request { r.source = peer; return r }
	for _, bb := range []struct {
		name string
		in   request
	}{
		{"REGISTER trusted", trusted(register)},
		{"INVITE trusted", trusted(invite)},
		{"REGISTER without credentials", register},
	} {
		b.Run(bb.name, func(b *testing.B) {
			req := bb.in.build()
			b.ReportAllocs()
			for b.Loop() {
				req.Message.CSeq.Number++ // as a refresh does; nothing keeps the message in this test
				f.decide(b, req)
			}
		})
	}
	for _, bb := range []struct {
		name string
		in   request
	}{{"REGISTER digest", register}, {"INVITE digest", invite}} {
		b.Run(bb.name, func(b *testing.B) {
			var reqs []*processorpb.MessageRequest
			var cSeq uint32
			b.ReportAllocs()
			for b.Loop() {
				if len(reqs) == 0 { // each nonce count serves once
					b.StopTimer()
					challenge := f.send(bb.in)
					for i := range 1024 {
						cSeq++
						bb.in.cSeq, bb.in.callID = cSeq, bb.name
						reqs = append(reqs, phone{count: i + 1}.answer(b, bb.in, challenge).build())
					}
					b.StartTimer()
				}
				f.decide(b, reqs[0])
				reqs = reqs[1:]
			}
		})
	}
}

// decide sends a request and waits for the answer, which a local responder has given when Call returns.
func (f *fabric) decide(b *testing.B, req *processorpb.MessageRequest) {
	answered := false
	f.conn.Call(context.Background(), bus.SubjectProcess("connect", processor.MethodOf(req)), bus.Value(req), time.Now().Add(time.Minute),
		func(reply bus.Reply, err error) {
			if err != nil {
				b.Error(err)
			}
			answered = true
		})
	if !answered {
		b.Fatal("the answer did not come before Call returned")
	}
}
