package message

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// torture are the messages of RFC 4475, byte for byte, as the module that we use for user agents in tests carries them.
func torture(t testing.TB) map[string][]byte {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/emiago/sipgo").Output()
	if err != nil {
		t.Fatalf("go list -m github.com/emiago/sipgo: %v", err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "sip/testdata/torture/*/*.dat"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no torture messages: %v", err)
	}
	messages := make(map[string][]byte, len(files))
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		messages[strings.TrimSuffix(filepath.Base(f), ".dat")] = data
	}
	return messages
}

// What Parse makes of each message over UDP: the status of the error, 0 for none; whether a refused request can be
// answered. frame is the length that a Framer finds, -1 for an error, 0 if it waits for more.
func TestParseTorture(t *testing.T) {
	const all = 1 << 20 // as long as the file
	tests := []struct {
		name   string
		status int
		answer bool
		frame  int
	}{
		// 3.1.1 valid
		{"wsinv", 0, true, all},
		{"intmeth", 0, true, all},
		{"esc01", 0, true, all},
		{"escnull", 0, true, all},
		{"esc02", 0, true, all},
		{"lwsdisp", 0, true, all},
		{"longreq", 0, true, all},
		{"dblreq", 0, true, 300},
		{"semiuri", 0, true, all},
		{"transports", 0, true, all},
		{"mpart01", 0, true, all},
		{"unreason", 0, false, all},
		{"noreason", 0, false, all},
		// 3.1.2 invalid
		{"badinv01", 400, false, all},
		{"clerr", 400, true, 0},
		{"ncl", 400, true, -1},
		{"scalar02", 400, true, all},
		{"scalarlg", 400, false, all},
		{"quotbal", 400, false, all},
		{"ltgtruri", 400, true, all},
		{"lwsruri", 400, true, all},
		{"lwsstart", 400, true, all},
		{"trws", 400, false, -1},
		{"escruri", 400, true, all},
		{"baddate", 0, true, all},
		{"regbadct", 0, true, all}, // the Contact is the registrar's: see TestParseNameAddr
		{"badaspec", 400, false, all},
		{"baddn", 400, false, 0}, // it ends without an empty line
		{"badvers", 505, true, all},
		{"mismatch01", 400, true, all},
		{"mismatch02", 400, true, all},
		{"bigcode", 400, false, -1},
		// 3.2 to 3.4
		{"badbranch", 0, true, all},
		{"insuf", 400, false, all},
		{"unkscm", 0, true, all}, // 416 is the proxy's
		{"novelsc", 0, true, all},
		{"unksm2", 0, true, all},
		{"bext01", 0, true, all},
		{"invut", 0, true, all},
		{"regaut01", 0, true, all},
		{"multi01", 400, false, all},
		{"mcl01", 400, false, -1},
		{"bcast", 0, false, all},
		{"zeromf", 0, true, all},
		{"cparam01", 0, true, all},
		{"cparam02", 0, true, all},
		{"regescrt", 0, true, all},
		{"sdp01", 0, true, all},
		{"inv2543", 0, true, -1}, // no Content-Length: a stream cannot carry it
		{"test", 400, false, -1}, // not a message, but in the archive
	}
	messages := torture(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			data, ok := messages[tt.name]
			if !ok {
				t.Fatalf("%s is not in the archive", tt.name)
			}
			delete(messages, tt.name)
			var m Message
			err := m.Parse(data, DefaultLimits())
			if got := statusOf(err); got != tt.status {
				t.Errorf("Parse = %v, want %d", err, tt.status)
			}
			if got := m.Answerable(); got != tt.answer {
				t.Errorf("Answerable = %v, want %v", got, tt.answer)
			}
			if tt.answer {
				checkResponse(t, &m)
			}
			n, err := Frame(data)
			if tt.frame == all {
				tt.frame = len(data)
			}
			if err != nil {
				n = -1
			}
			if n != tt.frame {
				t.Errorf("Frame = %d, %v, want %d", n, err, tt.frame)
			}
		})
	}
	for name := range messages {
		t.Errorf("%s of the archive has no row in the table", name)
	}
}

func statusOf(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}

// checkResponse says whether the response to m is a message.
func checkResponse(t *testing.T, m *Message) {
	t.Helper()
	text := AppendResponse(nil, m, &Response{Status: 400, ToTag: "1"})
	var r Message
	err := r.Parse(text, DefaultLimits())
	if cseq, _ := m.Get(KindCSeq); err != nil && m.cseqText.to > 0 {
		t.Errorf("response to CSeq %q = %v, want nil:\n%s", cseq, err, text)
	}
	if len(r.ToTag()) == 0 && err == nil {
		t.Errorf("response has no To tag:\n%s", text)
	}
}

func TestTortureIsUnderstood(t *testing.T) {
	messages := torture(t)
	m := new(Message)
	if err := m.Parse(messages["wsinv"], DefaultLimits()); err != nil {
		t.Fatal(err)
	}
	cseq, method := m.CSeq()
	forwards, _ := m.MaxForwards()
	subject, hasSubject := m.Get(KindSubject)
	var vias []string
	for v := range m.Values(KindVia) {
		via, err := ParseVia(v.Text)
		if err != nil {
			t.Fatalf("ParseVia(%q) = %v", v.Text, err)
		}
		vias = append(vias, string(via.Transport)+" "+string(via.Host)+" "+string(via.Branch))
	}
	got := []any{string(m.ToTag()), string(m.FromTag()), cseq, string(method), forwards, string(subject), hasSubject, vias, m.Count(KindRoute)}
	want := []any{"1918181833n", "98asjd8", uint32(9), "INVITE", 68, "", true,
		[]string{"UDP 192.0.2.2 390skdjuw", "TCP spindle.example.com z9hG4bK9ikj8", "UDP 192.168.255.111 z9hG4bK30239"}, 1}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("wsinv (-want +got):\n%s", d)
	}

	if err := m.Parse(messages["intmeth"], DefaultLimits()); err != nil {
		t.Fatal(err)
	}
	if got, want := string(m.MethodText()), "!interesting-Method0123456789_*+`.%indeed'~"; got != want || m.Method() != MethodOther {
		t.Errorf("intmeth: method = %v %q, want %q", m.Method(), got, want)
	}
	if got, want := string(m.FromTag()), "_token~1'+`*%!-."; got != want {
		t.Errorf("intmeth: From tag = %q, want %q", got, want)
	}

	if err := m.Parse(messages["semiuri"], DefaultLimits()); err != nil {
		t.Fatal(err)
	}
	u, err := ParseURI(m.RequestURI())
	if got, want := string(u.User), "user;par=u%40example.net"; got != want || err != nil {
		t.Errorf("semiuri: user = %q, %v, want %q", got, err, want)
	}
}
