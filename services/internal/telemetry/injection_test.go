package telemetry

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// A26: a value with any byte in it, or with 60 KB of them, is one line of at most 256 bytes a value, in which a reader of
// JSON finds the same fields.
func TestA26EveryByte(t *testing.T) {
	var values []string
	for c := range 256 {
		s := string([]byte{byte(c)})
		values = append(values, s, "a"+s+"b", strings.Repeat(s, 60000))
	}
	values = append(values, "a\r\n{\"level\":\"ERROR\"}", "a\nlevel=ERROR msg=x", "\x1b[2J\x1b]0;x\x07", "%s%n%!d", `"," level=ERROR "`, "\u2028\u202e\u0085")
	for _, format := range []string{"text", "json"} {
		var out bytes.Buffer
		log, err := newLogger(Config{LogFormat: format}, &out)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range values {
			out.Reset()
			log.Info("message dropped", "user_agent", v)
			line := oneLine(t, &out)
			if bytes.Count(line, []byte("INFO")) != 1 {
				t.Errorf("%s: the line of %.20q is %s", format, v, line)
			}
			var got map[string]any
			if format == "json" && (json.Unmarshal(line, &got) != nil || len(got) != 4 || got["level"] != "INFO") {
				t.Errorf("the line of %.20q is %s, want 4 fields", v, line)
			}
		}
	}
}
