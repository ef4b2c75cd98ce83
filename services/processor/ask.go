package processor

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/routr-fabric/routr/bus"
)

// askTime is how long the instance that made a nonce may take to say whether a nonce count is new. It looks into a table;
// one that takes longer is as good as gone.
const askTime = time.Second

// useSize is the size of the body of that question: the number of the nonce, when it was made, and the count, big-endian.
// The answer has no body; an error with the code FailedPrecondition says that the count was used.
const useSize = 8 + 4 + 4

// ServeNonces answers the other instances, who ask whether a nonce of this one was used with a nonce count before. It
// takes part until the result is drained, which is to be done last: from then on the nonces of this instance are stale.
// Where a processor has several instances each of them has to serve, or their clients are challenged again and again.
func (d *Digest) ServeNonces(conn *bus.Conn) (*bus.Service, error) {
	s, err := conn.Serve(bus.SubjectNonce(makerText(d.nonces.maker)), bus.QueueNonce, d.answer, bus.Options{})
	if err != nil {
		return nil, fmt.Errorf("serve the nonces of this instance: %w", err)
	}
	return s, nil
}

func makerText(maker uint32) string { return fmt.Sprintf("%08x", maker) }

// answer answers one question.
func (d *Digest) answer(_ context.Context, r *bus.Request) {
	body, err := r.Body.Bytes()
	if err == nil && len(body) != useSize {
		err = bus.Errorf(bus.InvalidArgument, "call %s: %d bytes, want %d", r.Subject, len(body), useSize)
	}
	if err != nil {
		r.Fail(err)
		return
	}
	number, made, count := binary.BigEndian.Uint64(body), binary.BigEndian.Uint32(body[8:]), binary.BigEndian.Uint32(body[12:])
	if !d.nonces.counts.use(number, made, count) {
		r.Fail(bus.Errorf(bus.FailedPrecondition, "call %s: the nonce count has not grown", r.Subject))
		return
	}
	r.Reply(bus.Reply{})
}

// ask asks the instance that made the nonce b, which may have been used there, whether count is new to it. It takes a bus
// round trip, and only who has the password gets here. An instance that does not answer has taken what it knew with it, so the answer is no.
func (d *Digest) ask(ctx context.Context, r Request, b *nonce, count uint32, done func(fresh bool)) {
	body := make([]byte, useSize)
	binary.BigEndian.PutUint64(body, b.number())
	binary.BigEndian.PutUint32(body[8:], b.made())
	binary.BigEndian.PutUint32(body[12:], count)
	deadline := time.Now().Add(askTime)
	if r.call.Deadline.Before(deadline) {
		deadline = r.call.Deadline
	}
	r.callUntil(ctx, bus.SubjectNonce(makerText(b.maker())), bus.Raw(body), deadline, func(_ bus.Reply, err error) { done(err == nil) })
}
