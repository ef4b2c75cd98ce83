package e2e_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/routr-fabric/routr/bus"
	locationpb "github.com/routr-fabric/routr/proto/location/v2beta1"
)

// TestE2Browser has JsSIP in the tabs of a real Chromium do what phones of the web do, over ws and wss. The names of the
// tests bear the numbers of the requirements of such clients.
func TestE2Browser(t *testing.T) {
	t.Parallel()
	id := newIdentity(t)
	d := startBrowser(t, id)
	for _, transport := range []string{"ws", "wss"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel() // the tests of one transport are not, so that no more than some tabs compete
			w := &web{driver: d, webSystem: startWeb(t, id, transport, 0)}
			for _, c := range browserTests {
				if transport == "ws" || c.wss {
					t.Run(c.name, func(t *testing.T) { c.play(t, w) })
				}
			}
		})
	}
}

// browserTests are what is played, in this order, over ws; over wss those to which the transport makes a difference.
var browserTests = []struct {
	name string
	wss  bool
	play func(t *testing.T, w *web)
}{
	{"W1 W11 register", true, webRegister},
	{"W14 call", true, webCall},
	{"ringing and CANCEL", false, webCancel},
	{"callee rejects", false, webReject},
	{"nobody there", false, webNobody},
	{"MESSAGE", true, webMessage},
	{"W14 W20 hold and DTMF", true, webHold},
	{"W10 W16 SDP is passed on byte by byte", true, webSDP},
	{"W22 anonymous caller", false, webAnonymous},
	{"W17 two tabs", true, webTwoTabs},
	{"W17 the same phone twice", false, webMerged},
	{"W12 W18 reload during a call", true, webReload},
	{"W18 socket loss", true, webLoss},
	{"W15 SIPp", true, webSIPp},
	{"W15 baresip", false, webBaresip},
	{"E8 restart of the server", true, webRestart}, // the last one, as all connections end
}

// web is a browser and a system for it.
type web struct {
	*driver
	*webSystem
}

// tab opens a tab with the phone of an agent whom no other test uses.
func (w *web) tab(t *testing.T) *webPhone {
	t.Helper()
	return w.driver.tab(t, w.agent(t))
}

// pair opens two, and registers them.
func (w *web) pair(t *testing.T) (alice, bob *webPhone) {
	t.Helper()
	alice, bob = w.tab(t), w.tab(t)
	alice.register(t)
	bob.register(t)
	return alice, bob
}

// command is the arguments of a command of web/phone.js.
type command map[string]any

// ring calls, and returns when the callee rings.
func (p *webPhone) ring(t *testing.T, callee *webPhone) {
	t.Helper()
	p.do(t, "call", command{"to": callee.User})
	callee.await(t, "incoming")
	p.await(t, "progress")
}

// answer takes the call of caller, and returns when it stands and both have heard the other.
func (p *webPhone) answer(t *testing.T, caller *webPhone) {
	t.Helper()
	p.do(t, "answer", nil)
	caller.await(t, "confirmed")
	p.await(t, "confirmed")
	caller.hears(t)
	p.hears(t)
}

// hears waits until the phone has sent and received some more RTP packets, by ICE, DTLS and SRTP.
func (p *webPhone) hears(t *testing.T) {
	t.Helper()
	p.do(t, "media", command{"packets": 10})
}

// hangUp ends the call with peer.
func (p *webPhone) hangUp(t *testing.T, peer *webPhone) {
	t.Helper()
	p.do(t, "hangUp", nil)
	p.await(t, "ended")
	if l := peer.await(t, "ended"); l.Originator != "remote" {
		t.Errorf("%s: the call ended by originator %s, want remote", peer.name, l.Originator)
	}
}

// fails waits for the end of a call that was not answered.
func (p *webPhone) fails(t *testing.T, cause string, status int) {
	t.Helper()
	if l := p.await(t, "failed"); l.Cause != cause || l.Status != status {
		t.Errorf("%s: the call failed with %q, status %d, want %q, %d", p.name, l.Cause, l.Status, cause, status)
	}
}

func webRegister(t *testing.T, w *web) {
	a := w.agent(t)
	stranger := a
	stranger.Password = "not " + a.Password
	p := w.driver.tab(t, stranger)
	p.start(t)
	if l := p.await(t, "registrationFailed"); l.Status != 401 {
		t.Errorf("REGISTER with a wrong password = %d, want 401", l.Status)
	}
	p.do(t, "stop", nil)
	p = w.driver.tab(t, a)
	p.register(t)
	// The top Via is the browser's, with its name as it wrote it and the address that it came from (RFC 3261 18.2.1).
	via := header(p.lastOf(t, sent, "REGISTER "), "Via")
	ok := p.lastOf(t, received, "SIP/2.0 200 ")
	if got := header(ok, "Via"); !strings.HasPrefix(got, via) || !strings.Contains(got, ";received=127.0.0.1") {
		t.Errorf("Via of the 200 = %q, want %q and received", got, via)
	}
	p.do(t, "stop", nil)
	caller := w.tab(t)
	caller.register(t)
	caller.do(t, "call", command{"to": a.User})
	caller.fails(t, "Unavailable", 480)
}

func webCall(t *testing.T, w *web) {
	alice, bob := w.pair(t)
	alice.ring(t, bob)
	bob.answer(t, alice)
	alice.hangUp(t, bob)
	bob.ring(t, alice)
	alice.answer(t, bob)
	alice.hangUp(t, bob)
}

func webCancel(t *testing.T, w *web) {
	alice, bob := w.pair(t)
	alice.ring(t, bob)
	alice.do(t, "hangUp", nil)
	if l := bob.await(t, "failed"); l.Cause != "Canceled" || l.Originator != "remote" {
		t.Errorf("the call ended at the callee with %q, originator %s, want Canceled, remote", l.Cause, l.Originator)
	}
	alice.fails(t, "Canceled", 0)
	bob.saw(t, 1, "CANCEL ")
}

func webReject(t *testing.T, w *web) {
	alice, bob := w.pair(t)
	for status, cause := range map[int]string{486: "Busy", 603: "Rejected"} {
		alice.ring(t, bob)
		bob.do(t, "reject", command{"status": status})
		alice.fails(t, cause, status)
		bob.fails(t, "Rejected", 0) // by itself, in JsSIP's words
	}
}

func webNobody(t *testing.T, w *web) {
	p := w.tab(t)
	p.register(t)
	p.do(t, "call", command{"to": "nobody"})
	p.fails(t, "Not Found", 404)
	p.do(t, "call", command{"to": w.agent(t).User})
	p.fails(t, "Unavailable", 480)
	if got := string(p.do(t, "message", command{"to": "nobody", "text": "hello"})); got != "404" {
		t.Errorf("MESSAGE to nobody = %s, want 404", got)
	}
}

func webMessage(t *testing.T, w *web) {
	alice, bob := w.pair(t)
	for _, m := range []struct {
		from, to *webPhone
		text     string
	}{{alice, bob, "see you at eight"}, {bob, alice, "d’accord, à huit heures – 八時に 🙂\r\n\r\n"}} {
		if got := string(m.from.do(t, "message", command{"to": m.to.User, "text": m.text})); got != "200" {
			t.Errorf("MESSAGE = %s, want 200", got)
		}
		if l := m.to.await(t, "message"); l.Text != m.text || l.From != "sip:"+m.from.User+"@"+domain {
			t.Errorf("%s received %q from %s, want %q from %s", m.to.name, l.Text, l.From, m.text, m.from.User)
		}
	}
}

// webHold has each side of a call put the other on hold, and press keys, all of it in requests inside the dialog.
func webHold(t *testing.T, w *web) {
	alice, bob := w.pair(t)
	alice.ring(t, bob)
	bob.answer(t, alice)
	for _, side := range [][2]*webPhone{{alice, bob}, {bob, alice}} {
		p, peer := side[0], side[1]
		p.do(t, "hold", nil)
		peer.await(t, "hold")
		if offer := body(peer.lastOf(t, received, "INVITE ")); !strings.Contains(offer, "a=sendonly\r\n") {
			t.Errorf("the re-INVITE of %s does not offer a=sendonly:\n%s", p.name, offer)
		}
		p.do(t, "unhold", nil)
		peer.await(t, "unhold")
		alice.hears(t)
		bob.hears(t)
		p.do(t, "dtmf", command{"tones": "1#"})
		for _, key := range []string{"1", "#"} {
			if l := peer.await(t, "key"); l.Text != key {
				t.Errorf("%s heard the key %q, want %q", peer.name, l.Text, key)
			}
		}
	}
	alice.hangUp(t, bob)
}

// webSDP compares offer and answer at both ends; the offer has lines of 4 KB and 40 KB of them.
func webSDP(t *testing.T, w *web) {
	alice, bob := w.pair(t)
	lines := make([]string, 10)
	for i := range lines {
		lines[i] = fmt.Sprintf("a=x-line-%d:%s", i, strings.Repeat("0123456789abcdef", 256))
	}
	alice.do(t, "call", command{"to": bob.User, "lines": lines})
	bob.await(t, "incoming")
	bob.answer(t, alice)
	for _, c := range []struct {
		name, first string
		from, to    *webPhone
	}{{"offer", "INVITE ", alice, bob}, {"answer", "SIP/2.0 200 ", bob, alice}} {
		want, got := body(c.from.lastOf(t, sent, c.first)), body(c.to.lastOf(t, received, c.first))
		if want != got {
			t.Errorf("the %s of %d bytes arrived with %d, not as it was sent:\n%s\n%s", c.name, len(want), len(got), want, got)
		}
		for _, attribute := range []string{"a=fingerprint:", "a=ice-ufrag:", "a=ice-pwd:", "a=setup:"} {
			if !strings.Contains(got, "\r\n"+attribute) {
				t.Errorf("the %s has no %s, so this test shows nothing:\n%s", c.name, attribute, got)
			}
		}
	}
	if offer := body(bob.lastOf(t, received, "INVITE ")); !strings.HasSuffix(offer, lines[9]+"\r\n") {
		t.Errorf("the offer of %d bytes does not end with the long lines", len(offer))
	}
	bob.hangUp(t, alice)
}

// webAnonymous has a caller who withholds who they are (RFC 3323). The server has to know, and the callee must not.
func webAnonymous(t *testing.T, w *web) {
	alice, bob := w.pair(t)
	alice.do(t, "call", command{"to": bob.User, "anonymous": true})
	const want = "sip:anonymous@anonymous.invalid"
	if l := bob.await(t, "incoming"); l.From != want {
		t.Errorf("the call is from %s, want %s", l.From, want)
	}
	if invite := bob.lastOf(t, received, "INVITE "); strings.Contains(invite, alice.User) {
		t.Errorf("the INVITE of an anonymous caller names %s:\n%s", alice.User, invite)
	}
	bob.answer(t, alice)
	alice.hangUp(t, bob) // not bob: JsSIP refuses with 404 what comes to the anonymous Contact that it has given

	stranger := alice.account
	stranger.Password = "not " + stranger.Password
	p := w.driver.tab(t, stranger)
	p.start(t)
	p.await(t, "registrationFailed")
	p.do(t, "call", command{"to": bob.User, "anonymous": true})
	if l := p.await(t, "failed"); l.Status != 407 {
		t.Errorf("INVITE of a stranger who calls himself anonymous = %d, want 407", l.Status)
	}
}

// webTwoTabs has a user at two phones: both ring, one answers, the other stops ringing.
func webTwoTabs(t *testing.T, w *web) {
	alice, bob := w.pair(t)
	other := w.driver.tab(t, bob.account)
	other.register(t)
	for _, answers := range [][2]*webPhone{{bob, other}, {other, bob}} {
		p, silent := answers[0], answers[1]
		alice.do(t, "call", command{"to": bob.User})
		p.await(t, "incoming")
		silent.await(t, "incoming")
		p.answer(t, alice)
		if l := silent.await(t, "failed"); l.Cause != "Canceled" || l.Originator != "remote" {
			t.Errorf("the other phone stopped with %q, originator %s, want Canceled, remote", l.Cause, l.Originator)
		}
		alice.hangUp(t, p)
	}
	bob.saw(t, 1, "CANCEL ")
	other.saw(t, 1, "CANCEL ")
}

// webMerged has a phone with two bindings on one connection, so that a call comes to it twice. It refuses one with 482
// (RFC 3261 8.2.2.2), which must not be the end of the other. No REGISTER of JsSIP makes such a second binding.
func webMerged(t *testing.T, w *web) {
	alice, bob := w.pair(t)
	ctx, cancel := context.WithTimeout(t.Context(), webTime)
	defer cancel()
	conn, err := bus.Connect(ctx, bus.Config{URL: w.nats, Name: "e2e"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	aor := "sip:" + bob.User + "@" + domain
	found, err := bus.Ask[locationpb.FindRoutesResponse](ctx, conn, bus.SubjectLocation(bus.LocationFind), &locationpb.FindRoutesRequest{Aor: aor})
	if err != nil {
		t.Fatal(err)
	}
	again := found.Routes[0]
	again.ContactUri, again.Instance, again.RegId = "sip:"+bob.User+"@again.invalid;transport=ws", "", 0
	if _, err := bus.Ask[locationpb.AddRouteResponse](ctx, conn, bus.SubjectLocation(bus.LocationAdd), &locationpb.AddRouteRequest{Aor: aor, Route: again}); err != nil {
		t.Fatal(err)
	}
	alice.ring(t, bob)
	bob.answer(t, alice)
	bob.saw(t, 2, "INVITE ")
	if got := len(bob.find(sent, "SIP/2.0 482 ")); got != 1 {
		t.Errorf("the phone refused %d INVITEs with 482, want 1", got)
	}
	alice.hangUp(t, bob)
}

// webSIPp makes calls between a browser and SIPp, which has no media but says in its SDP that it speaks ICE and DTLS.
func webSIPp(t *testing.T, w *web) {
	tab := w.tab(t)
	tab.register(t)
	t.Run("from udp", func(t *testing.T) {
		p := w.phone(t, "udp")
		call := p.start(t, "call_web", tab.User)
		if l := tab.await(t, "incoming"); l.From != "sip:"+p.user+"@"+domain {
			t.Errorf("the call is from %s, want %s", l.From, p.user)
		}
		tab.do(t, "answer", nil)
		tab.await(t, "confirmed")
		if l := tab.await(t, "ended"); l.Originator != "remote" {
			t.Errorf("the call ended by originator %s, want remote", l.Originator)
		}
		call.wait(t)
	})
	for _, transport := range []string{"udp", "tcp"} {
		t.Run("to "+transport, func(t *testing.T) {
			p := w.phone(t, transport)
			answer := p.hold(t, "answer_web")
			tab.do(t, "call", command{"to": p.user})
			tab.await(t, "confirmed")
			answer.await(t, "receive ACK", func() bool { return answer.count(t, received, "ACK ") > 0 })
			tab.do(t, "hangUp", nil)
			tab.await(t, "ended")
			answer.await(t, "answer BYE", func() bool { return answer.answered(t, "BYE") })
			answer.saw(t, 1, "INVITE ")
		})
	}
	t.Run("to busy", func(t *testing.T) {
		p := w.phone(t, "udp")
		p.register(t)
		busy := p.listen(t, "busy")
		tab.do(t, "call", command{"to": p.user})
		tab.fails(t, "Busy", 486)
		busy.wait(t) // for its ACK too
	})
}

// webBaresip has a browser and a softphone write to each other, and call each other. As baresip speaks neither ICE nor
// DTLS without its modules for them, each refuses the SDP of the other.
func webBaresip(t *testing.T, w *web) {
	tab, p := w.tab(t), w.phone(t, "udp")
	tab.register(t)
	b := startBaresip(t, p, &phone{user: tab.User})

	if got := string(tab.do(t, "message", command{"to": p.user, "text": "see you at eight"})); got != "200" {
		t.Errorf("MESSAGE to baresip = %s, want 200", got)
	}
	b.process.await(t, regexp.MustCompile(`: "see you at eight"`))
	b.do(t, "message", "where to")
	if l := tab.await(t, "message"); l.Text != "where to" || l.From != "sip:"+p.user+"@"+domain {
		t.Errorf("the browser received %q from %s, want \"where to\" from %s", l.Text, l.From, p.user)
	}

	tab.do(t, "call", command{"to": p.user})
	tab.fails(t, "Incompatible SDP", 488)

	b.do(t, "dial", "sip:"+tab.User+"@"+domain)
	tab.await(t, "incoming")
	tab.do(t, "answer", nil)
	if l := tab.await(t, "failed"); l.Cause != "WebRTC Error" {
		t.Errorf("the call of baresip failed with %q, want WebRTC Error", l.Cause)
	}
	b.await(t, "CALL_CLOSED")
	b.process.await(t, regexp.MustCompile(`closed: 488 `))
	tab.receive(t, "ACK ")
}

// header returns the value of the first header with that name, or "".
func header(message, name string) string {
	for l := range strings.SplitSeq(message, "\r\n") {
		if n, value, ok := strings.Cut(l, ":"); ok && strings.EqualFold(n, name) {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// body returns what follows the headers of a message.
func body(message string) string {
	_, b, _ := strings.Cut(message, "\r\n\r\n")
	return b
}
