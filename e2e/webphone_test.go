package e2e_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// webTime is how long a phone of the web may take for one step.
const webTime = time.Minute

// A driver is a Node process with phones in it, each a JsSIP: in the tabs of a browser, or without one. It speaks the
// lines of web/driver.mjs.
type driver struct {
	*process
	input io.Writer

	mu      sync.Mutex
	last    int // id of the last command
	answers map[int]chan line
	phones  map[string]*webPhone
}

// A line is one that a driver prints: the answer to a command, or an event of a phone.
type line struct {
	ID     int             `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  string          `json:"error"`

	Phone      string `json:"phone"`
	Event      string `json:"event"`
	Originator string `json:"originator"` // who made it happen: local or remote
	Cause      string `json:"cause"`      // why a call failed, in JsSIP's words
	Status     int    `json:"status"`     // of the response that made it happen
	Code       int    `json:"code"`       // of the WebSocket that was closed (RFC 6455 7.4)
	From       string `json:"from"`       // URI of who calls or writes
	Text       string `json:"text"`       // a message, or the key that was pressed
}

// startBrowser starts Chromium, which trusts what id signs.
func startBrowser(t *testing.T, id *identity) *driver {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return startDriver(t, "browser.mjs", nil, path, id.spki(t))
		}
	}
	t.Fatal("there is no chromium, chromium-browser or google-chrome; run 'go tool task deps'")
	return nil
}

// startDriver starts a script of web/ and waits until it takes commands. env is added to its environment.
func startDriver(t *testing.T, script string, env []string, args ...string) *driver {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		t.Fatalf("%v; run 'go tool task deps'", err)
	}
	if _, err := os.Stat("web/node_modules"); err != nil {
		t.Fatalf("%v; run 'go tool task deps', or 'npm ci --ignore-scripts' in e2e/web", err)
	}
	// Not t.TempDir: what is left of Chromium may still write there while it is removed.
	dir, err := os.MkdirTemp("", "routr-e2e-web-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })

	cmd := exec.Command("node", append([]string{filepath.Join("web", script)}, args...)...)
	cmd.Env = append(append(os.Environ(), "HOME="+dir, "TMPDIR="+dir), env...)
	d := &driver{answers: make(map[int]chan line), phones: make(map[string]*webPhone)}
	if d.input, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	output, printed := io.Pipe()
	cmd.Stdout = printed
	ready := d.expect(0)
	d.process = launch(t, script, cmd)
	go func() {
		<-d.exited
		printed.Close()
	}()
	go d.read(output)
	d.wait(t, "start", ready)
	return d
}

// expect returns where the answer with id will come.
func (d *driver) expect(id int) <-chan line {
	answer := make(chan line, 1)
	d.answers[id] = answer
	return answer
}

// read takes the lines that the driver prints, to the end.
func (d *driver) read(output io.Reader) {
	lines := json.NewDecoder(bufio.NewReader(output))
	for {
		var l line
		if err := lines.Decode(&l); err != nil {
			if err != io.EOF {
				fmt.Fprintf(d.process, "a line that is no JSON: %v\n", err)
			}
			io.Copy(io.Discard, output) // nothing may block the driver
			return
		}
		d.mu.Lock()
		p, answer := d.phones[l.Phone], d.answers[l.ID]
		if p == nil {
			delete(d.answers, l.ID) // there is one answer to a command
		}
		d.mu.Unlock()
		switch {
		case p != nil:
			p.note(l)
		case answer != nil:
			answer <- l
		}
	}
}

// wait waits for the answer to a command.
func (d *driver) wait(t *testing.T, command string, answer <-chan line) json.RawMessage {
	t.Helper()
	select {
	case l := <-answer:
		if l.Error != "" {
			t.Fatalf("%s, %s: %s", d.name, command, l.Error)
		}
		return l.Result
	case <-d.exited:
		t.Fatalf("%s ended before it did %s: %v", d.name, command, d.err)
	case <-time.After(webTime):
		t.Fatalf("%s did not %s within %v", d.name, command, webTime)
	}
	return nil
}

// A webPhone is a JsSIP of an agent.
type webPhone struct {
	driver *driver
	name   string
	account

	mu       sync.Mutex
	events   []line
	seen     int           // how many events have been waited for, or came before one that was
	happened chan struct{} // closed, and made anew, when there is another event or message
	messages []exchanged
}

// An account is what a webPhone registers with, in the words of web/phone.js.
type account struct {
	URL      string `json:"url"`
	User     string `json:"user"`
	Domain   string `json:"domain"`
	Password string `json:"password"`
	Instance string `json:"instance,omitempty"` // UUID of the device
}

// device makes a phone, which does not connect yet.
func (d *driver) device(a account) *webPhone {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := &webPhone{driver: d, name: fmt.Sprintf("%s-%d", a.User, len(d.phones)+1), account: a, happened: make(chan struct{})}
	d.phones[p.name] = p
	return p
}

// tab opens a tab of the browser with a phone in it, which is closed when the test ends.
func (d *driver) tab(t *testing.T, a account) *webPhone {
	t.Helper()
	p := d.device(a)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(p.story())
		}
	})
	p.do(t, "open", nil)
	t.Cleanup(func() { p.do(t, "close", nil) })
	return p
}

// do has the phone do a command of web/phone.js and returns when it is done, with what it returned.
func (p *webPhone) do(t *testing.T, command string, args any) json.RawMessage {
	t.Helper()
	d := p.driver
	d.mu.Lock()
	d.last++
	id := d.last
	answer := d.expect(id)
	text, err := json.Marshal(map[string]any{"id": id, "phone": p.name, "do": command, "args": args})
	if err == nil {
		_, err = d.input.Write(append(text, '\n'))
	}
	d.mu.Unlock()
	if err != nil {
		t.Fatalf("%s %s: %v", p.name, command, err)
	}
	return d.wait(t, p.name+" "+command, answer)
}

// note keeps what happened to the phone.
func (p *webPhone) note(l line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch l.Event {
	case sent, received:
		p.messages = append(p.messages, exchanged{at: time.Now(), direction: l.Event, text: l.Text})
	default:
		p.events = append(p.events, l)
	}
	close(p.happened)
	p.happened = make(chan struct{})
}

// await waits for an event and returns it; what comes before it is forgotten. A call that fails meanwhile, or a
// registration that is refused, ends the test.
func (p *webPhone) await(t *testing.T, event string) (found line) {
	t.Helper()
	p.until(t, "event "+event, func() bool {
		for p.seen < len(p.events) {
			found = p.events[p.seen]
			p.seen++
			switch {
			case found.Event == event:
				return true
			case found.Event == "failed", found.Event == "registrationFailed" && found.Status != 0:
				t.Fatalf("%s: event %s, status %d, cause %q, originator %q, want event %s",
					p.name, found.Event, found.Status, found.Cause, found.Originator, event)
			}
		}
		return false
	})
	return found
}

// receive waits for the first message of a kind.
func (p *webPhone) receive(t *testing.T, prefix string) {
	t.Helper()
	p.until(t, "message "+prefix, func() bool {
		return slices.ContainsFunc(p.messages, func(m exchanged) bool { return m.is(received, prefix) })
	})
}

// until waits until done, which is asked with p.mu held.
func (p *webPhone) until(t *testing.T, what string, done func() bool) {
	t.Helper()
	limit := time.After(webTime)
	for {
		over, happened := p.ask(done)
		if over {
			return
		}
		select {
		case <-happened:
		case <-p.driver.exited:
			t.Fatalf("%s is gone, want %s of %s: %v", p.driver.name, what, p.name, p.driver.err)
		case <-limit:
			t.Fatalf("%s had no %s within %v", p.name, what, webTime)
		}
	}
}

// ask asks done, and returns with the answer what is closed when it may be another.
func (p *webPhone) ask(done func() bool) (over bool, happened <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return done(), p.happened
}

// start has the phone connect and register.
func (p *webPhone) start(t *testing.T) {
	t.Helper()
	p.do(t, "start", p.account)
}

// register has the phone connect and register, and waits until it is registered.
func (p *webPhone) register(t *testing.T) {
	t.Helper()
	p.start(t)
	p.await(t, "registered")
}

// find returns the messages so far that went in that direction and begin with prefix, in order.
func (p *webPhone) find(direction, prefix string) []exchanged {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []exchanged
	for _, m := range p.messages {
		if m.is(direction, prefix) {
			found = append(found, m)
		}
	}
	return found
}

// lastOf returns the last message of a kind, of which there must be one.
func (p *webPhone) lastOf(t *testing.T, direction, prefix string) string {
	t.Helper()
	found := p.find(direction, prefix)
	if len(found) == 0 {
		t.Fatalf("%s has %s no %q", p.name, direction, prefix)
	}
	return found[len(found)-1].text
}

// saw checks how many messages of a kind the phone has received.
func (p *webPhone) saw(t *testing.T, want int, prefix string) {
	t.Helper()
	if got := len(p.find(received, prefix)); got != want {
		t.Errorf("%s received %d x %q, want %d", p.name, got, prefix, want)
	}
}

// story is all that happened to the phone.
func (p *webPhone) story() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "phone %s\n", p.name)
	for _, l := range p.events {
		fmt.Fprintf(&b, "event %s originator %q status %d cause %q code %d text %q\n", l.Event, l.Originator, l.Status, l.Cause, l.Code, l.Text)
	}
	for _, m := range p.messages {
		fmt.Fprintf(&b, "%s %s\n%s\n", m.at.Format(time.TimeOnly+".000"), m.direction, m.text)
	}
	return b.String()
}
