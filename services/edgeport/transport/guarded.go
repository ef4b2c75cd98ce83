package transport

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"

	"github.com/routr-fabric/routr/services/edgeport/guard"
)

// What the guard is asked, and told, by the sockets.

var errGuard = errors.New("the guard does not take connections from there")

// reject closes a connection that is not taken. Its end is a reset, which leaves nothing behind in the kernel.
func reject(nc net.Conn) {
	if t, ok := nc.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // it is closed in any case
	}
	nc.Close()
}

// admits says whether a message that came on c is handed on. A peer that is banned meanwhile is closed, one that is too
// fast loses a message.
func (c *conn) admits() bool {
	taken, barred := c.layer.guard.AdmitOn(c.remote.Addr(), c.known.Load())
	if barred {
		c.leave(Unwanted)
	}
	return taken
}

// accepted says whether a client opened c, and is who c.remote says.
func (c *conn) accepted() bool { return !c.dialed && c.source.IsValid() }

// report tells the guard of what a client did before anyone could read a message of it. in is what has come and was
// not read.
func (c *conn) report(why Reason, err error, in *inbox) {
	if c.layer.guard == nil || !c.accepted() {
		return
	}
	if what, ok := offence(why, err, in.buf[:in.n], c.frames != nil); ok {
		c.layer.guard.Offend(c.remote.Addr(), what)
	}
}

func offence(why Reason, err error, came []byte, socket bool) (guard.Offence, bool) {
	noTLS, isNoTLS := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case errors.Is(err, errLeft), errors.Is(err, errGuard): // who closed it knows why
		return 0, false
	case why == Malformed && socket: // browsers and libraries make no mistakes in frames
		return guard.Garbage, true
	case why == Malformed, why == tooBig, errors.Is(err, errNoHTTP):
		return guard.Judge(came)
	case why != noHandshake:
		return 0, false
	case isNoTLS:
		return noRecord(noTLS.RecordHeader[:])
	}
	// Who does not trust our certificate says so, and leaves; others have lost their network.
	_, isNet := errors.AsType[*net.OpError](err)
	_, isErrno := errors.AsType[syscall.Errno](err)
	if isNet || isErrno || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, false
	}
	return guard.FailedHandshake, true
}

// noRecord is what a client does that sends this instead of a record of TLS.
func noRecord(start []byte) (guard.Offence, bool) {
	for _, method := range []string{"GET ", "POST ", "HEAD "} {
		if string(start[:min(len(start), len(method))]) == method {
			return guard.HTTP, true
		}
	}
	for _, c := range start {
		if c < ' ' || c > '~' {
			return guard.Garbage, true
		}
	}
	return 0, false // a phone that is not set to TLS begins with a method of SIP
}

// Accepted says whether f is a connection that a client has opened to us, so that what comes on it is of the host at
// Remote, and of nobody else. What comes by UDP may be anyone's, and what we opened a connection to somebody else's
// choice.
func (f Flow) Accepted() bool { return f.conn != nil && f.conn.accepted() }

// Known tells that somebody has authenticated on the connection of f: it outlives automatic bans of its source. It does
// nothing for other flows.
func (f Flow) Known() {
	if f.conn != nil {
		f.conn.known.Store(true)
	}
}
