package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestGarbagePercent(t *testing.T) {
	tests := []struct {
		name string
		live uint64
		want int
	}{
		{"nothing", 0, 400},
		{"idle", 10 << 20, 400},
		{"where the bound begins", 16 << 20, 400},
		{"busy", 32 << 20, 200},
		{"as much as lives", 64 << 20, 100},
		{"where the bound ends", 128 << 20, 50},
		{"100 GiB", 100 << 30, 50},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := garbagePercent(tt.live); got != tt.want {
				t.Errorf("garbagePercent(%d) = %d, want %d", tt.live, got, tt.want)
			}
		})
	}
}

// The collector is paced anew when much more lives, and when it is gone.
func TestPaceCollector(t *testing.T) {
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	paceCollector()
	within := func(what string, from, to uint64) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; runtime.Gosched() {
			runtime.GC()
			percent := []metrics.Sample{{Name: "/gc/gogc:percent"}}
			metrics.Read(percent)
			if got := percent[0].Value.Uint64(); from <= got && got <= to {
				return
			} else if time.Now().After(deadline) {
				t.Fatalf("%s: GOGC = %d, want %d to %d", what, got, from, to)
			}
		}
	}
	within("at first", mostPercent, mostPercent)
	ballast := make([]byte, 100<<20)
	within("with 100 MiB", leastPercent, 70)
	runtime.KeepAlive(ballast)
	within("without them", 300, mostPercent)
}
