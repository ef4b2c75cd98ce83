package connect

import (
	"context"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/routr-fabric/routr/services/processor"
)

// result is what became of a request.
type result int

const (
	registered result = iota
	forwarded
	challenged
	refused
	unavailable
	failed
	results
)

func (r result) String() string {
	return [...]string{"registered", "forwarded", "challenged", "refused", "unavailable", "failed"}[r]
}

// counts are the requests by result.
type counts [results]atomic.Int64

func (c *counts) add(r result) { c[r].Add(1) }

// observe makes the counts readable as the counters routr.connect.requests and routr.connect.offences.
func (s *Service) observe(meter metric.Meter) error {
	c := &s.counts
	var labels [results]metric.MeasurementOption
	for r := range results {
		labels[r] = metric.WithAttributeSet(attribute.NewSet(attribute.String("result", r.String())))
	}
	_, err := meter.Int64ObservableCounter("routr.connect.requests",
		metric.WithDescription("Requests answered by the Connect processor, by result."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			for r := range results {
				o.Observe(c[r].Load(), labels[r])
			}
			return nil
		}))
	if err != nil {
		return err
	}
	reason := func(text string) metric.MeasurementOption {
		return metric.WithAttributeSet(attribute.NewSet(attribute.String("reason", text)))
	}
	wrong, forged := reason(processor.OffenceWrongCredentials), reason(processor.OffenceForgedNonce)
	heldBack := reason("too-many-tries")
	_, err = meter.Int64ObservableCounter("routr.connect.offences",
		metric.WithDescription("Credentials refused by the Connect processor, by reason; too-many-tries were not looked at."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			d := s.digest.Load()
			if d == nil {
				return nil
			}
			seen := d.Offences()
			o.Observe(seen.WrongCredentials, wrong)
			o.Observe(seen.ForgedNonce, forged)
			o.Observe(seen.HeldBack, heldBack)
			return nil
		}))
	return err
}
