package e2e_test

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestSIPVicious lets SIPVicious look for servers: it finds one that takes this machine for a friend, and none where it
// is a stranger, though phones call each other there.
func TestSIPVicious(t *testing.T) {
	t.Parallel()
	const nothing = "found nothing"
	if friend := startOne(t); strings.Contains(svmap(t, "OPTIONS", friend.host), nothing) {
		t.Errorf("svmap OPTIONS to who lets it found nothing, want that it works")
	}
	s := newSystem()
	s.run(t, "one", s.one(t, fmt.Sprintf(edgeportYAML, s.host)+"  guard: {allow: []}\n", strings.TrimPrefix(s.nats, "nats://"))...)
	for _, method := range []string{"OPTIONS", "REGISTER", "INVITE"} {
		t.Run("A1 svmap "+method, func(t *testing.T) {
			if out := svmap(t, method, s.host); !strings.Contains(out, nothing) {
				t.Errorf("svmap said\n%s\nwant that it found nothing", out)
			}
		})
	}
	alice, bob := s.phone(t, "udp"), s.phone(t, "udp")
	alice.register(t)
	bob.register(t)
	call(t, alice, bob)
}

// svmap asks host whether it is a SIP server, and returns what it says.
func svmap(t *testing.T, method, host string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	own := hosts.next()
	cmd := exec.CommandContext(ctx, "svmap", "-v", "-b", own, "-x", own, "-m", method, "-p", sipPort, host)
	cmd.Dir, cmd.Env = t.TempDir(), append(cmd.Environ(), "HOME="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return string(out)
}
