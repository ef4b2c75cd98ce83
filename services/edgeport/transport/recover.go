package transport

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// deadPause is how long the pause after an error has become when its socket is taken for dead: at the sixth in a row.
	deadPause = 160 * time.Millisecond
	// troubleTime is how long an error counts as present. Who fails tries again every second at least, so who has not
	// failed for longer has recovered, or waits for a peer.
	troubleTime = 3 * time.Second
	// warnEvery is how often a listening point may complain, whatever its peers do.
	warnEvery = time.Minute
)

// trouble is what went wrong with a listener or a UDP socket. It belongs to the goroutine that accepts or reads, but for
// last.
type trouble struct {
	pause  backoff
	warned time.Time
	told   bool // this time
	last   atomic.Pointer[failure]
}

type failure struct {
	at  time.Duration // in layer time
	err error
}

// failed notes an error, which says what was tried on what, and waits. Out of memory or descriptors, that is all that can
// be done: a connection stays in the kernel's queue. A socket that is closed, or fails on and on, is dead, and reopen
// makes it anew. Without goOn it is over.
func (t *trouble) failed(l *Layer, p Protocol, err error, reopen func() error) (goOn bool) {
	closed := errors.Is(err, net.ErrClosed)
	if f := t.last.Load(); closed && f != nil {
		err = f.err // why it could not be opened anew says more
	}
	t.note(l, p, err)
	pause := t.pause.next()
	if !l.wait(pause) {
		return false
	}
	if !closed && (pause < deadPause || passes(err)) {
		return true
	}
	switch err := reopen(); {
	case errors.Is(err, net.ErrClosed):
		return false
	case err != nil:
		t.note(l, p, err)
	default:
		l.counters[p].reopened.Add(1)
		t.last.Store(nil)
	}
	return true
}

func (t *trouble) note(l *Layer, p Protocol, err error) {
	t.last.Store(&failure{l.now(), err})
	if time.Since(t.warned) > warnEvery {
		t.warned, t.told = time.Now(), true
		if p == UDP {
			l.log.Warn("cannot receive datagrams", "err", err)
		} else {
			l.log.Warn("cannot accept connections", "protocol", p.lower(), "err", err)
		}
	}
}

// passed notes that all is well.
func (t *trouble) passed(l *Layer, p Protocol, addr netip.AddrPort) {
	if t.pause.pause == 0 {
		return
	}
	t.pause.reset()
	t.last.Store(nil)
	if t.told {
		t.told = false
		l.log.Info("a listening point works again", "protocol", p.lower(), "addr", addr.String())
	}
}

// passes says whether err is not the fault of the socket.
func passes(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, os.ErrDeadlineExceeded} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Check is nil while every listening point works; else the error says which do not, and why. Each is tried again, once a
// second at least, and a socket that has died is opened anew. Check returns at once.
func (l *Layer) Check() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var errs []error
	check := func(t *trouble) {
		if f := t.last.Load(); f != nil && l.now()-f.at < troubleTime {
			errs = append(errs, f.err)
		}
	}
	for _, s := range l.sockets {
		check(&s.trouble)
	}
	for _, ln := range l.listeners {
		check(&ln.trouble)
	}
	return errors.Join(errs...)
}

// reopen replaces a dead listener, on the same address. The error is net.ErrClosed if nobody wants it any more.
func (ln *listener) reopen(l *Layer) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == stopped {
		return net.ErrClosed
	}
	ln.Close()
	again, err := listenTCP(ln.Listen.Addr)
	if err != nil {
		return listenError(ln.Listen, err)
	}
	ln.Listener = again
	return nil
}

// reopen replaces a dead socket, on the same address. The error is net.ErrClosed if nobody wants it any more.
func (s *socket) reopen() error {
	l := s.layer
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == stopped {
		return net.ErrClosed
	}
	s.datagrams.close()
	c, err := openSocket(s.local)
	if err == nil {
		if err = s.datagrams.attach(c); err != nil {
			c.Close()
		}
	}
	if err != nil {
		return listenError(Listen{Protocol: UDP, Addr: s.local}, err)
	}
	return nil
}
