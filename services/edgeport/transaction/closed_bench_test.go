package transaction

import (
	"testing"

	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// The end of a connection that carries nothing, as that of most does: all shards are asked.
func BenchmarkFlowClosed(b *testing.B) {
	l := New(&recorder{}, DefaultTimers())
	flow := transport.NewPeer("b", nil).Flow()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.FlowClosed(flow)
		}
	})
}
