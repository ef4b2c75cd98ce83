package bus_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
)

// hostileNames have every byte in them, at every place, and what means something to NATS.
func hostileNames() []string {
	names := []string{"", ".", "..", "*", ">", "a.>", "*.>", "$JS.API.>", "$KV.routr_keys.route", "_INBOX.>", "';DROP TABLE", "1001.*", "a b", "a\r\nPUB x 0\r\n"}
	for c := range 256 {
		s := string([]byte{byte(c)})
		names = append(names, s, "a"+s, s+"a", "a"+s+"b")
	}
	return names
}

// A25: whatever a stranger calls himself, his method or his EdgePort is one token of a subject, and the message arrives
// there and nowhere else.
func TestA25SubjectOfEveryByte(t *testing.T) {
	nc := plain(t, bustest.Server(t))
	all, err := nc.SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]string)
	for _, name := range hostileNames() {
		for _, subject := range []string{
			bus.SubjectDispatch(name), bus.SubjectProcess(name, "INVITE"), bus.SubjectProcess("connect", name), bus.SubjectMiddleware(name, name),
			bus.SubjectEdgePort(name), bus.SubjectFlowClosed(name), bus.SubjectDrain(name), bus.SubjectReply(name, name),
		} {
			if err := nc.Publish(subject, []byte(name)); err != nil {
				t.Fatalf("Publish(%q) of name %q = %v", subject, name, err)
			}
			m, err := all.NextMsg(wait)
			if err != nil {
				t.Fatalf("subject %q of name %q: %v", subject, name, err)
			}
			if m.Subject != subject || string(m.Data) != name {
				t.Errorf("name %q arrived as %q on %s, want %s", name, m.Data, m.Subject, subject)
			}
		}
		subject := bus.SubjectDispatch(name)
		if strings.Count(subject, ".") != 3 || strings.ContainsAny(subject, "*> \r\n\x00") {
			t.Errorf("SubjectDispatch(%q) = %q, want one token behind dispatch", name, subject)
		}
		if other, ok := seen[subject]; ok && other != name {
			t.Errorf("SubjectDispatch(%q) = SubjectDispatch(%q)", name, other)
		}
		seen[subject] = name
	}
}

// A25: and so it is one key of a bucket, of its own.
func TestA25KeyOfEveryByte(t *testing.T) {
	js, err := bustest.Connect(t).JetStream()
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "test", Storage: jetstream.MemoryStorage})
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]bool)
	for _, name := range hostileNames() {
		names[name] = true
		if _, err := kv.Put(t.Context(), bus.Token(name), []byte(name)); err != nil {
			t.Fatalf("Put(%q) of name %q = %v", bus.Token(name), name, err)
		}
	}
	for name := range names {
		if e, err := kv.Get(t.Context(), bus.Token(name)); err != nil || string(e.Value()) != name {
			t.Errorf("Get(%q) = %v, %v, want %q", bus.Token(name), e, err, name)
		}
	}
	keys, err := kv.Keys(t.Context())
	if err != nil || len(keys) != len(names) {
		t.Errorf("%s: %d keys, %v, want %d", fmt.Sprint(keys)[:40], len(keys), err, len(names))
	}
}
