package bus

import "strings"

// Queue groups. A service joins its group, and the members share the work.
const (
	QueueDispatcher = "dispatcher"
	QueueLocation   = "location"
	QueueControl    = "control" // of a subject that one instance serves
	QueueNonce      = "nonce"
)

// Buckets of the JetStream key-value store.
const (
	BucketBindings  = "routr_bindings"
	BucketKeys      = "routr_keys"
	BucketResources = "routr_resources"
	BucketBans      = "routr_bans"
)

// Headers of a message on the bus. traceparent is W3C's.
const (
	headerDeadline = "Routr-Deadline" // unix ms; a message that arrives later is dropped, never processed
	headerInterest = "Routr-Interest" // Reply.Interest
	headerCode     = "Routr-Code"     // Code of a failed reply
	headerError    = "Routr-Error"    // text of a failed reply
	headerCopy     = "Routr-Copy"     // a copy for taps of a call that was handed over in process; Serve drops it
	headerFrom     = "Routr-From"     // who sends a message of a Link: see Link.member
	headerTrace    = "traceparent"
)

// SubjectAll is what a tap subscribes to, to see everything but the events.
const SubjectAll = prefix + ">"

const prefix = "routr.v1."

// SubjectDispatch is where an EdgePort sends a request of the given SIP method.
func SubjectDispatch(method string) string { return prefix + "dispatch." + Token(method) }

// SubjectResponse is where an EdgePort sends a response, if the interest of its transaction asks for it.
func SubjectResponse(method string) string { return prefix + "response." + Token(method) }

// SubjectProcess is where the processor ref takes requests and responses of the given SIP method.
func SubjectProcess(ref, method string) string {
	return prefix + "process." + Token(ref) + "." + Token(method)
}

// SubjectMiddleware is where the middleware ref takes requests and responses of the given SIP method.
func SubjectMiddleware(ref, method string) string {
	return prefix + "middleware." + Token(ref) + "." + Token(method)
}

// SubjectLocation is where the Location Service takes op, which is one of LocationAdd, LocationFind, LocationRemove.
func SubjectLocation(op string) string { return prefix + "location." + op }

// The operations of the Location Service.
const (
	LocationAdd    = "add"
	LocationFind   = "find"
	LocationRemove = "remove"
)

// SubjectEdgePort is where the EdgePort ref takes the SIP messages that other EdgePorts hand it, by a Link.
func SubjectEdgePort(ref string) string { return prefix + "edgeport." + Token(ref) }

// SubjectFlowClosed is where the EdgePort ref says that a flow of its has ended, to the Location Service.
func SubjectFlowClosed(ref string) string { return prefix + "flow.closed." + Token(ref) }

// SubjectNonce is where an instance of a processor is asked whether one of its digest nonces was used with a nonce count
// before; instance is what the nonce names it by.
func SubjectNonce(instance string) string { return prefix + "nonce." + Token(instance) }

// SubjectControl is where operators speak to services: drain, taps, bans.
func SubjectControl(verb string) string { return prefix + "control." + verb }

// SubjectDrain is where the EdgePort ref is told to take no new requests, and to take them again; the request and its
// reply are JSON, so that any client of NATS can do it.
func SubjectDrain(ref string) string { return SubjectControl("drain." + Token(ref)) }

// SubjectReply is the inbox of one connection: its replies arrive below it, one token deep.
func SubjectReply(service, id string) string {
	return prefix + "reply." + Token(service) + "." + Token(id)
}

// serving is where the responders of subject are present for probes, out of the sight of taps.
func serving(subject string) string { return "_routr.serving." + subject }

// linking is where a member of a Link is asked whether it is there, out of the sight of taps.
func linking(name string) string { return "_routr.linking." + Token(name) }

// Every is what to pass to a Subject function in place of a method or a ref, to subscribe to all of them. It is no token
// of SIP, whose methods may well be "*".
const Every = "<every>"

const wildcard = "*" // what Every is in a subject

// Token escapes s to one token of a subject: what is not a letter, a digit, '-' or '_' becomes '=' and two hex
// digits, the empty string becomes "=", Every becomes the wildcard. A SIP method is a token of RFC 3261 25.1 and may hold
// '.' and '*'; a ref comes from a config file; neither may ever widen a subject.
func Token(s string) string {
	if s == Every {
		return wildcard
	}
	plain := s != ""
	for i := 0; i < len(s); i++ {
		if !isPlain(s[i]) {
			plain = false
			break
		}
	}
	if plain {
		return s
	}
	var b strings.Builder
	if s == "" {
		b.WriteByte('=')
	}
	const hex = "0123456789ABCDEF"
	for i := 0; i < len(s); i++ {
		if c := s[i]; isPlain(c) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'=', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}

func isPlain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}
