package processor

import (
	"context"
	"encoding/binary"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
)

// member is one instance of several, which can be reached by a ref of its own.
type member struct {
	t      *testing.T
	conn   *bus.Conn
	ref    string
	digest *Digest
	leave  func()
}

// join runs an instance that answers 200 to those who are who they say.
func join(t *testing.T, conn *bus.Conn, ref string) *member {
	t.Helper()
	m := &member{t: t, conn: conn, ref: ref, digest: newDigest(t, keys{[]byte("shared")}, SHA256)}
	nonces, err := m.digest.ServeNonces(conn)
	if err != nil {
		t.Fatal(err)
	}
	stop := serve(t, conn, ref, func(ctx context.Context, r Request) {
		m.digest.Authenticate(ctx, r, AsServer, realm, users, func(user string, refusal *processorpb.MessageResponse) {
			if refusal != nil {
				r.Reply(refusal)
				return
			}
			r.Respond(200, user)
		})
	})
	m.leave = func() {
		_ = stop()
		if err := nonces.Drain(context.Background()); err != nil {
			t.Error(err)
		}
	}
	return m
}

func (m *member) send(r Request) *processorpb.MessageResponse {
	m.t.Helper()
	answer, err := ask(m.t, m.conn, m.ref, r.MessageRequest)
	if err != nil {
		m.t.Fatalf("process(%s): %v", m.ref, err)
	}
	return answer
}

// says is the answer in a word.
func says(answer *processorpb.MessageResponse) string {
	if answer.GetMessage().GetStatusCode() == 200 {
		return "ok " + answer.Message.ReasonPhrase
	}
	return inAWord("", answer)
}

// D7, D11: a nonce is good at every instance, and each of its counts at one of them, once.
func TestD7D11NonceAtOtherInstances(t *testing.T) {
	bustest.Modes(t, func(t *testing.T, conn *bus.Conn) {
		members := []*member{join(t, conn, "a"), join(t, conn, "b"), join(t, conn, "c")}
		for _, maker := range members {
			challenge := maker.send(attempt{}.request(t))
			for i, step := range []struct {
				at    int
				count int
				want  string
			}{
				{0, 1, "ok 1001"}, {1, 1, "stale"}, {2, 1, "stale"},
				{1, 2, "ok 1001"}, {0, 2, "stale"}, {2, 2, "stale"}, {1, 2, "stale"},
				{2, 9, "ok 1001"}, {0, 8, "stale"}, {0, 10, "ok 1001"},
			} {
				got := says(members[step.at].send(attempt{count: step.count}.answer(t, AsServer, challenge)))
				if got != step.want {
					t.Errorf("nonce of %s, step %d: nc %d at %s = %s, want %s", maker.ref, i, step.count, members[step.at].ref, got, step.want)
				}
			}
			wrong := attempt{count: 20, password: "wrong"}
			for _, m := range members {
				if got := says(m.send(wrong.answer(t, AsServer, challenge))); got != "challenge" {
					t.Errorf("nonce of %s, wrong password at %s = %s, want challenge", maker.ref, m.ref, got)
				}
			}
		}
	})
}

// D7: of the same credentials at all instances at once one is taken.
func TestD7ReplayAtOnce(t *testing.T) {
	conn := bustest.Connect(t)
	members := []*member{join(t, conn, "a"), join(t, conn, "b"), join(t, conn, "c")}
	challenge := members[0].send(attempt{}.request(t))
	r := attempt{}.answer(t, AsServer, challenge)
	var (
		wg      sync.WaitGroup
		answers = make(chan string, 30)
	)
	for i := range cap(answers) {
		wg.Go(func() {
			answer, err := bus.Ask[processorpb.MessageResponse](context.Background(), conn, bus.SubjectProcess(members[i%3].ref, "REGISTER"), r.MessageRequest)
			if err != nil {
				answers <- err.Error()
				return
			}
			answers <- says(answer)
		})
	}
	wg.Wait()
	close(answers)
	got := map[string]int{}
	for a := range answers {
		got[a]++
	}
	if got["ok 1001"] != 1 || got["stale"] != cap(answers)-1 {
		t.Errorf("answers = %v, want ok for one and stale for the rest", got)
	}
}

// D11: the nonces of an instance that is gone are stale, so what was recorded is worth nothing, and whoever has the
// password goes on with the nonce of another.
func TestD11InstanceIsGone(t *testing.T) {
	bustest.Modes(t, func(t *testing.T, conn *bus.Conn) {
		a, b := join(t, conn, "a"), join(t, conn, "b")
		challenge := a.send(attempt{}.request(t))
		if got := says(a.send(attempt{}.answer(t, AsServer, challenge))); got != "ok 1001" {
			t.Fatalf("REGISTER at a = %s, want ok", got)
		}
		a.leave()
		for _, count := range []int{1, 2} {
			again := b.send(attempt{count: count}.answer(t, AsServer, challenge))
			if got := says(again); got != "stale" {
				t.Errorf("nonce of an instance that is gone, nc %d = %s, want stale", count, got)
			}
			if got := says(b.send(attempt{}.answer(t, AsServer, again))); got != "ok 1001" {
				t.Errorf("the new nonce = %s, want ok", got)
			}
		}
	})
}

// An instance that says nothing is as good as gone, and nobody waits for it for long.
func TestInstanceIsSilent(t *testing.T) {
	conn := bustest.Connect(t)
	b := join(t, conn, "b")
	silent := newDigest(t, keys{[]byte("shared")}, SHA256)
	asked := make(chan struct{}, 1)
	s, err := conn.Serve(bus.SubjectNonce(makerText(silent.nonces.maker)), bus.QueueNonce, func(context.Context, *bus.Request) { asked <- struct{}{} }, bus.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	defer func() { _ = s.Drain(ctx) }()
	_, challenge := authenticate(silent, attempt{}.request(t), AsServer, realm, users)
	if got := says(b.send(attempt{}.answer(t, AsServer, challenge))); got != "stale" {
		t.Errorf("nonce of an instance that is silent = %s, want stale", got)
	}
	<-asked
}

// What is no question gets no answer that anybody could act upon.
func TestServeNoncesRefuses(t *testing.T) {
	conn := bustest.Connect(t)
	d := newDigest(t, keys{[]byte("shared")}, SHA256)
	s, err := d.ServeNonces(conn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Drain(context.Background()) }()
	for _, body := range []string{"", "x", strings.Repeat("x", useSize-1), strings.Repeat("x", useSize+1)} {
		done := make(chan error, 1)
		conn.Call(context.Background(), bus.SubjectNonce(makerText(d.nonces.maker)), bus.Raw([]byte(body)), time.Now().Add(5*time.Second),
			func(_ bus.Reply, err error) { done <- err })
		if err := <-done; bus.CodeOf(err) != bus.InvalidArgument {
			t.Errorf("use(%d bytes) = %v, want %s", len(body), err, bus.InvalidArgument)
		}
	}
}

// What a nonce of another instance costs beside one of ours.
func BenchmarkNonceOfAnotherInstance(b *testing.B) {
	for name, connect := range map[string]func(testing.TB) *bus.Conn{"nats": bustest.Connect, "local": bustest.Local} {
		b.Run(name, func(b *testing.B) {
			conn := connect(b)
			d := newDigest(b, keys{[]byte("shared")}, SHA256)
			s, err := d.ServeNonces(conn)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = s.Drain(context.Background()) }()
			r := Request{call: &bus.Request{Deadline: time.Now().Add(time.Hour)}, instance: &instance{conn: conn}}
			answers := make(chan bool, 1)
			n := nonce{3: 1}
			binary.BigEndian.PutUint32(n[4:], d.nonces.maker)
			count := uint32(0)
			b.ReportAllocs()
			for b.Loop() {
				count++
				d.ask(context.Background(), r, &n, count, func(fresh bool) { answers <- fresh })
				if !<-answers {
					b.Fatalf("nc %d was used before, want it to be fresh", count)
				}
			}
		})
	}
}
