package message

import (
	"bytes"
	"net/netip"
	"testing"
)

func FuzzParse(f *testing.F) {
	for _, data := range torture(f) {
		f.Add(data)
	}
	for _, name := range []string{"invite.sip", "register.sip", "invite.407.sip", "invite.forward.sip"} {
		f.Add(read(f, name))
	}
	f.Add([]byte("MESSAGE sip:a SIP/2.0\r\nv: SIP/2.0/UDP a\r\nf: <sip:a>\r\nt: <sip:a>\r\ni: 1\r\nCSeq: 1 MESSAGE\r\nX:\r\n \r\n\t,\r\n\r\n"))
	var m Message
	var e Edit
	f.Fuzz(func(t *testing.T, data []byte) {
		err := m.Parse(data, DefaultLimits())
		use(t, &m)
		if m.Answerable() {
			checkResponse(t, &m)
		}
		if err != nil {
			return
		}
		e.Reset(&m)
		if got := e.Append(nil); !bytes.Equal(got, m.Bytes()) {
			t.Fatalf("written unedited:\n%q\nwant\n%q", got, m.Bytes())
		}
		// What our edits make of a message is a message.
		e.SetRequestURI([]byte("sip:a@b"))
		e.SetMaxForwards(5)
		e.SetContentLength()
		i := 0
		for k := KindVia; k < numKinds; k++ {
			for v := range m.Values(k) {
				if i++; k != KindVia && k.List() && i%2 == 0 {
					e.RemoveValue(v)
				} else if k == KindContact {
					e.ReplaceValue(v, data[:min(len(data), 20)])
				}
			}
		}
		via := AppendVia(nil, m.TopVia(), netip.IPv6Loopback(), 5060)
		for v := range m.Values(KindVia) {
			e.ReplaceValue(v, via)
			break
		}
		e.AppendHeader("X-A", data)
		out := e.Append(nil)
		if len(out) > MaxSize {
			return
		}
		var again Message
		if err := again.Parse(out, DefaultLimits()); err != nil && again.Count(KindContact) == m.Count(KindContact) {
			t.Fatalf("Parse of what was edited = %v:\n%q", err, out)
		} else if err == nil && (string(again.CallID()) != string(m.CallID()) || string(again.FromTag()) != string(m.FromTag())) {
			t.Fatalf("edited into another message:\n%q", out)
		}
		c := m.Clone()
		use(t, c)
		if !bytes.Equal(c.Bytes(), m.Bytes()) || !bytes.Equal(c.TopVia().Branch, m.TopVia().Branch) {
			t.Fatal("Clone differs")
		}
		if rest := AppendAnswerable(nil, &m); m.IsRequest() && len(rest) <= MaxSize {
			var kept Message
			if err := kept.Parse(rest, DefaultLimits()); err != nil {
				t.Fatalf("Parse of what can be answered = %v:\n%q", err, rest)
			}
			for _, r := range []Response{{Status: 100}, {Status: 487, ToTag: "a", TopVia: via}} {
				if got, want := AppendResponse(nil, &kept, &r), AppendResponse(nil, &m, &r); !bytes.Equal(got, want) {
					t.Fatalf("the response to what is kept is\n%q\nwant\n%q", got, want)
				}
			}
		}
		if m.IsRequest() && m.Method() == INVITE {
			var ack Message
			if err := ack.Parse(AppendAck(nil, &m, &m), DefaultLimits()); err != nil {
				t.Fatalf("ACK is refused: %v", err)
			}
		}
	})
}

// use calls what reads a message.
func use(t *testing.T, m *Message) {
	t.Helper()
	m.CSeq()
	m.MaxForwards()
	if n := len(m.MethodText()) + len(m.RequestURI()) + len(m.ReasonText()); n > len(m.Bytes()) {
		t.Fatalf("start line of %d bytes in %d", n, len(m.Bytes()))
	}
	for i := range m.Len() {
		k, name, value := m.Header(i)
		if k == KindContact || k == KindRoute {
			_, _ = ParseNameAddr(value) // it must not panic
		}
		if j, ok := m.FindName(string(name)); !ok || j > i {
			t.Fatalf("FindName(%q) = %d, %v, want at most %d", name, j, ok, i)
		}
	}
	for k := range numKinds {
		n := 0
		for v := range m.Values(k) {
			if h, _, value := m.Header(v.Header()); h != k || !bytes.Contains(value, v.Text) {
				t.Fatalf("value %q of %v in %q", v.Text, h, value)
			}
			n++
		}
		if n != m.Count(k) {
			t.Fatalf("Count(%v) = %d, want %d", k, m.Count(k), n)
		}
	}
}

func FuzzFrame(f *testing.F) {
	for _, data := range torture(f) {
		f.Add(data, 7)
	}
	f.Add([]byte("\r\n\r\nSIP/2.0 200 OK\r\nl:\r\n 0\r\n\r\n"), 1)
	f.Fuzz(func(t *testing.T, data []byte, step int) {
		want, wantErr := Frame(data)
		if want < 0 || want > len(data) || want > 0 && wantErr != nil {
			t.Fatalf("Frame = %d, %v of %d", want, wantErr, len(data))
		}
		// In pieces it is the same: but for an error, which may come early.
		var fr Framer
		step = 1 + min(max(0, step), 100)
		for i := 0; ; i = min(i+step, len(data)) {
			n, err := fr.Next(data[:i])
			if err != nil {
				if wantErr == nil {
					t.Fatalf("Next of %d bytes = %v, Frame = %d", i, err, want)
				}
				break
			}
			if n > 0 {
				if n != want {
					t.Fatalf("Next = %d, Frame = %d", n, want)
				}
				break
			}
			if i == len(data) {
				if want != 0 || wantErr != nil {
					t.Fatalf("Next of all = 0, Frame = %d, %v", want, wantErr)
				}
				break
			}
		}
		if want > 0 {
			// Parse finds the same end, or refuses.
			var m Message
			if err := m.Parse(data[:want], DefaultLimits()); err == nil {
				if got := bytes.TrimLeft(data[:want], "\r\n"); !bytes.Equal(m.Bytes(), got) {
					t.Fatalf("Parse read %d bytes, Frame %d", len(m.Bytes()), len(got))
				}
			}
		}
	})
}

func FuzzVia(f *testing.F) {
	f.Add([]byte("SIP / 2.0 /UDP [2001:db8::1] : 5060 ; branch = z9hG4bK1;rport;received=\"x\";ttl=1;maddr=a"))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := ParseVia(data)
		if err != nil {
			return
		}
		out := AppendVia(nil, &v, netip.IPv6LinkLocalAllNodes(), 5060)
		w, err := ParseVia(out)
		if err != nil {
			t.Fatalf("ParseVia(%q) = %v, made of %q", out, err, data)
		}
		if !bytes.Equal(w.Branch, v.Branch) || !bytes.Equal(w.SentBy(), v.SentBy()) || !bytes.Equal(w.Maddr, v.Maddr) {
			t.Fatalf("%q became %q", data, out)
		}
		if string(w.Received) != "ff02::1" || w.HasRPort != v.HasRPort || v.HasRPort && w.RPort != 5060 {
			t.Fatalf("received = %q, rport = %d of %q", w.Received, w.RPort, out)
		}
	})
}

func FuzzURI(f *testing.F) {
	f.Add([]byte("sip:a%40b:c@[2001:db8::1]:5060;lr;transport=tcp?a=b&c=d"))
	f.Add([]byte("tel:+1;x=y"))
	f.Fuzz(func(t *testing.T, data []byte) {
		u, err := ParseURI(data)
		if err != nil {
			return
		}
		if !u.Equal(&u) && !repeats(&u) {
			t.Fatalf("%q is not equal to itself", data)
		}
		if u.SIP() && (len(u.Host) == 0 || len(u.HostText()) < len(u.Host)) {
			t.Fatalf("%q: host %q", data, u.Host)
		}
		u.Param("transport")
	})
}

// repeats says whether a parameter has two values, with which a URI equals nothing.
func repeats(u *URI) bool {
	for p := range u.All() {
		for q := range u.All() {
			if equalEscaped(p.Name, q.Name, true) && !equalEscaped(p.Value, q.Value, true) {
				return true
			}
		}
	}
	return false
}

func FuzzNameAddr(f *testing.F) {
	f.Add([]byte("\"a\\\"b\" <sip:a@b>;tag=1;x=\"y\""))
	f.Add([]byte("sip:a@b ; tag = 1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := ParseNameAddr(data)
		if err != nil {
			return
		}
		if len(a.URI) == 0 || bytes.ContainsAny(a.URI, " <>\"\r\n\x00") {
			t.Fatalf("URI = %q of %q", a.URI, data)
		}
		tag, ok := a.Param("tag")
		if !bytes.Equal(tag, a.Tag) || ok != (a.Tag != nil) {
			t.Fatalf("Param(tag) = %q, Tag = %q", tag, a.Tag)
		}
		for p := range a.All() {
			if !bytes.Contains(p.Text, p.Name) || !bytes.Contains(p.Text, p.Value) {
				t.Fatalf("parameter %q = %q of %q", p.Name, p.Value, p.Text)
			}
		}
		// In brackets it is the same address.
		b, err := ParseNameAddr([]byte("<" + string(a.URI) + ">" + string(a.Params)))
		if !a.Wildcard() && (err != nil || !bytes.Equal(a.URI, b.URI) || !bytes.Equal(a.Tag, b.Tag)) {
			t.Fatalf("%q in brackets = %v %q", data, err, b.URI)
		}
	})
}
