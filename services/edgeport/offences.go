package edgeport

import (
	"sync"

	"github.com/routr-fabric/routr/services/edgeport/guard"
	"github.com/routr-fabric/routr/services/edgeport/message"
	"github.com/routr-fabric/routr/services/edgeport/proxy"
	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// What the guard is told of who speaks to us: offences on the connections that clients opened, and who has authenticated.

// maxUnanswered is how many challenges in a row may go unanswered on a connection before that is an offence. A phone
// sends a few requests at once, and the connection of a proxy brings many phones, of which some answer.
const maxUnanswered = 16

// challenges are those that were sent on a connection and not answered. It forgets a connection with its end.
type challenges struct {
	mu   sync.Mutex
	open map[string]int // by the ID of the connection
}

// sent counts a challenge, and returns how many there are.
func (c *challenges) sent(id string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open = make(map[string]int)
	}
	c.open[id]++
	return c.open[id]
}

// forget returns how many there were.
func (c *challenges) forget(id string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.open[id]
	delete(c.open, id)
	return n
}

// offended tells the guard of an offence on flow, and ends the connection if its source is barred now. Nothing is said of
// flows that others may have made for the source.
func (e *EdgePort) offended(flow transport.Flow, what guard.Offence) {
	if flow.Accepted() && e.guard.Offend(flow.Remote().Addr(), what) {
		flow.Close(transport.Unwanted)
	}
}

// scanned says whether m is of a program that looks for servers to attack. It is dropped, and its connection closed.
func (e *EdgePort) scanned(flow transport.Flow, m *message.Message) bool {
	if !m.IsRequest() || flow.Protocol() == transport.Bus {
		return false
	}
	agent, _ := m.Get(message.KindUserAgent)
	if !e.guard.Scanner(flow.Remote().Addr(), agent) {
		return false
	}
	e.offended(flow, guard.Scan)
	flow.Close(transport.Unwanted)
	return true
}

// decided is told what became of a request that a processor has decided on.
func (e *EdgePort) decided(flow transport.Flow, d proxy.Decision) {
	offence, offended := guard.OffenceOf(d.Offence)
	challenged := d.Status == 401 || d.Status == 407
	switch {
	case d.Credentials && !offended && (d.Status == 0 || d.Status/100 == 2):
		e.guard.Vouch(flow.Remote().Addr())
		if flow.Accepted() {
			flow.Known()
			e.asked.forget(flow.ID())
		}
	case !flow.Accepted():
	case offence == guard.ForgedNonce && e.challenged(flow) == 1:
		// Its nonce may be from before our key was changed, or from another server of its domain. It has a new one now.
	case offended:
		e.offended(flow, offence)
	case challenged && !d.Credentials && e.challenged(flow)%maxUnanswered == 0:
		e.offended(flow, guard.UnansweredChallenge)
	}
}

// challenged counts a challenge on a connection, and returns how many are open.
func (e *EdgePort) challenged(flow transport.Flow) int {
	n := e.asked.sent(flow.ID())
	if _, live := e.transport.Lookup(flow.ID()); !live { // it has ended meanwhile, perhaps before this was remembered
		e.left(flow)
	}
	return n
}

// left is told of the end of a connection.
func (e *EdgePort) left(flow transport.Flow) {
	if e.asked.forget(flow.ID()) == 0 {
		return
	}
	if s, _ := e.life.get(); s != Stopping { // which ends all connections, whoever waits for whom
		e.offended(flow, guard.UnansweredChallenge)
	}
}
