package transaction

import (
	"testing"

	"github.com/routr-fabric/routr/services/edgeport/transport"
)

type stowaway struct {
	rider
	ended int
}

func (p *stowaway) flowClosed()  { p.ended++ }
func (p *stowaway) flowRenewed() {}

// A list stays whole whichever of its riders leaves, and is forgotten with the last one.
func TestRiders(t *testing.T) {
	flow := transport.NewPeer("b", nil).Flow()
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}, {1, 2, 0}, {0, 2, 1}, {2, 0, 1}} {
		list := riders{}
		var all [3]*stowaway
		for i := range all {
			all[i] = &stowaway{rider: rider{flow: flow}}
			all[i].owner = all[i]
			list.board(&all[i].rider)
		}
		for left, i := range order {
			list.leave(&all[i].rider)
			list.leave(&all[i].rider) // twice is no harm
			n := 0
			for r := list[flow]; r != nil; r = r.next {
				n++
			}
			if n != 2-left {
				t.Errorf("%v: %d riders after %d left, want %d", order, n, left+1, 2-left)
			}
		}
		if len(list) != 0 {
			t.Errorf("%v: %d lists, want none", order, len(list))
		}
	}
	list := riders{}
	list.board(&rider{flow: transport.Flow{}})
	if len(list) != 0 {
		t.Error("a UDP flow has a list, want none, as nothing would end it")
	}
}
