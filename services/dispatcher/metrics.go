package dispatcher

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// result is what became of a message.
type result int

const (
	resultOK          result = iota // answered by a processor or a middleware
	resultNotAllowed                // 405: no processor takes it
	resultUnseen                    // a response that nobody wants to see
	resultUnavailable               // nobody serves the processor or middleware
	resultDeadline                  // no answer in time
	resultError                     // any other failure
	results
)

func (r result) String() string {
	return [results]string{"ok", "not_allowed", "unseen", "unavailable", "deadline", "error"}[r]
}

// counts is how many messages had each result.
type counts [results]atomic.Int64

func (c *counts) add(r result) { c[r].Add(1) }

// failures counts what went wrong in a matchFunc.
type failures struct{ threw, limit atomic.Int64 }

func (f *failures) add(err error) {
	if errors.Is(err, errScriptLimit) {
		f.limit.Add(1)
	} else {
		f.threw.Add(1)
	}
}

// observe shows the counts of s on meter.
func (s *Service) observe(meter metric.Meter, processors []*processor) error {
	requests, err := meter.Int64ObservableCounter("routr.dispatcher.requests",
		metric.WithDescription("Requests, and responses in flight, that were dispatched, by result."))
	if err != nil {
		return err
	}
	failed, err := meter.Int64ObservableCounter("routr.dispatcher.match.failures",
		metric.WithDescription("Calls of a matchFunc that threw, or were stopped after "+scriptLimit.String()+"."))
	if err != nil {
		return err
	}
	var byResult [results]metric.ObserveOption
	for r := range results {
		byResult[r] = metric.WithAttributeSet(attribute.NewSet(attribute.String("result", r.String())))
	}
	_, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for r := range results {
			o.ObserveInt64(requests, s.counts[r].Load(), byResult[r])
		}
		for _, p := range processors {
			if p.script != nil {
				ref := attribute.String("processor", p.ref)
				o.ObserveInt64(failed, p.failures.threw.Load(), metric.WithAttributes(ref, attribute.String("reason", "threw")))
				o.ObserveInt64(failed, p.failures.limit.Load(), metric.WithAttributes(ref, attribute.String("reason", "limit")))
			}
		}
		return nil
	}, requests, failed)
	return err
}

// seldom is true at most once a minute, so that a stranger's messages cannot fill the log.
type seldom struct{ last atomic.Int64 }

func (s *seldom) now() bool {
	now, last := time.Now().UnixNano(), s.last.Load()
	return (last == 0 || now-last >= int64(time.Minute)) && s.last.CompareAndSwap(last, now)
}
