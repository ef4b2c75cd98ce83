package bus_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sippb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
)

// invite is about as big as an INVITE with SDP.
func invite() *processorpb.MessageRequest {
	m := &processorpb.MessageRequest{
		Ref: "a84b4c76e66710@pc33.atlanta.example.com", EdgePortRef: "edgeport1", Method: processorpb.Method_INVITE,
		Sender:  &processorpb.NetInterface{Host: "192.0.2.1", Port: 5060},
		Message: &sippb.SIPMessage{},
	}
	for range 12 {
		m.Message.Extensions = append(m.Message.Extensions, &sippb.Extension{Name: "X-Some-Header", Value: "a value as long as those that phones send, or so; with=parameters"})
	}
	return m
}

// run makes calls until b ends: one at a time, or 64 in flight a goroutine.
func run(b *testing.B, c *bus.Conn, subject string, body bus.Body) {
	b.Helper()
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		ch := make(chan error, 1)
		done := func(_ bus.Reply, err error) { ch <- err }
		for b.Loop() {
			c.Call(context.Background(), subject, body, time.Now().Add(5*time.Second), done)
			if err := <-ch; err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			const flight = 64
			ch := make(chan error, flight)
			done := func(_ bus.Reply, err error) { ch <- err }
			n := 0
			for pb.Next() {
				if n == flight {
					if err := <-ch; err != nil {
						b.Error(err)
						return
					}
					n--
				}
				c.Call(context.Background(), subject, body, time.Now().Add(5*time.Second), done)
				n++
			}
			for ; n > 0; n-- {
				if err := <-ch; err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}

func BenchmarkCall(b *testing.B) {
	for _, mode := range []struct {
		name    string
		connect func(testing.TB) *bus.Conn
	}{{"nats", bustest.Connect}, {"local", bustest.Local}, {"alone", bustest.Alone}} {
		b.Run(mode.name, func(b *testing.B) {
			c := mode.connect(b)
			answer := &processorpb.MessageResponse{Targets: []*processorpb.Target{{Uri: "sip:bob@192.0.2.7:5060;transport=udp"}}}
			if _, err := c.Serve(bus.SubjectProcess("connect", bus.Every), "connect", func(_ context.Context, r *bus.Request) {
				if _, err := bus.Decode[processorpb.MessageRequest](r.Body); err != nil {
					r.Fail(err)
					return
				}
				r.Reply(bus.Reply{Body: bus.Value(answer)})
			}, bus.Options{}); err != nil {
				b.Fatal(err)
			}
			subject := bus.SubjectProcess("connect", "INVITE")
			if _, err := c.Serve(bus.SubjectDispatch(bus.Every), bus.QueueDispatcher, func(_ context.Context, r *bus.Request) {
				r.Forward(subject, func(p bus.Reply, err error) {
					if err != nil {
						r.Fail(err)
						return
					}
					r.Reply(p)
				})
			}, bus.Options{}); err != nil {
				b.Fatal(err)
			}
			b.Run("value", func(b *testing.B) { run(b, c, subject, bus.Value(invite())) })
			data, err := proto.Marshal(invite())
			if err != nil {
				b.Fatal(err)
			}
			if mode.name == "nats" {
				b.Run("raw", func(b *testing.B) { run(b, c, subject, bus.Raw(data)) })
			}
			b.Run("chain", func(b *testing.B) { run(b, c, bus.SubjectDispatch("INVITE"), bus.Value(invite())) })
		})
	}
}
