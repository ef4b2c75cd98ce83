package transaction

import "time"

// ackTime, in T1, is how long the ACK to a 2xx is waited for: it belongs to no transaction, and the callee has sent the
// 2xx three times by then, should one of the two have got lost.
const ackTime = 4

// Pending is how many transactions still matter to those who take part: such as have no final response, and INVITEs whose
// 2xx went by so lately, within 4*T1, that its ACK may be on its way. What only absorbs retransmissions, and a final
// response that nobody acknowledges, is not counted: a stranger could make it last. It looks at every transaction, and is
// for who wants to stop.
func (l *Layer) Pending() int {
	n := 0
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		for _, tx := range s.servers {
			if tx.state == proceeding || tx.state == accepted && s.wheel.now < tx.end-l.t64+ackTime*l.t1 {
				n++
			}
		}
		for _, tx := range s.clients {
			if tx.state < completed {
				n++
			}
		}
		s.mu.Unlock()
	}
	return n
}

// Lag is how long Run has not got through all transactions. It is a tick or two, unless the process does not get to run,
// or a lock is never released. Before Run has begun it says nothing.
func (l *Layer) Lag() time.Duration {
	looked := l.looked.Load() // first: so it is never ahead of l.now
	return time.Duration(l.now()-looked) * tick
}
