package message

import (
	"runtime"
	"syscall"
	"testing"
	"time"
)

// A15, A27: what is made to cost time costs next to none. It is the CPU time of this thread that is looked at, which does
// not depend on who else runs: 5 ms a message is ten times what the worst of them takes, and a fortieth of what a header
// of twenty thousand lines took while each was read again for the next one.
func TestHostileTakesNoTime(t *testing.T) {
	const (
		times = 50
		most  = times * 5 * time.Millisecond
	)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, tt := range hostile {
		var m Message
		begin := cpuTime(t)
		for range times {
			_ = m.Parse(tt.in, DefaultLimits())
			for k := range numKinds {
				m.Count(k)
			}
			_, _ = Frame(tt.in)
		}
		if took := cpuTime(t) - begin; took > most {
			t.Errorf("%s: %d of them take %v, want %v at most", tt.name, times, took, most)
		}
	}
}

// cpuTime is the CPU time that this thread has had.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_THREAD, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
