package bus

import (
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
)

// Link is one of several equals, the EdgePorts, that send each other messages which are no calls: each has a name, what
// one sends another arrives in order, and a peer that is gone is noticed, be it that it died, was started anew or cannot
// be reached. A message that is on its way when the connection to the server breaks is lost, as a datagram would be.
type Link struct {
	conn     *Conn
	name     string
	instance string // tells this Link from one of the same name before or after it
	cfg      LinkConfig
	out      chan parcel
	inbox    string // answers to the question whether a peer is there arrive at inbox<Token(its name)>
	stop     []func()
	done     chan struct{} // closed by Close
	close    sync.Once
	wg       sync.WaitGroup
	telling  sync.Mutex // held while a function of cfg runs, and before mu

	mu    sync.Mutex
	peers map[string]*linkPeer // by the token of the name
	twin  bool                 // another one of our name was seen, and reported
}

// LinkConfig is what a Link tells its owner, one thing after the other. The functions must not call Close.
type LinkConfig struct {
	// Receive takes a message; data belongs to it.
	Receive func(peer string, data []byte)
	// Gone says that the peer is not there any more: what was sent to it and is not answered never will be.
	Gone func(peer string)
	// Renewed says, before the first message of the new one is received, that the peer was started anew. What it had
	// answered is lost. What it has not may have come to the new one, and has to be sent again.
	Renewed func(peer string)
}

// Bounds of a Link.
const (
	linkAsk     = time.Second     // how often a peer is asked whether it is there
	linkSilence = 3 * time.Second // a peer that has said nothing for so long is gone; when the server was lost it has as long again
	linkKept    = 4 * time.Minute // a peer is in use for so long after the last message, which outlasts the longest ringing
	linkQueue   = 8192            // messages that wait to be handed to NATS
)

var (
	errLinkFull   = Errorf(Unavailable, "%d messages wait to be sent", linkQueue)
	errLinkClosed = Errorf(Unavailable, "the link is closed")
)

type linkPeer struct {
	name     string
	instance string    // empty: not known yet
	used     time.Time // the last message, either way
	asked    time.Time // the last question
	heard    time.Time // the last sign of life, or the first question
}

type parcel struct {
	to   string
	data []byte
	fail func(error)
}

// Link makes the member of that name. It sends from now on, and receives once it has joined.
func (c *Conn) Link(name string, cfg LinkConfig) *Link {
	l := &Link{
		conn: c, name: name, instance: nuid.Next(), cfg: cfg, out: make(chan parcel, linkQueue),
		done: make(chan struct{}), peers: make(map[string]*linkPeer),
	}
	l.inbox = "_routr.linked." + Token(name) + "." + l.instance + "."
	if c.nc != nil { // NoServer: there is nobody else
		l.wg.Go(l.send)
		l.wg.Go(l.watch)
	}
	return l
}

// Join receives what is sent to the member from now on.
func (l *Link) Join() error {
	if l.conn.nc == nil {
		return nil
	}
	for _, s := range [...]struct {
		subject string
		take    func(*nats.Msg)
	}{
		{l.inbox + wildcard, l.answered},
		{SubjectEdgePort(l.name), l.receive},
		{linking(l.name), l.asked}, // last: who says that it is there has to be
	} {
		stop, err := l.conn.subscribe(s.subject, s.take)
		if err != nil {
			return fmt.Errorf("link %s: %w", l.name, err)
		}
		l.stop = append([]func(){stop}, l.stop...)
	}
	l.ask(l.name) // who answers beside this one has our name: see asked
	return nil
}

// Close leaves the bus. What was handed to Send before is sent, what is handed to it after that fails. Close does not wait
// for a function of LinkConfig that runs, and is idempotent.
func (l *Link) Close() {
	l.close.Do(func() {
		close(l.done)
		l.wg.Wait()
		for _, stop := range l.stop {
			stop()
		}
	})
}

// Send sends data, which it copies, to a peer. It never blocks. fail, which may be nil, runs on another goroutine if
// data could not be handed to the server.
func (l *Link) Send(to string, data []byte, fail func(error)) {
	p := parcel{to, append(make([]byte, 0, len(data)), data...), fail}
	if l.conn.nc == nil {
		p.failed(errNobody(SubjectEdgePort(to)))
		return
	}
	select {
	case <-l.done:
		p.failed(errLinkClosed)
		return
	default:
	}
	select {
	case l.out <- p:
	default:
		p.failed(errLinkFull)
	}
}

func (p parcel) failed(err error) {
	if p.fail != nil {
		go p.fail(err)
	}
}

// send hands messages to NATS, which may take up to writeTimeout to take one.
func (l *Link) send() {
	for {
		select {
		case p := <-l.out:
			l.publish(p)
		case <-l.done:
			for len(l.out) > 0 {
				l.publish(<-l.out)
			}
			return
		}
	}
}

func (l *Link) publish(p parcel) {
	now := time.Now()
	l.mu.Lock()
	ask := l.peer(p.to, now).due(now)
	l.mu.Unlock()
	if ask { // first, so that the word that nobody is there is not waited for
		l.ask(p.to)
	}
	subject := SubjectEdgePort(p.to)
	err := l.conn.publish(subject, "", nats.Header{headerFrom: []string{l.member()}}, Raw(p.data))
	if err != nil && p.fail != nil {
		p.fail(err)
	}
}

// peer is who has that name, in use from now on.
func (l *Link) peer(name string, now time.Time) *linkPeer {
	token := Token(name)
	p := l.peers[token]
	if p == nil {
		p = &linkPeer{name: name, heard: now}
		l.peers[token] = p
	}
	p.used = now
	return p
}

// due says whether p is to be asked, which is then done.
func (p *linkPeer) due(now time.Time) bool {
	if now.Sub(p.asked) < linkAsk {
		return false
	}
	p.asked = now
	return true
}

// ask asks whether a peer is there. NATS answers at once if nobody is.
func (l *Link) ask(name string) {
	// An error means that there is no server; then the silence will tell.
	_ = l.conn.nc.PublishRequest(linking(name), l.inbox+Token(name), []byte(l.member()))
}

// watch asks the peers that are in use, and gives up those that do not answer.
func (l *Link) watch() {
	ticker := time.NewTicker(linkAsk / 4) // or a peer that was asked a moment less than linkAsk ago waits for two
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-l.done:
			return
		}
		now, turned := time.Now(), l.conn.turned()
		var ask, gone []string
		l.mu.Lock()
		for token, p := range l.peers {
			switch {
			case now.Sub(p.used) > linkKept:
				delete(l.peers, token)
			case now.Sub(p.heard) > linkSilence && now.Sub(turned) > linkSilence:
				delete(l.peers, token)
				gone = append(gone, p.name)
			case p.due(now):
				ask = append(ask, p.name)
			}
		}
		l.mu.Unlock()
		for _, name := range ask {
			l.ask(name)
		}
		for _, name := range gone {
			l.gone(name)
		}
	}
}

// member is who l is, as it tells the others: its name, which may have any characters, a space, its instance.
func (l *Link) member() string { return url.QueryEscape(l.name) + " " + l.instance }

func parseMember(text string) (name, instance string, ok bool) {
	name, instance, ok = strings.Cut(text, " ")
	name, err := url.QueryUnescape(name)
	return name, instance, ok && err == nil
}

// receive takes a message of a peer.
func (l *Link) receive(m *nats.Msg) {
	name, instance, ok := parseMember(m.Header.Get(headerFrom))
	if !ok || name == l.name {
		return // no member of the group
	}
	l.telling.Lock()
	defer l.telling.Unlock()
	l.alive(name, instance, true)
	l.cfg.Receive(name, m.Data)
}

func (l *Link) gone(name string) {
	l.telling.Lock()
	defer l.telling.Unlock()
	l.cfg.Gone(name)
}

// asked answers a peer that asks whether this one is there.
func (l *Link) asked(m *nats.Msg) {
	if m.Reply == "" {
		return
	}
	_ = m.Respond([]byte(l.instance)) // it fails when there is no server
	name, instance, _ := parseMember(string(m.Data))
	if name != l.name || instance == l.instance {
		return
	}
	l.mu.Lock()
	told := l.twin
	l.twin = true
	l.mu.Unlock()
	if !told {
		l.conn.log.Error("another one of this name is on the bus, each takes what is meant for the other: give one of them another ref", "ref", name)
	}
}

// answered takes a peer's answer, or the word of NATS that it is not there.
func (l *Link) answered(m *nats.Msg) {
	token := strings.TrimPrefix(m.Subject, l.inbox)
	l.telling.Lock()
	defer l.telling.Unlock()
	l.mu.Lock()
	p := l.peers[token]
	if p == nil {
		l.mu.Unlock()
		return
	}
	name := p.name
	nobody := isNobody(m)
	if nobody && p.instance != "" && time.Since(l.conn.turned()) < linkSilence {
		l.mu.Unlock()
		return // it may have lost its server with us, and not be back yet
	}
	if nobody {
		delete(l.peers, token)
	}
	l.mu.Unlock()
	if nobody {
		l.cfg.Gone(name)
		return
	}
	l.alive(name, string(m.Data), false)
}

// alive notes a sign of life; with used it is a message. l.telling is held.
func (l *Link) alive(name, instance string, used bool) {
	now := time.Now()
	l.mu.Lock()
	p := l.peers[Token(name)]
	if p == nil && !used {
		l.mu.Unlock()
		return
	}
	if used {
		p = l.peer(name, now)
	}
	p.heard = now
	anew := p.instance != "" && p.instance != instance
	p.instance = instance
	l.mu.Unlock()
	if anew {
		l.cfg.Renewed(name)
	}
}
