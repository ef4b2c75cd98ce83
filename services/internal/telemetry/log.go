package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxValue is the length in bytes of the longest attribute value, and message, that a log line holds: a stranger's
// 60 KB User-Agent must not become 60 KB of log.
const maxValue = 256

func newLogger(cfg Config, w io.Writer) (*slog.Logger, error) {
	level := slog.LevelInfo
	switch cfg.LogLevel {
	case "", "info":
	case "debug":
		level = slog.LevelDebug
	case "warn":
		level = slog.LevelWarn
	case "error":
		level = slog.LevelError
	default:
		return nil, fmt.Errorf("log level %q is unknown, want debug, info, warn or error", cfg.LogLevel)
	}
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: boundAttr}
	var h slog.Handler
	switch cfg.LogFormat {
	case "", "text":
		h = slog.NewTextHandler(w, options)
	case "json":
		h = slog.NewJSONHandler(w, options)
	default:
		return nil, fmt.Errorf("log format %q is unknown, want text or json", cfg.LogFormat)
	}
	log := slog.New(h)
	if cfg.Service != "" {
		log = log.With("service", cfg.Service)
	}
	if cfg.Ref != "" {
		log = log.With("ref", cfg.Ref)
	}
	return log, nil
}

// boundAttr makes every value that can hold a stranger's text short and printable. A value that is no string, number,
// time or the like is written as fmt prints it.
func boundAttr(groups []string, a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(bound(a.Value.String()))
	case slog.KindAny:
		if len(groups) == 0 && a.Key == slog.LevelKey {
			break // slog's own; a Level cannot hold text
		}
		a.Value = slog.StringValue(bound(fmt.Sprint(a.Value.Any())))
	}
	return a
}

// bound cuts s to maxValue bytes and escapes what is not printable. The handlers quote line breaks and ASCII control
// characters themselves, but the JSON one passes DEL, the C1 controls, which a terminal obeys, and the marks that turn
// the direction of text.
func bound(s string) string {
	if len(s) > maxValue {
		cut := maxValue - len("…")
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "…"
	}
	if strings.IndexFunc(s, hidden) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if hidden(r) {
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// hidden reports whether r, beyond ASCII control characters, has no glyph of its own.
func hidden(r rune) bool {
	return r == 0x7f || r > 0x7f && !unicode.IsPrint(r)
}
