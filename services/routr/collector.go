package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// How much garbage there may be before it is collected. A SIP server has a small heap that lives and makes much that is
// short-lived: with Go's default, as much garbage as lives, a third of the CPU time of a REGISTER goes to collecting it
// for the sake of some ten MiB. With four times as much that is little; but a server that holds 100,000 calls would hold
// four times their memory in garbage as well, so there is a bound.
const (
	mostPercent  = 400      // of what lives,
	leastPercent = 50       // at least so much,
	mostGarbage  = 64 << 20 // and else no more than so many bytes
)

// garbagePercent is what GOGC should be while so many bytes live.
func garbagePercent(live uint64) int {
	return int(min(max(mostGarbage*100/max(live, 1), leastPercent), mostPercent))
}

// paceCollector sets GOGC after each collection, from now on.
func paceCollector() {
	debug.SetGCPercent(mostPercent)
	afterCollection(mostPercent)
}

// afterCollection waits for the next collection, which finds that nothing refers to the marker.
func afterCollection(percent int) {
	type marker struct{ _ *marker } // with a pointer, so that it does not share its place with others
	runtime.AddCleanup(new(marker), func(percent int) {
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(live)
		// Setting it stops the world for a moment: not for nothing.
		if want := garbagePercent(live[0].Value.Uint64()); want > percent+percent/8 || want < percent-percent/8 {
			debug.SetGCPercent(want)
			percent = want
		}
		afterCollection(percent)
	}, percent)
}
