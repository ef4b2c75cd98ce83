package transaction

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/routr-fabric/routr/services/edgeport/message"
	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// forwarder is a user that does what a proxy does, by chance.
type forwarder struct {
	t       *testing.T
	rand    *rand.Rand // used under the lock of the one shard
	flows   []transport.Flow
	servers []*Server
	clients []*Client
	failed  map[*Client]Cause
	final   map[*Client]int
}

// way is a server transaction with its branches.
type way struct {
	server  *Server
	clients []*Client
}

func (f *forwarder) Request(tx *Server, req *message.Message) {
	f.servers = append(f.servers, tx)
	w := &way{server: tx}
	tx.Context = w
	for range f.rand.IntN(3) {
		branch := tx.NewBranch()
		text := strings.Replace(string(req.Bytes()), "Via: ", "Via: SIP/2.0/UDP 127.0.0.1:5060;branch="+string(branch.Append(nil))+"\r\nVia: ", 1)
		c := tx.Forward(branch, f.flows[f.rand.IntN(len(f.flows))], []byte(text), w)
		w.clients, f.clients = append(w.clients, c), append(f.clients, c)
	}
	if f.rand.IntN(2) == 0 {
		tx.Release()
	}
}

func (f *forwarder) Ack(transport.Flow, *message.Message) {}

func (f *forwarder) Cancel(tx *Server) {
	if !tx.Open() {
		f.t.Error("Cancel of a server transaction that has its final response")
	}
	w := tx.Context.(*way)
	for _, c := range w.clients {
		c.Cancel()
	}
	if f.rand.IntN(2) == 0 {
		tx.Respond(487, "", nil, nil)
	}
}

func (f *forwarder) Response(tx *Client, m *message.Message) {
	w := tx.Context.(*way)
	if cause, failed := f.failed[tx]; failed && cause != Unanswered {
		f.t.Errorf("Response %d after Failed", m.Status())
	}
	if m.Status() >= 200 {
		if f.final[tx]++; f.final[tx] > 1 && (m.Status() >= 300 || tx.Method != message.INVITE) {
			f.t.Errorf("final response %d to %v again", m.Status(), tx.Method)
		}
	}
	if f.rand.IntN(2) == 0 {
		w.server.Respond(m.Status(), "", nil, nil)
	}
}

func (f *forwarder) Failed(tx *Client, cause Cause) {
	if old, again := f.failed[tx]; again || f.final[tx] > 0 {
		f.t.Errorf("Failed %v after Failed %v and %d final responses", cause, old, f.final[tx])
	}
	f.failed[tx] = cause
	w := tx.Context.(*way)
	for _, c := range w.clients {
		c.Cancel()
	}
	w.server.Respond(408, "", nil, nil)
}

// Whatever happens in whatever order, each transaction ends once, the user hears of its end once, and nothing is left.
func TestEveryTransactionEnds(t *testing.T) {
	for seed := range uint64(4) {
		for _, protocol := range []transport.Protocol{transport.UDP, transport.TCP} {
			t.Run(fmt.Sprint(protocol, seed), func(t *testing.T) {
				inBubble(t, protocol, func(b *bench) { anything(b, rand.New(rand.NewPCG(seed, 1))) })
			})
		}
	}
}

// anything plays 300 events, lets all timers pass, and looks at what is left.
func anything(b *bench, r *rand.Rand) {
	t := b.t
	own := rand.New(rand.NewPCG(r.Uint64(), 1))
	far := transport.NewPeer("b", func(_ []byte, fail func(error)) {
		if fail != nil && own.IntN(4) == 0 {
			go fail(errors.New("nobody is there"))
		}
	}).Flow()
	f := &forwarder{t: t, rand: own, failed: map[*Client]Cause{}, final: map[*Client]int{}, flows: []transport.Flow{b.callee.flow, b.caller.flow, far}}
	b.layer.user = f
	methods := []string{"INVITE", "INVITE", "INVITE", "MESSAGE", "CANCEL", "ACK"}
	for range 300 {
		synctest.Wait() // so that what happens is the same each time
		switch r.IntN(8) {
		case 0, 1, 2:
			method := methods[r.IntN(len(methods))]
			text := request(method, fmt.Sprint("z9hG4bK", r.IntN(20)))
			b.layer.Receive(f.flows[r.IntN(len(f.flows))], parse(t, text))
		case 3, 4, 5:
			if len(f.clients) == 0 {
				continue
			}
			c := f.clients[r.IntN(len(f.clients))]
			method := "INVITE"
			if c.Method != message.INVITE {
				method = "MESSAGE"
			} else if r.IntN(4) == 0 {
				method = "CANCEL"
			}
			b.respond(c, []int{100, 180, 180, 200, 302, 404, 487, 603}[r.IntN(8)], method)
		case 6:
			wait(time.Duration(r.IntN(5000)) * time.Millisecond)
			if r.IntN(8) == 0 {
				wait(time.Duration(r.IntN(200)) * time.Second)
			}
		case 7:
			if r.IntN(4) == 0 {
				b.layer.FlowClosed(f.flows[r.IntN(len(f.flows))])
			} else if len(f.servers) > 0 {
				tx := f.servers[r.IntN(len(f.servers))]
				tx.Do(func() {
					if r.IntN(2) == 0 {
						tx.Release()
					} else {
						tx.Respond([]int{180, 200, 408, 503}[r.IntN(4)], "", nil, nil)
					}
				})
			}
		}
	}
	wait(20 * time.Minute)
	for _, tx := range f.servers { // those that nobody has decided on
		tx.Do(func() {
			if tx.Open() && tx.Request() == nil {
				t.Error("a server transaction without a final response has no request, so it can send none")
			}
			tx.Respond(500, "", nil, nil)
		})
	}
	wait(2 * time.Minute)
	b.caller.received() // lets what goes on end
	for i := range b.layer.shards {
		s := &b.layer.shards[i]
		s.mu.Lock()
		if n := len(s.servers) + len(s.clients) + len(s.riders) + len(s.after); n != 0 {
			t.Errorf("%d servers, %d clients, %d lists of riders, %d to do are left, want none", len(s.servers), len(s.clients), len(s.riders), len(s.after))
		}
		for slot, timer := range s.wheel.slots {
			if timer != nil {
				t.Errorf("a timer is left in slot %d", slot)
			}
		}
		s.mu.Unlock()
	}
	if servers, clients := b.layer.counts.Servers.Load(), b.layer.counts.Clients.Load(); servers != 0 || clients != 0 {
		t.Errorf("%d servers and %d clients are counted, want none", servers, clients)
	}
	for _, c := range f.clients {
		if f.final[c] == 0 {
			if _, failed := f.failed[c]; !failed {
				t.Errorf("the user was told neither of a final response nor of a failure of a client transaction (%v)", c.Method)
			}
		}
	}
}
