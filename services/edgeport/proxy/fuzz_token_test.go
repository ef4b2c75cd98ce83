package proxy

import (
	"testing"
)

// FuzzToken reads any text as a token of any dialog: what is not of our making is none, and of what is there is one
// spelling only, good for one Call-ID.
func FuzzToken(f *testing.F) {
	p := newProxy(f)
	callID := []byte("a84b4c76e66710")
	f.Add(string(p.appendToken(nil, token{}, callID)), uint32(0), "", "", "", false, "a84b4c76e66710")
	f.Add("AgAAAAAAAAAAAAAA", uint32(1), "uAAAA", "FLOWFLOWFLOWFLOWFLOW", "edge-1", true, "")
	f.Add("", uint32(0xffffffff), "a", "", "\x00\xff", false, "\x00")
	f.Fuzz(func(t *testing.T, text string, tag uint32, caller, callee, edge string, opens bool, id string) {
		if got, ok := p.readToken([]byte(text), []byte(id)); ok && string(p.appendToken(nil, got, []byte(id))) != text {
			t.Fatalf("readToken(%q) = %+v, which is not how we write it", text, got)
		}
		if len(caller) > 172 || len(callee) > 172 || len(edge) > 64 { // as long as the ID of a flow, and a ref, can be
			return
		}
		in := token{caller: caller, callee: callee, edge: edge, opens: opens}
		if caller != "" || callee != "" {
			in.callerTag = tag
		}
		made := p.appendToken(nil, in, []byte(id))
		if got, ok := p.readToken(made, []byte(id)); !ok || got != in {
			t.Fatalf("readToken of %+v = %+v, %v", in, got, ok)
		}
		if _, ok := p.readToken(made, []byte(id+"x")); ok {
			t.Fatalf("a token for the Call-ID %q is good for %q", id, id+"x")
		}
		// Any other text is none: one letter changed, one more, one less.
		i := int(tag % uint32(len(made)))
		for _, c := range []byte("AB_=\n\r.") {
			other := append([]byte(nil), made...)
			if other[i] == c {
				continue
			}
			other[i] = c
			inserted := append(append(append([]byte(nil), made[:i]...), c), made[i:]...)
			for _, forged := range [][]byte{other, inserted, made[:i]} {
				if got, ok := p.readToken(forged, []byte(id)); ok {
					t.Fatalf("readToken(%q) = %+v, want none: it is %q that was made", forged, got, made)
				}
			}
		}
	})
}
