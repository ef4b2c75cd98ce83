package message

import "strconv"

// Error is why a message is refused. Status is what RFC 3261 would answer: 400, 505 or 513. Reason is made of
// constants, never of the message's bytes: it can be counted by, and sent as a reason phrase. Errors are shared, and
// never to be changed.
type Error struct {
	Status int
	Reason string
}

func (e *Error) Error() string { return "refuse message: " + strconv.Itoa(e.Status) + " " + e.Reason }

// All of them, made once: a malformed message costs no memory.
var (
	errNotSIP        = &Error{400, "Not SIP"}
	errStartLineEnd  = &Error{400, "Start Line Does Not End"}
	errStatusLine    = &Error{400, "Bad Status Line"}
	errVersion       = &Error{505, "Version Not Supported"}
	errRequestURI    = &Error{400, "Bad Request-URI"}
	errHeader        = &Error{400, "Bad Header"}
	errHeaderName    = &Error{400, "Bad Header Name"}
	errHeaderEnd     = &Error{400, "Header Section Does Not End"}
	errCR            = &Error{400, "CR in Header"}
	errNUL           = &Error{400, "NUL in Header"}
	errHeaders       = &Error{400, "Too Many Headers"}
	errValues        = &Error{400, "Too Many Values"}
	errMissing       = &Error{400, "Missing Header"}
	errRepeated      = &Error{400, "Header Repeated"}
	errVia           = &Error{400, "Bad Via"}
	errFrom          = &Error{400, "Bad From"}
	errTo            = &Error{400, "Bad To"}
	errCallID        = &Error{400, "Bad Call-ID"}
	errCSeq          = &Error{400, "Bad CSeq"}
	errMaxForwards   = &Error{400, "Bad Max-Forwards"}
	errContentLength = &Error{400, "Bad Content-Length"}
	errNoLength      = &Error{400, "No Content-Length"}
	errBodyEnd       = &Error{400, "Content-Length Beyond End of Message"}
	errTooLarge      = &Error{513, "Message Too Large"}
	errAddress       = &Error{400, "Bad Address"}
	errURI           = &Error{400, "Bad URI"}
)
