// Package bus carries messages between the services: requests with one reply, and events. It owns the subjects, the
// headers, the deadlines and the connection to NATS. It carries any protobuf message and knows nothing of SIP.
//
// A call is asynchronous: Call publishes the request with a reply subject below the connection's one inbox and returns;
// the reply is an event that runs a callback. Where the responder lives in the same process the request is handed to it
// as a function call, and taps get a copy (ARCHITECTURE.md, "The bus").
package bus

import (
	"context"
	"log/slog"
	"net"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// Bounds of a connection. What is refused or dropped because of one of them is counted in Stats.
const (
	maxSubject        = 255             // bytes of a subject; nats-server closes a connection over a control line of 4 KiB
	maxCalls          = 1 << 16         // calls of a connection that wait for a reply through NATS
	defaultMaxPending = 1 << 14         // Options.MaxPending
	maxQueuedBytes    = 64 << 20        // of a subscription, received and not yet handled
	maxErrorText      = 512             // bytes of Error.Text that cross the bus
	maxTraceparent    = 128             // bytes; version 00 has 55
	maxLeases         = 64              // tap leases that a connection follows
	maxLease          = time.Minute     // of one tap lease; a longer one is shortened
	maxKeys           = 8               // of one name in the bucket BucketKeys
	defaultTimeout    = 5 * time.Second // of a call without a deadline: Ask, or a request of a client that is not ours
)

// NoServer is the Config.URL of a bus without NATS: only the responders of the connection itself are reached, and
// there are no events, no taps and no buckets. It lets a service run under testing/synctest.
const NoServer = "local:"

// Config is how a process reaches the bus.
type Config struct {
	URL  string // nats://host:port, several separated by commas; or NoServer, which needs Local
	Name string // the service's name and ref, for nats-server's connection list and for the reply subject
	// Local hands a call to a responder of the same connection directly, without a trip through NATS.
	Local bool
	// Interest says how many subscriptions match a subject, those of this connection included; the embedded server
	// sets it (embed.Server.Interest). nil: taps announce themselves by a lease (SubjectControl("tap")).
	Interest func(subject string) int
	// Dial, unless nil, opens the connection to a server in this process (embed.Server.Dial), in place of a socket. A trip
	// through NATS costs up to a sixth less CPU time then, at loads that do not saturate it.
	Dial func() (net.Conn, error)
	// Tracer makes a span of every call and of every request served. nil: off; the trace context of others still
	// travels along.
	Tracer trace.Tracer
	Log    *slog.Logger // nil: discarded
}

// Reply is the answer to a call.
type Reply struct {
	Body     Body
	Interest string // what the responder wants to see of the rest of this exchange; opaque to the bus
}

// Handler answers a request by exactly one of r.Reply, r.Fail and r.Forward, before it returns or later, from any
// goroutine. ctx carries the trace context of the caller and r's deadline; it is cancelled when Serve ends. A request
// that is not answered by its deadline is forgotten.
type Handler func(ctx context.Context, r *Request)

// Options of Serve.
type Options struct {
	// Workers is how many requests are handled at a time by goroutines of their own, for handlers that block. 0: the
	// handler runs on the delivering goroutine and must not block.
	Workers int
	// MaxPending is how many requests may be unanswered at a time; more are refused with ErrUnavailable. 0: 16384.
	MaxPending int
}

// Stats counts what a connection dropped or refused since Connect, and what it still waits for.
type Stats struct {
	Late        uint64 // requests that arrived after their deadline, dropped
	Expired     uint64 // requests that were taken and not answered by their deadline
	Refused     uint64 // requests over Options.MaxPending, and calls over the bound of a connection
	Panics      uint64 // handlers that panicked
	LateReplies uint64 // replies that nobody waited for any more, discarded
	Overflows   uint64 // times that a subscription was so slow that NATS dropped messages for it
	Pending     int    // calls that wait for a reply through NATS
}
