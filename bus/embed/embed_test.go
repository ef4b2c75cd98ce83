package embed_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/embed"
)

func TestStartFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, listen, store string
		want                []string
	}{
		{"address in use", taken.Addr().String(), t.TempDir(), []string{taken.Addr().String(), "in use", "choose another"}},
		{"no port", "127.0.0.1", t.TempDir(), []string{"127.0.0.1", "host:port"}},
		{"port is a word", "127.0.0.1:nats", t.TempDir(), []string{"nats", "0 to 65535"}},
		{"port is too big", "127.0.0.1:70000", t.TempDir(), []string{"70000", "0 to 65535"}},
		{"no store", "127.0.0.1:0", "", []string{"store"}},
		{"store is a file", "127.0.0.1:0", file, []string{file}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := embed.Start(embed.Config{Listen: tt.listen, StoreDir: tt.store})
			if err == nil {
				s.Shutdown()
				t.Fatal("Start = nil, want an error")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Start = %v, want one with %q", err, want)
				}
			}
		})
	}
}

func TestRestart(t *testing.T) {
	var log bytes.Buffer
	s, err := embed.Start(embed.Config{
		Listen: "127.0.0.1:0", StoreDir: t.TempDir(), Name: "one",
		Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelInfo})),
	})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(s.URL(), "nats://127.0.0.1:") || strings.HasSuffix(s.URL(), ":0") {
		t.Errorf("URL = %s, want one with the real port", s.URL())
	}
	put(t, s, "kept")
	s.Shutdown()
	s.Shutdown()
	again, err := embed.Start(s.Config())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Shutdown()
	if again.URL() != s.URL() {
		t.Errorf("URL after the restart = %s, want %s", again.URL(), s.URL())
	}
	put(t, again, "kept")
	if log.Len() > 0 {
		t.Errorf("an uneventful life is logged: %s", log.String())
	}
}

// put makes or reads a key, which proves that JetStream works.
func put(t *testing.T, s *embed.Server, name string) {
	t.Helper()
	c, err := bus.Connect(context.Background(), bus.Config{URL: s.URL()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.SharedKeys(t.Context(), name); err != nil {
		t.Fatal(err)
	}
}
