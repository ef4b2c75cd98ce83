package processor

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
)

const (
	owner    = "192.0.2.1"
	attacker = "198.51.100.66"
)

// guesser is someone at an address who tries passwords.
type guesser struct {
	t      *testing.T
	digest *Digest
	at     string
}

// try answers a fresh challenge with a password and says whether the password was looked at.
func (g guesser) try(user, password string) (looked bool, got string) {
	g.t.Helper()
	before := g.digest.Offences().HeldBack
	a := attempt{source: g.at, user: user, password: password}
	_, challenge := authenticate(g.digest, a.request(g.t), AsServer, realm, users)
	got = inAWord(authenticate(g.digest, a.answer(g.t, AsServer, challenge), AsServer, realm, users))
	return g.digest.Offences().HeldBack == before, got
}

// exhaust tries until a password is not looked at.
func (g guesser) exhaust(user string) {
	g.t.Helper()
	for range networkBurst + 1 {
		if looked, _ := g.try(user, "guess"); !looked {
			return
		}
	}
	g.t.Errorf("%d wrong passwords at once were looked at, want at most %d", networkBurst+1, networkBurst)
}

func (g guesser) mustBeIn(when string) {
	g.t.Helper()
	if _, got := g.try("1001", "correct horse"); got != "ok 1001" {
		g.t.Errorf("Authenticate(1001 at %s, %s) = %s, want ok", g.at, when, got)
	}
}

// A3: of the thousand passwords that somebody tries in a minute at most 20 are looked at, and the owner stays in.
func TestA3OneGuesser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDigest(t, keys{[]byte("key")}, SHA256)
		home, thief := guesser{t, d, owner}, guesser{t, d, attacker}
		home.mustBeIn("before")
		for minute, most := range []int{7, 3, 3} {
			looked := 0
			for i := range 1000 {
				if yes, got := thief.try("1001", fmt.Sprint("guess", minute, i)); got != "challenge" {
					t.Fatalf("Authenticate(guess) = %s, want challenge", got)
				} else if yes {
					looked++
				}
				time.Sleep(time.Minute / 1000) // in the bubble's own time
			}
			if looked == 0 || looked > most {
				t.Errorf("minute %d: %d of 1,000 passwords were looked at, want 1 to %d", minute, looked, most)
			}
			home.mustBeIn("under attack")
			guesser{t, d, "203.0.113.5"}.mustBeIn("under attack by one")
		}
		thief.exhaust("1001")
		// The right one is none of his any more, and looks like a wrong one.
		if looked, got := thief.try("1001", "correct horse"); looked || got != "challenge" {
			t.Errorf("Authenticate(right password after 1,000 wrong ones) = %s, looked at %t, want challenge, false", got, looked)
		}
		// Whoever tries many accounts gets no further.
		looked := 0
		for i := range 1000 {
			if yes, _ := thief.try(fmt.Sprint("10", i%100+2), "guess"); yes {
				looked++
			}
			time.Sleep(time.Minute / 1000)
		}
		if looked == 0 || looked > 20 {
			t.Errorf("%d of 1,000 passwords of many accounts were looked at in a minute, want 1 to 20", looked)
		}
		time.Sleep(2 * time.Minute)
		thief.mustBeIn("two minutes later")
	})
}

// A3: many who guess at one account share what it allows, and the owner stays in where they have been before.
func TestA3ManyGuessers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDigest(t, keys{[]byte("key")}, SHA256)
		home := guesser{t, d, owner}
		home.mustBeIn("before")
		looked := 0
		for i := range 2000 {
			if yes, _ := (guesser{t, d, fmt.Sprintf("198.51.%d.%d", i/200, i%200)}).try("1001", "guess"); yes {
				looked++
			}
			time.Sleep(time.Minute / 2000)
		}
		if looked == 0 || looked > 60 {
			t.Errorf("%d of 2,000 passwords were looked at in a minute, want 1 to 60", looked)
		}
		home.mustBeIn("under attack")
		guesser{t, d, "198.51.100.250"}.exhaust("1001")
		if looked, _ := (guesser{t, d, "203.0.113.5"}).try("1001", "correct horse"); looked {
			t.Error("a network that the account was never used from got a try, want none left")
		}
		if looked, _ := (guesser{t, d, "203.0.113.5"}).try("1002", "guess"); !looked {
			t.Error("a try of an account that nobody attacks was not looked at")
		}
		// The owner mistypes: even at home that is bounded.
		looked = 0
		for range 100 {
			if yes, _ := home.try("1001", "mistyped"); yes {
				looked++
			}
		}
		if looked != networkBurst {
			t.Errorf("%d of 100 passwords of a known network were looked at, want %d", looked, networkBurst)
		}
	})
}

// A3, D15: who is held back gets the answer to a wrong password, byte by byte.
func TestA3HeldBackLooksLikeWrongPassword(t *testing.T) {
	d := newDigest(t, keys{[]byte("key")}, SHA256, MD5)
	_, challenge := authenticate(d, attempt{}.request(t), AsProxy, realm, users)
	var first string
	for i := range pairBurst + 2 {
		a := attempt{password: "wrong"}
		if i == pairBurst+1 {
			a.password = ""
		}
		_, refusal := authenticate(d, a.answer(t, AsProxy, challenge), AsProxy, realm, users)
		text := gocmp.Diff(nil, refusal.Message, protocmp.Transform())
		text = strings.ReplaceAll(text, nonceOf(t, refusal), "x")
		if i == 0 {
			first = text
		} else if text != first {
			t.Errorf("answer %d differs from that to a wrong password (-first +this):\n%s", i, gocmp.Diff(first, text))
		}
	}
	if got := d.Offences().HeldBack; got != 2 {
		t.Errorf("%d were held back, want 2", got)
	}
}

// A23: whoever makes up the source of a datagram cannot use up the tries of those who live there.
func TestA23SpoofedSource(t *testing.T) {
	d := newDigest(t, keys{[]byte("key")}, SHA256)
	_, challenge := authenticate(d, attempt{source: attacker}.request(t), AsServer, realm, users)
	forged := NewResponse(401, "", NewHeader("WWW-Authenticate", strings.Replace(challenge.Message.Extensions[0].Value, nonceOf(t, challenge), "forged", 1)))
	for i := range 100 {
		for _, c := range []attempt{{source: owner, password: fmt.Sprint("a", i)}, {source: owner, user: "1009", password: "b"}} {
			authenticate(d, c.answer(t, AsServer, challenge), AsServer, realm, users)
			authenticate(d, c.answer(t, AsServer, forged), AsServer, realm, users)
		}
	}
	guesser{t, d, owner}.mustBeIn("after 400 wrong passwords in its name")
	if looked, _ := (guesser{t, d, attacker}).try("1001", "guess"); looked {
		t.Error("the network that the nonce was given to still has tries, want them charged to it")
	}
}

// A phone that is set up wrong leaves the others behind its NAT their tries, also after a restart, when nobody is known;
// and who mistypes is not worse off for it afterwards.
func TestWrongPhoneBehindNAT(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDigest(t, keys{[]byte("key")}, SHA256)
		for range 600 {
			guesser{t, d, owner}.try("1002", "set up wrong")
			time.Sleep(time.Second) // in the bubble's own time
		}
		guesser{t, d, owner}.mustBeIn("beside a phone that is set up wrong")

		mistyping := guesser{t, d, "192.0.2.2"}
		mistyping.exhaust("1001")
		time.Sleep(pairInterval)
		for range 100 {
			mistyping.mustBeIn("after some wrong passwords")
		}
	})
}

// Rightful clients cost nothing, however many of them there are behind one address.
func TestRightPasswordsAreFree(t *testing.T) {
	d := newDigest(t, keys{[]byte("key")}, MD5)
	everybody := func(name string) *Secret { return NewSecret(name, realm, "correct horse") }
	for i := range 1000 {
		a := attempt{user: fmt.Sprint(i)}
		_, challenge := authenticate(d, a.request(t), AsServer, realm, everybody)
		if got, want := inAWord(authenticate(d, a.answer(t, AsServer, challenge), AsServer, realm, everybody)), "ok "+a.user; got != want {
			t.Fatalf("Authenticate = %s, want %s", got, want)
		}
	}
}

func TestBackoffKnows(t *testing.T) {
	b := newBackoff()
	now := b.start
	begin := func(network uint64, now time.Time) try {
		got, ok := b.begin(network, true, realm, "1001", now)
		if !ok {
			t.Fatalf("begin(network %d) is refused", network)
		}
		return got
	}
	b.right(begin(1, now), now)
	for _, tt := range []struct {
		name    string
		network uint64
		after   time.Duration
		want    bool
	}{
		{"used", 1, 0, true}, {"never used", 2, 0, false},
		{"a moment before the end", 1, knownTime - time.Second, true}, {"at the end", 1, knownTime, false},
	} {
		at := now.Add(tt.after)
		if got := b.knows(begin(tt.network, at).hash, at); got != tt.want {
			t.Errorf("knows(%s) = %t, want %t", tt.name, got, tt.want)
		}
	}
	unsigned, _ := b.begin(3, false, realm, "1001", now)
	b.right(unsigned, now)
	if b.knows(begin(3, now).hash, now) {
		t.Error("a network is known by a nonce that nobody signed")
	}

	// A set keeps those that were heard of last.
	at := now.Add(knownTime)
	pair := func(i uint64) uint64 { return i<<32 | 5 }
	for i := range uint64(knownWays + 2) {
		at = at.Add(time.Second)
		b.remember(pair(i+1), at)
		if i > 0 {
			at = at.Add(knownFresh)
			b.remember(pair(1), at) // the first one is used all the time
		}
	}
	for i, want := range []bool{true, false, false, true, true, true} {
		if got := b.knows(pair(uint64(i+1)), at); got != want {
			t.Errorf("knows(pair %d) = %t, want %t", i+1, got, want)
		}
	}
}

// What strangers send takes no memory.
func TestBackoffHasOneSize(t *testing.T) {
	b := newBackoff()
	now := b.start
	n := uint64(0)
	if allocs := testing.AllocsPerRun(100_000, func() {
		n++
		if t, ok := b.begin(n, n%2 == 0, realm, "nobody", now); ok {
			b.wrong(t, now)
		}
	}); allocs != 0 {
		t.Errorf("a try allocates %g times, want 0", allocs)
	}
}

func TestNetworkOf(t *testing.T) {
	for _, tt := range []struct {
		host string
		want uint64
	}{
		{"192.0.2.1", 0xc0000201}, {"::ffff:192.0.2.1", 0xc0000201}, {"[::ffff:192.0.2.1]", 0xc0000201},
		{"2001:db8:1:2:3:4:5:6", 0x20010db800010002}, {"[2001:db8:1:2::9]", 0x20010db800010002}, {"fe80::1%eth0", 0xfe80000000000000},
		{"", 0}, {"[", 0}, {"example.com", 0},
	} {
		if got := networkOf(tt.host); got != tt.want {
			t.Errorf("networkOf(%s) = %x, want %x", tt.host, got, tt.want)
		}
	}
}

func BenchmarkBackoff(b *testing.B) {
	back := newBackoff()
	now := time.Now()
	for _, known := range []string{"known", "unknown"} {
		b.Run(known, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				t, _ := back.begin(7, true, realm, known, now)
				if known == "known" {
					back.right(t, now)
				}
			}
		})
	}
}
