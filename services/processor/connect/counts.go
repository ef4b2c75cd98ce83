package connect

import (
	"context"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
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

// observe makes the counts readable as the counter routr.connect.requests.
func (c *counts) observe(meter metric.Meter) error {
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
	return err
}
