package proxy

import (
	"time"

	"github.com/routr-fabric/routr/services/edgeport/transaction"
)

// Drain refuses new requests with 503 from now on, or takes them again. New is what has no To tag: whatever belongs to a
// dialog goes on, be it by a signed Route or by a decision, and so do responses, CANCEL and ACK.
func (p *Proxy) Drain(on bool) { p.draining.Store(on) }

// Pending is how many transactions have to end before a stop hurts nobody. It looks at every transaction.
func (p *Proxy) Pending() int { return p.layer.Pending() }

// Lag is how late the timers are; see transaction.Layer.Lag.
func (p *Proxy) Lag() time.Duration { return p.layer.Lag() }

// refuseNew answers a request that came while we drain. Another server, or this one a while later, will take it.
func (p *Proxy) refuseNew(tx *transaction.Server) {
	p.counts.Drained.Add(1)
	tx.Respond(503, "", retryAfter(tx.Request().CallID()), nil)
}
