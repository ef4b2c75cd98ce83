package bus

import (
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/nats-io/nats.go"
)

// Publish sends an event; nobody answers. It returns before the server has it. It fails with ErrUnavailable while there
// is no server: events are not kept.
func (c *Conn) Publish(subject string, data []byte) error {
	if err := checkSubject(subject); err != nil {
		return err
	}
	if c.nc == nil || !c.nc.IsConnected() {
		return Errorf(Unavailable, "publish to %s: no nats server", subject)
	}
	return c.publish(subject, "", nil, Raw(data))
}

// Subscribe runs h for every event on subject, which may hold the wildcards of NATS, on one goroutine, until stop is
// called. It returns once the server knows. A panic of h is logged, and the next event is delivered.
func (c *Conn) Subscribe(subject string, h func(subject string, data []byte)) (stop func(), err error) {
	return c.subscribe(subject, func(m *nats.Msg) { h(m.Subject, m.Data) })
}

func (c *Conn) subscribe(subject string, h func(*nats.Msg)) (stop func(), err error) {
	if c.nc == nil {
		return nil, Errorf(Unavailable, "subscribe %s: the bus is %s", subject, NoServer)
	}
	sub, err := c.nc.Subscribe(subject, func(m *nats.Msg) {
		if strings.HasPrefix(m.Subject, c.inbox) && isNobody(m) {
			// The word of NATS that nobody serves a call of ours goes to one subscription that matches the reply subject;
			// here is a tap on all subjects.
			c.onReply(m)
			return
		}
		defer func() {
			if v := recover(); v != nil {
				c.stats.panics.Add(1)
				if n, ok := c.panics.allow(); ok {
					c.log.Error("subscriber panicked", "subject", subject, "panic", fmt.Sprint(v), "stack", string(debug.Stack()), "unlogged", n)
				}
			}
		}()
		h(m)
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe %s: %w", subject, err)
	}
	if err := c.settle(); err != nil {
		_ = sub.Unsubscribe()
		return nil, fmt.Errorf("subscribe %s: %w", subject, err)
	}
	return func() { _ = sub.Unsubscribe() }, nil // it fails when there is nothing left to stop
}
