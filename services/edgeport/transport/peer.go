package transport

// Peer is a far end without a socket of ours: another EdgePort, which the bus reaches.
type Peer struct {
	name string
	send func(data []byte, fail func(error))
}

// NewPeer makes the far end of that name. send has the contract of Flow.Send.
func NewPeer(name string, send func(data []byte, fail func(error))) *Peer { return &Peer{name, send} }

// Flow is the flow to p; there is one for each Peer. Its protocol is Bus, and it has no addresses.
func (p *Peer) Flow() Flow { return Flow{far: p} }

// Peer is the name of the EdgePort at the other end of a flow of protocol Bus, and empty for the others.
func (f Flow) Peer() string {
	if f.far == nil {
		return ""
	}
	return f.far.name
}
