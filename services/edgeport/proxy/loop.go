package proxy

import (
	"bytes"
	"hash/maphash"

	"github.com/routr-fabric/routr/services/edgeport/message"
	"github.com/routr-fabric/routr/services/edgeport/transaction"
)

// mark is what the way of a request depends on (RFC 5393 4.2.1): the Request-URI, From and To, and the Route as far as
// it is used. It is the second part of the branch of our Via. A request that comes back with one of these changed is a
// spiral, and goes on. What else a processor looks at is not in it: a mark that depended on a header which others change
// on the way would never be found again. Neither is the method, as the branch of a CANCEL is that of its INVITE.
//
// The hash is keyed, so a mark that is found in a Via was put there by this EdgePort, whatever sent-by says beside it:
// there may be many names for us. After a restart a loop takes one lap more.
func (p *Proxy) mark(m *message.Message, r route) transaction.Mark {
	var h maphash.Hash
	h.SetSeed(p.seed)
	part := func(text []byte) {
		_, _ = h.Write(text) // it never fails
		_ = h.WriteByte(0)
	}
	part(m.RequestURI())
	from, _ := m.Get(message.KindFrom)
	part(from)
	to, _ := m.Get(message.KindTo)
	part(to)
	i := 0
	for v := range m.Values(message.KindRoute) {
		if i++; i > r.popped || bytes.IndexByte(v.Text, '@') >= 0 { // one that only names us changes nothing
			part(v.Text)
		}
	}
	return transaction.NewMark(h.Sum64())
}

// looped says whether a request of that mark was here before (RFC 3261 16.3 step 4). Nothing is kept for that.
func looped(m *message.Message, mark transaction.Mark) bool {
	if marked(m.TopVia(), mark) {
		return true
	}
	top := true
	for v := range m.Values(message.KindVia) {
		if top {
			top = false
			continue
		}
		if via, err := message.ParseVia(v.Text); err == nil && marked(&via, mark) { // nobody here has to understand it
			return true
		}
	}
	return false
}

func marked(via *message.Via, mark transaction.Mark) bool {
	m, ok := transaction.MarkOf(via.Branch)
	return ok && m == mark
}
