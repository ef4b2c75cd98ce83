package transport

import (
	"context"
	"errors"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Reason is why a connection ended. Those that Flow.Close takes are exported.
type Reason uint8

const (
	alive       Reason = iota
	peerClosed         // the peer closed it, between messages
	broken             // an error of the network, or the peer closed it within a message
	Malformed          // what came cannot become a message, or is none that anyone could read
	Unwanted           // the peer did what it is not allowed to
	tooBig             // a message exceeds Limits.Message
	noHandshake        // it was not agreed on TLS or WebSocket, or in time; or the PROXY header is wrong
	noMessage          // no whole message within Limits.FirstMessage
	slowMessage        // a message took longer than Limits.MessageTime
	idle               // silent for Limits.Idle
	queueFull          // Limits.Queue
	stalled            // Limits.Write
	noMemory           // Limits.Memory
	unreachable        // it could not be opened
	evicted            // another connection needed the room
	byShutdown         // of the layer
	reasons
)

func (r Reason) String() string {
	return [...]string{"", "peer", "error", "malformed", "unwanted", "too_big", "handshake", "no_message", "slow_message", "idle", "queue_full",
		"write_timeout", "memory", "dial", "evicted", "shutdown"}[r]
}

// refusal is why a connection was not taken.
type refusal uint8

const (
	none         refusal = iota
	tooMany              // Limits.Connections
	perSource            // Limits.PerSource
	unwelcome            // the guard does not take them
	acceptFailed         // the system gave none, mostly for want of descriptors
	shuttingDown
	refusals
)

func (r refusal) String() string {
	return [...]string{"", "connections", "source", "guard", "accept", "shutdown"}[r]
}

// counters of one protocol.
type counters struct {
	messagesIn, messagesOut atomic.Int64
	bytesIn, bytesOut       atomic.Int64
	keepAlives              atomic.Int64
	sendFailed              atomic.Int64
	receiveFailed           atomic.Int64 // reads of a UDP socket
	reopened                atomic.Int64 // sockets that had died
	accepted, dialed        atomic.Int64
	refused                 [refusals]atomic.Int64
	closed                  [reasons]atomic.Int64
}

// open is how many connections there are.
func (c *counters) open() int64 {
	n := c.accepted.Load() + c.dialed.Load()
	for i := range c.closed {
		n -= c.closed[i].Load()
	}
	return n
}

// observe registers the metrics of the layer, and returns what unregisters them.
func (l *Layer) observe() (unregister func()) {
	var errs []error
	counter := func(name, unit, description string) metric.Int64ObservableCounter {
		c, err := l.meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(description))
		errs = append(errs, err)
		return c
	}
	messages := counter("routr.edgeport.transport.messages", "{message}", "SIP messages received and sent, answers to keep-alives among them")
	bytes := counter("routr.edgeport.transport.bytes", "By", "bytes received and sent")
	keepAlives := counter("routr.edgeport.transport.keepalives", "{keepalive}", "keep-alives received")
	failures := counter("routr.edgeport.transport.send.failures", "{message}", "messages that could not be sent")
	receiveFailures := counter("routr.edgeport.transport.receive.failures", "{error}", "reads of a UDP socket that failed")
	reopened := counter("routr.edgeport.transport.reopened", "{socket}", "sockets of listening points that had died and were opened anew")
	opened := counter("routr.edgeport.transport.connections.opened", "{connection}", "connections accepted and dialed")
	refused := counter("routr.edgeport.transport.connections.refused", "{connection}", "connections not taken, by reason")
	closed := counter("routr.edgeport.transport.connections.closed", "{connection}", "connections ended, by reason")
	open, err := l.meter.Int64ObservableGauge("routr.edgeport.transport.connections.open", metric.WithUnit("{connection}"), metric.WithDescription("connections that are open"))
	errs = append(errs, err)

	registration, err := l.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, p := range [...]Protocol{UDP, TCP, TLS, WS, WSS} {
			c := &l.counters[p]
			protocol := attribute.String("protocol", p.lower())
			with := func(key, value string) metric.MeasurementOption {
				return metric.WithAttributes(protocol, attribute.String(key, value))
			}
			o.ObserveInt64(messages, c.messagesIn.Load(), with("direction", "in"))
			o.ObserveInt64(messages, c.messagesOut.Load(), with("direction", "out"))
			o.ObserveInt64(bytes, c.bytesIn.Load(), with("direction", "in"))
			o.ObserveInt64(bytes, c.bytesOut.Load(), with("direction", "out"))
			o.ObserveInt64(keepAlives, c.keepAlives.Load(), metric.WithAttributes(protocol))
			o.ObserveInt64(failures, c.sendFailed.Load(), metric.WithAttributes(protocol))
			o.ObserveInt64(reopened, c.reopened.Load(), metric.WithAttributes(protocol))
			if !p.Reliable() {
				o.ObserveInt64(receiveFailures, c.receiveFailed.Load(), metric.WithAttributes(protocol))
				continue
			}
			o.ObserveInt64(opened, c.accepted.Load(), with("direction", "in"))
			o.ObserveInt64(opened, c.dialed.Load(), with("direction", "out"))
			o.ObserveInt64(open, c.open(), metric.WithAttributes(protocol))
			for r := none + 1; r < refusals; r++ {
				o.ObserveInt64(refused, c.refused[r].Load(), with("reason", r.String()))
			}
			for r := alive + 1; r < reasons; r++ {
				o.ObserveInt64(closed, c.closed[r].Load(), with("reason", r.String()))
			}
		}
		return nil
	}, messages, bytes, keepAlives, failures, receiveFailures, reopened, opened, refused, closed, open)
	if err := errors.Join(append(errs, err)...); err != nil {
		l.log.Error("transport metrics are missing", "err", err)
		return func() {}
	}
	return func() { _ = registration.Unregister() } // it has no error to give
}
