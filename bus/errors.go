package bus

import (
	"context"
	"errors"
	"fmt"
)

// Code says why a call failed. The names are those of gRPC, so that the gateway has nothing to translate.
type Code string

const (
	InvalidArgument    Code = "INVALID_ARGUMENT"
	NotFound           Code = "NOT_FOUND"
	FailedPrecondition Code = "FAILED_PRECONDITION"
	Unavailable        Code = "UNAVAILABLE"       // nobody serves the subject, or the service cannot reach what it needs
	DeadlineExceeded   Code = "DEADLINE_EXCEEDED" // the reply did not come in time; a late one is discarded
	Internal           Code = "INTERNAL"          // the handler returned an error without a code, or panicked
)

// Error is a failed call, as it crosses the bus.
type Error struct {
	Code Code
	Text string // for the person who reads it
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Text }

// Is makes errors.Is(err, ErrUnavailable) true for every Error of that code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Text == "" && t.Code == e.Code
}

// What a caller branches on.
var (
	ErrUnavailable = &Error{Code: Unavailable}
	ErrDeadline    = &Error{Code: DeadlineExceeded}
	ErrNotFound    = &Error{Code: NotFound}
)

// Errorf makes an Error.
func Errorf(code Code, format string, args ...any) error {
	return &Error{Code: code, Text: fmt.Sprintf(format, args...)}
}

// CodeOf is the code of err: that of an Error in its chain, DeadlineExceeded for a context's deadline, "" for nil, and
// Internal for everything else.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return DeadlineExceeded
	}
	return Internal
}
