package edgeport

import (
	"context"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// counts are what the EdgePort itself counts; its layers have their own.
type counts struct {
	malformed atomic.Int64
}

// observe registers the totals of the proxy and its transactions with the meter, which reads them when it is asked.
func (e *EdgePort) observe() error {
	meter := e.meter
	requests, err := meter.Int64ObservableCounter("routr.edgeport.requests", metric.WithDescription("SIP requests by what became of them"))
	if err != nil {
		return err
	}
	events, err := meter.Int64ObservableCounter("routr.edgeport.transaction.events", metric.WithDescription("What happened in the transaction layer"))
	if err != nil {
		return err
	}
	live, err := meter.Int64ObservableGauge("routr.edgeport.transactions", metric.WithDescription("Live transactions"))
	if err != nil {
		return err
	}
	attr := func(key, value string) metric.MeasurementOption {
		return metric.WithAttributes(attribute.String(key, value))
	}
	type total struct {
		instrument metric.Int64Observable
		label      metric.MeasurementOption
		value      *atomic.Int64
	}
	own, tx := e.proxy.Counts(), e.proxy.Transactions()
	totals := []total{
		{requests, attr("result", "malformed"), &e.counts.malformed},
		{requests, attr("result", "refused"), &own.Refused},
		{requests, attr("result", "discarded"), &own.Discarded},
		{requests, attr("result", "dispatched"), &own.Dispatched},
		{requests, attr("result", "in_dialog"), &own.InDialog},
		{requests, attr("result", "unavailable"), &own.Unavailable},
		{events, attr("event", "via_mended"), &own.Mended},
		{requests, attr("result", "stray_ack"), &own.StrayAcks},
		{events, attr("event", "retransmitted"), &tx.Retransmitted},
		{events, attr("event", "absorbed"), &tx.Absorbed},
		{events, attr("event", "stray_response"), &tx.StrayResponses},
		{events, attr("event", "stray_cancel"), &tx.StrayCancels},
		{events, attr("event", "timed_out"), &tx.TimedOut},
		{events, attr("event", "transport_error"), &tx.TransportErrors},
		{live, attr("side", "server"), &tx.Servers},
		{live, attr("side", "client"), &tx.Clients},
	}
	_, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, t := range totals {
			o.ObserveInt64(t.instrument, t.value.Load(), t.label)
		}
		return nil
	}, requests, events, live)
	return err
}
