package proxy

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func TestRefusersAreBounded(t *testing.T) {
	var r refusers
	addr := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), uint16(i))
	}
	for i := range 3 * maxRefusers {
		if r.has(addr(i)) {
			t.Fatalf("has(%v) = true, want false: it is not in there yet", addr(i))
		}
		r.add(addr(i))
		r.add(addr(i))
		if !r.has(addr(i)) {
			t.Fatalf("has(%v) = false, want true", addr(i))
		}
	}
	if n := len(r.until); n != maxRefusers {
		t.Errorf("%d addresses are kept, want %d", n, maxRefusers)
	}
}

func TestRefusersAreForgiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r refusers
		addr := netip.MustParseAddrPort("192.0.2.1:5060")
		r.add(addr)
		time.Sleep(refusalTime - time.Nanosecond) // by the bubble's clock
		if !r.has(addr) {
			t.Errorf("has = false a moment before %v, want true", refusalTime)
		}
		time.Sleep(time.Nanosecond)
		if r.has(addr) {
			t.Errorf("has = true after %v, want false", refusalTime)
		}
	})
}
