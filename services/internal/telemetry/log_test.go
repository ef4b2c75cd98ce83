package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func logTo(t *testing.T, cfg Config) (*Telemetry, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	tel, err := New(t.Context(), cfg, &out)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() { shutdown(t, tel) })
	return tel, &out
}

func shutdown(t *testing.T, tel *Telemetry) {
	t.Helper()
	if err := tel.Shutdown(context.Background()); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

// hostile is what strangers put into headers to forge log lines or to steer a terminal.
var hostile = []struct{ name, in, want string }{
	{"plain", "Zoiper 5.6", "Zoiper 5.6"},
	{"line break", "a\r\nlevel=ERROR msg=forged", "a\r\nlevel=ERROR msg=forged"},
	{"ansi", "\x1b[2Jboo", "\x1b[2Jboo"},
	{"nul", "a\x00b", "a\x00b"},
	{"del", "a\x7fb", `a\x7fb`},
	{"c1 csi", "a\u009b2Jb", `a\u009b2Jb`},
	{"next line", "a\u0085b", `a\u0085b`},
	{"line separator", "a\u2028b", `a\u2028b`},
	{"right to left", "a\u202egpj.exe", `a\u202egpj.exe`},
	{"format verb", "%s%n%d", "%s%n%d"},
	{"quote", `","level":"ERROR`, `","level":"ERROR`},
	{"umlaut", "Jürgen", "Jürgen"},
	{"255", strings.Repeat("x", 255), strings.Repeat("x", 255)},
	{"256", strings.Repeat("x", 256), strings.Repeat("x", 256)},
	{"60 KB", strings.Repeat("x", 60000), strings.Repeat("x", 253) + "…"},
	{"cut inside a rune", "x" + strings.Repeat("ü", 200), "x" + strings.Repeat("ü", 126) + "…"},
}

func TestLogJSON(t *testing.T) {
	for _, tt := range hostile {
		t.Run(tt.name, func(t *testing.T) {
			tel, out := logTo(t, Config{Service: "edgeport", Ref: "e1", LogFormat: "json"})
			tel.Log.With("with", tt.in).WithGroup("sip").Info("message dropped", "user_agent", tt.in, "error", errors.New(tt.in))
			line := oneLine(t, out)
			var got struct {
				Level, Msg, Service, Ref, With string
				SIP                            struct {
					UserAgent string `json:"user_agent"`
					Error     string
				}
			}
			if err := json.Unmarshal(line, &got); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			if got.Level != "INFO" || got.Msg != "message dropped" || got.Service != "edgeport" || got.Ref != "e1" {
				t.Errorf("line = %s, want level INFO, msg, service and ref as logged", line)
			}
			for where, value := range map[string]string{"With": got.With, "attribute": got.SIP.UserAgent, "error": got.SIP.Error} {
				if value != tt.want {
					t.Errorf("%s = %q, want %q", where, value, tt.want)
				}
			}
		})
	}
}

func TestLogText(t *testing.T) {
	for _, tt := range hostile {
		t.Run(tt.name, func(t *testing.T) {
			tel, out := logTo(t, Config{})
			tel.Log.Info("message dropped", "user_agent", tt.in, "raw", []byte(tt.in), "list", []string{tt.in})
			line := string(oneLine(t, out))
			if want := ` level=INFO msg="message dropped" user_agent=`; !strings.Contains(line, want) {
				t.Errorf("line = %s, want it to hold %s", line, want)
			}
		})
	}
}

// oneLine checks that out is one line of printable characters and not long.
func oneLine(t *testing.T, out *bytes.Buffer) []byte {
	t.Helper()
	line, found := bytes.CutSuffix(out.Bytes(), []byte("\n"))
	if !found {
		t.Fatalf("log = %q, want a line", line)
	}
	if !utf8.Valid(line) || bytes.IndexFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 {
		t.Errorf("line = %q, want printable characters only", line)
	}
	if max := 3*6*maxValue + 256; len(line) > max {
		t.Errorf("line has %d bytes, want at most %d", len(line), max)
	}
	return line
}

func FuzzLog(f *testing.F) {
	for _, tt := range hostile {
		f.Add(tt.in)
	}
	f.Add("\xff\xfe")
	f.Fuzz(func(t *testing.T, in string) {
		for _, format := range []string{"text", "json"} {
			var out bytes.Buffer
			log, err := newLogger(Config{LogFormat: format}, &out)
			if err != nil {
				t.Fatal(err)
			}
			log.Info("message dropped", "user_agent", in)
			oneLine(t, &out)
		}
	})
}

func TestLogLevel(t *testing.T) {
	tests := []struct {
		level string
		want  int // lines of the four below
	}{{"debug", 4}, {"", 3}, {"info", 3}, {"warn", 2}, {"error", 1}}
	for _, tt := range tests {
		tel, out := logTo(t, Config{LogLevel: tt.level})
		tel.Log.Debug("one")
		tel.Log.Info("one")
		tel.Log.Warn("one")
		tel.Log.Error("one")
		if got := bytes.Count(out.Bytes(), []byte("\n")); got != tt.want {
			t.Errorf("LogLevel %q wrote %d lines, want %d", tt.level, got, tt.want)
		}
	}
}

func BenchmarkLog(b *testing.B) {
	var out bytes.Buffer
	log, err := newLogger(Config{LogFormat: "json"}, &out)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		out.Reset()
		log.Info("request", "call_id", "3848276298220188511@pc33.example.com", "method", "INVITE")
	}
}
