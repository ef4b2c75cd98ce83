package proxy

import "github.com/routr-fabric/routr/services/edgeport/message"

// maxBreadth is how many branches a request may have at a time, in all the proxies on its way together (RFC 5393 5.3.2).
const maxBreadth = 60

// breadthOf is how many branches a request may still have from here on: what its Max-Breadth says, and no more than
// maxBreadth. One that is no number says as little as none.
func breadthOf(m *message.Message) int {
	value, ok := m.Get(message.KindMaxBreadth)
	if !ok || len(value) == 0 {
		return maxBreadth
	}
	n := 0
	for _, c := range value {
		if c < '0' || c > '9' {
			return maxBreadth
		}
		n = min(10*n+int(c-'0'), maxBreadth)
	}
	return n
}

// split is the share of branch i when the breadth of a request goes to that many branches at a time: what is left over
// goes to the first ones. Where no branch shall get 0 there have to be no more of them than there is breadth.
func split(breadth, branches, i int) int {
	share := breadth / branches
	if i < breadth%branches {
		share++
	}
	return share
}
