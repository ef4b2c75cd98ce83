package location

import (
	"context"
	"slices"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/routr-fabric/routr/bus"
)

// operation is one of those that the service has.
type operation int

const (
	opAdd operation = iota
	opFind
	opRemove
	opFlowClosed
	nOperations
)

// counts are the requests by operation and code of their answer. They are read when someone asks, so that counting
// costs next to nothing.
type counts [nOperations][nCodes]atomic.Int64

const nCodes = 6

// codes are those that an answer can have; the last one stands for all others.
func (c *counts) codes() [nCodes]bus.Code {
	return [nCodes]bus.Code{"", bus.NotFound, bus.InvalidArgument, bus.FailedPrecondition, bus.Unavailable, bus.Internal}
}

func (c *counts) add(op operation, code bus.Code) {
	codes := c.codes()
	i := slices.Index(codes[:nCodes-1], code)
	if i < 0 {
		i = nCodes - 1
	}
	c[op][i].Add(1)
}

// register tells meter of c and of the size of t.
func (c *counts) register(meter metric.Meter, t *table) error {
	requests, err := meter.Int64ObservableCounter("routr.location.requests",
		metric.WithDescription("requests to the Location Service, by operation and code of the answer"))
	if err != nil {
		return err
	}
	aors, err := meter.Int64ObservableGauge("routr.location.aors",
		metric.WithDescription("addresses-of-record that this instance holds bindings of"))
	if err != nil {
		return err
	}
	_, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(aors, t.len())
		for op, name := range [nOperations]string{bus.LocationAdd, bus.LocationFind, bus.LocationRemove, "flow_closed"} {
			for i, code := range c.codes() {
				n := c[op][i].Load()
				if n == 0 {
					continue
				}
				if code == "" {
					code = "OK"
				}
				o.ObserveInt64(requests, n, metric.WithAttributes(
					attribute.String("operation", name), attribute.String("code", string(code))))
			}
		}
		return nil
	}, requests, aors)
	return err
}
