package edgeport

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/routr-fabric/routr/bus"
	locationpb "github.com/routr-fabric/routr/proto/location/v2beta1"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// Bounds of what is remembered of a connection. One with more addresses-of-record is no phone's, and the Location Service
// takes none that is longer.
const (
	maxAORs = 64
	maxAOR  = 512 // bytes
)

// flowClosedTimeout is how long the Location Service may take to hear of the end of a flow. Later it is of no use: who
// calls has found out, and who was called has registered again.
const flowClosedTimeout = 5 * time.Second

// flows remembers which addresses-of-record were registered on which connection, and tells the Location Service when one
// ends, so that nobody is sent there any more (RFC 5626 5.2). It forgets a connection with its end, so it grows with the
// connections that there are.
//
// A word that is lost does no harm but for a caller's time: a request on a flow that is gone fails at once.
type flows struct {
	ref  string
	conn *bus.Conn

	mu   sync.Mutex
	aors map[string][]string // by the ID of the connection

	pending atomic.Int64 // ends of flows that the Location Service has not acknowledged
	counts  flowCounts
}

// flowCounts are totals of flows.
type flowCounts struct {
	told, untold atomic.Int64 // ends of flows that the Location Service has acknowledged, or not
	unremembered atomic.Int64 // registrations over maxAORs and maxAOR
}

func newFlows(ref string, conn *bus.Conn) *flows {
	return &flows{ref: ref, conn: conn, aors: make(map[string][]string)}
}

// registered notes that a REGISTER that came on flow was accepted.
func (e *EdgePort) registered(flow transport.Flow, register *processorpb.MessageRequest) {
	uri := register.GetMessage().GetTo().GetAddress().GetUri()
	switch {
	case flow.Protocol() == transport.UDP || uri.GetUser() == "":
		return
	case len(register.Message.Via) > 1: // it is the connection of a proxy, whose end says nothing about the client
		return
	}
	e.flows.remember(flow.ID(), "sip:"+uri.User+"@"+uri.Host)
	if _, live := e.transport.Lookup(flow.ID()); !live { // it has ended meanwhile, perhaps before it was remembered
		e.flows.closed(flow.ID())
	}
}

// closed is told of the end of every connection, once nothing more can arrive on it.
func (e *EdgePort) closed(flow transport.Flow) {
	e.proxy.FlowClosed(flow)
	e.flows.closed(flow.ID())
	e.left(flow)
}

// remember notes an address-of-record of a connection. Every refresh comes here.
func (f *flows) remember(id, aor string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := f.aors[id]
	switch {
	case slices.Contains(list, aor):
	case len(list) >= maxAORs || len(aor) > maxAOR:
		f.counts.unremembered.Add(1)
	default:
		f.aors[id] = append(list, aor)
	}
}

// closed tells the Location Service that a connection has ended, if anyone has registered on it. It does not wait.
func (f *flows) closed(id string) {
	f.mu.Lock()
	aors := f.aors[id]
	delete(f.aors, id)
	f.mu.Unlock()
	if len(aors) == 0 {
		return
	}
	f.pending.Add(1)
	event := bus.Value(&locationpb.FlowClosed{EdgePortRef: f.ref, Flow: id, Aors: aors})
	f.conn.Call(context.Background(), bus.SubjectFlowClosed(f.ref), event, time.Now().Add(flowClosedTimeout), func(_ bus.Reply, err error) {
		if err == nil {
			f.counts.told.Add(1)
		} else {
			f.counts.untold.Add(1)
		}
		f.pending.Add(-1)
	})
}

// drain waits until the Location Service has heard of every end of a flow, or does not answer. All connections end when
// the EdgePort stops.
func (f *flows) drain() {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for f.pending.Load() > 0 {
		<-tick.C
	}
}
