package bus

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"
)

// Call sends a request and runs done exactly once, with the reply or an *Error: ErrUnavailable when nobody serves the
// subject, when there is no server or it is lost before the reply has come, or when too much is pending; ErrDeadline when
// the deadline passes (it is noticed up to 50 ms late, and a late reply is discarded); else what the responder failed
// with.
// done must not block: it runs on the goroutine that delivers replies or the one that looks at deadlines, or, with a
// responder in this process, on the responder's, which may be the caller's before Call returns. So a caller must hold no
// lock that done takes.
// ctx gives the trace context and nothing else.
func (c *Conn) Call(ctx context.Context, subject string, body Body, deadline time.Time, done func(Reply, error)) {
	if err := checkSubject(subject); err != nil {
		done(Reply{}, err)
		return
	}
	if !time.Now().Before(deadline) {
		done(Reply{}, errDeadline(subject))
		return
	}
	parent, span := c.startCall(ctx, subject)
	cl := call{subject: subject, deadline: deadline, done: done, span: span}
	if c.cfg.Local && c.handOver(cl, body, parent) {
		return
	}
	c.send(cl, body, parent)
}

// Ask is Call for those who can wait: it returns the decoded reply, or an *Error, or context.Canceled. The deadline is
// that of ctx, or 5 seconds; who is asked does not hear of a cancellation.
//
//	res, err := bus.Ask[locationpb.FindRoutesResponse](ctx, conn, bus.SubjectLocation(bus.LocationFind), req)
func Ask[T any, M interface {
	*T
	proto.Message
}](ctx context.Context, c *Conn, subject string, req proto.Message) (M, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(defaultTimeout)
	}
	type result struct {
		reply Reply
		err   error
	}
	ch := make(chan result, 1)
	c.Call(ctx, subject, Value(req), deadline, func(p Reply, err error) { ch <- result{p, err} })
	select {
	case r := <-ch:
		if r.err != nil {
			return nil, r.err
		}
		return Decode[T, M](r.reply.Body)
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil, errDeadline(subject)
		}
		return nil, ctx.Err()
	}
}

// send is the way through NATS.
func (c *Conn) send(cl call, body Body, parent string) {
	if c.nc == nil {
		cl.finish(Reply{}, errNobody(cl.subject))
		return
	}
	if !c.nc.IsConnected() {
		cl.finish(Reply{}, c.disconnected(cl.subject))
		return
	}
	id, err := c.calls.add(cl)
	if err != nil {
		cl.finish(Reply{}, err)
		return
	}
	h := make(nats.Header, 2)
	h[headerDeadline] = []string{strconv.FormatInt(cl.deadline.UnixMilli(), 10)}
	if parent != "" {
		h[headerTrace] = []string{parent}
	}
	if err := c.publish(cl.subject, c.replySubject(id), h, body); err != nil {
		if _, ok := c.calls.take(id); ok {
			cl.finish(Reply{}, err)
		}
	}
}

func (c *Conn) disconnected(subject string) error {
	if err := c.Connected(); err != nil {
		return Errorf(Unavailable, "call %s: %v", subject, err)
	}
	return errNobody(subject)
}

func (c *Conn) replySubject(id uint64) string {
	var a [96]byte
	return string(strconv.AppendUint(append(a[:0], c.inbox...), id, 36))
}

// onReply takes a reply, or the server's word that nobody serves the subject.
func (c *Conn) onReply(m *nats.Msg) {
	id, err := strconv.ParseUint(strings.TrimPrefix(m.Subject, c.inbox), 36, 64)
	if err != nil {
		c.stats.lateReplies.Add(1) // not one of ours
		return
	}
	cl, ok := c.calls.take(id)
	if !ok {
		c.stats.lateReplies.Add(1)
		return
	}
	if len(m.Header) == 0 {
		cl.finish(Reply{Body: Raw(m.Data)}, nil)
		return
	}
	switch code := m.Header.Get(headerCode); {
	case code != "":
		cl.finish(Reply{}, &Error{Code: Code(code), Text: m.Header.Get(headerError)})
	case isNobody(m):
		cl.finish(Reply{}, errNobody(cl.subject))
	default:
		cl.finish(Reply{Body: Raw(m.Data), Interest: m.Header.Get(headerInterest)}, nil)
	}
}

// isNobody says whether m is the word of NATS that a call has no responders.
func isNobody(m *nats.Msg) bool {
	return len(m.Data) == 0 && len(m.Header) > 0 && m.Header.Get("Status") == "503"
}

// publish encodes body, if it is a value, and hands it to the connection, which copies it. Its error is an *Error.
func (c *Conn) publish(subject, reply string, h nats.Header, body Body) error {
	data := body.data
	if body.msg != nil {
		buf, _ := c.buf.Get().(*[]byte)
		if buf == nil {
			buf = new([]byte)
		}
		defer func() {
			if cap(*buf) <= 64<<10 {
				c.buf.Put(buf)
			}
		}()
		var err error
		if *buf, err = body.encode(*buf); err != nil {
			return Errorf(Internal, "encode for %s: %v", subject, err)
		}
		data = *buf
	}
	err := c.nc.PublishMsg(&nats.Msg{Subject: subject, Reply: reply, Header: h, Data: data})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, nats.ErrMaxPayload):
		return Errorf(InvalidArgument, "publish to %s: %d bytes and headers, the server takes at most %d", subject, len(data), c.nc.MaxPayload())
	case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrReconnectBufExceeded):
		return c.disconnected(subject)
	default:
		return Errorf(Unavailable, "publish to %s: %v", subject, err)
	}
}

// checkSubject refuses what cannot be published: a wildcard would reach whom the caller did not name, and nats-server
// closes a connection over an overlong line.
func checkSubject(s string) error {
	ok := s != "" && len(s) <= maxSubject
	start := 0
	for i := 0; ok && i <= len(s); i++ {
		switch {
		case i == len(s) || s[i] == '.':
			ok = i > start // no empty token
			start = i + 1
		case s[i] <= ' ' || s[i] == '*' || s[i] == '>' || s[i] >= 0x7f:
			ok = false
		}
	}
	if !ok {
		if len(s) > maxSubject {
			s = s[:maxSubject]
		}
		return Errorf(InvalidArgument, "subject %q: want up to %d visible characters, no wildcard and no empty token", s, maxSubject)
	}
	return nil
}
