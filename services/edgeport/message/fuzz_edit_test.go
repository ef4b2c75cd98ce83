package message

import (
	"bytes"
	"strings"
	"testing"
)

// FuzzEdit makes any patches on any message. No patch adds a line but the ones that are there for it, whatever stands in
// its text; what no patch is about leaves byte for byte; the body is the one that was asked for.
//
// A script is patches of an opcode, an index, a length, and a text of that length.
func FuzzEdit(f *testing.F) {
	for _, name := range []string{"invite.sip", "register.sip", "invite.forward.sip"} {
		f.Add(read(f, name), []byte("\x00\x00\x05sip:a\x01\x01\x03a,b\x02\x00\x06\r\nX: y\x03\x05\x00\x04\x06\x03a\nb"))
		f.Add(read(f, name), []byte("\x05\x01\x00\x05\x02\x04a\r\n \x06\x01\x00\x06\x02\x00\x07\x05\x00\x08\x00\x02hi"))
	}
	f.Add(base("", "Route: <sip:a;lr>,, <sip:b;lr>\r\n\t,<sip:c;lr> ,", "Allow:"), []byte("\x05\x06\x02\r\n\x05\x46\x01\n\x06\x86\x00\x06\xc6\x00"))
	var m Message
	var e Edit
	f.Fuzz(func(t *testing.T, data, script []byte) {
		if len(script) > 600 || m.Parse(data, DefaultLimits()) != nil {
			return
		}
		e.Reset(&m)
		touched := make([]bool, m.Len())
		lines := map[string]int{} // what may be there
		for i := range m.Len() {
			_, name, _ := m.Header(i)
			lines[string(name)]++
		}
		body := m.Body()
		set := func(k Kind) {
			if i, ok := m.Find(k); ok {
				touched[i] = true
			} else {
				lines[k.String()]++
			}
		}
		for len(script) >= 3 {
			code, n, size := script[0]%9, int(script[1]), min(int(script[2]), len(script)-3)
			text := script[3 : 3+size]
			script = script[3+size:]
			i := n % m.Len()
			switch code {
			case 0:
				e.SetRequestURI(text)
			case 1:
				k := 1 + Kind(n)%(numKinds-1)
				e.InsertTop(k, text)
				lines[k.String()]++
			case 2:
				e.AppendHeader("X-Patch", text)
				lines["X-Patch"]++
			case 3:
				e.RemoveHeader(i)
				touched[i] = true
			case 4:
				e.SetHeader(i, text)
				touched[i] = true
			case 5, 6:
				which := n / m.Len()
				for v := range m.ValuesOf(i) {
					if which--; which >= 0 {
						continue
					}
					touched[i] = true
					if code == 5 {
						e.ReplaceValue(v, text)
					} else {
						e.RemoveValue(v)
					}
					break
				}
			case 7:
				e.SetMaxForwards(n)
				set(KindMaxForwards)
			case 8:
				e.SetBody(text)
				body = text
				set(KindContentLength)
			}
		}
		out := e.Append(nil)
		head, rest, ok := bytes.Cut(out, []byte("\r\n\r\n"))
		if !ok || !bytes.Equal(rest, body) {
			t.Fatalf("the body is %q, want %q:\n%q", rest, body, out)
		}
		if bytes.Count(head, []byte{'\n'}) != bytes.Count(head, []byte("\r\n")) || bytes.Count(head, []byte{'\r'}) != bytes.Count(head, []byte("\r\n")) {
			t.Fatalf("a CR or LF alone:\n%q", out)
		}
		for _, line := range strings.Split(string(head), "\r\n")[1:] {
			if isBlank(line[0]) {
				continue
			}
			name, _, _ := strings.Cut(line, ":")
			name = strings.TrimRight(name, " \t")
			if lines[name]--; lines[name] < 0 {
				t.Fatalf("%q is a line that no patch asked for:\n%q", line, out)
			}
		}
		for i, h := range m.headers {
			if !touched[i] && !bytes.Contains(out, m.data[h.start:h.next]) {
				t.Fatalf("%q is not there any more:\n%q", m.data[h.start:h.next], out)
			}
		}
	})
}
