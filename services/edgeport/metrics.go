package edgeport

import (
	"context"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/routr-fabric/routr/services/edgeport/resolver"
)

// counts are what the EdgePort itself counts; its layers have their own.
type counts struct {
	malformed atomic.Int64
}

// observe registers the totals of the proxy, its transactions and its resolver with the meter, which reads them when it
// is asked.
func (e *EdgePort) observe(names *resolver.Counts) error {
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
	lookups, err := meter.Int64ObservableCounter("routr.edgeport.resolver.events", metric.WithDescription("Look-ups of names, and what they took"))
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
		{requests, attr("result", "looped"), &own.Looped},
		{requests, attr("result", "dispatched"), &own.Dispatched},
		{requests, attr("result", "in_dialog"), &own.InDialog},
		{requests, attr("result", "unavailable"), &own.Unavailable},
		{events, attr("event", "via_mended"), &own.Mended},
		{requests, attr("result", "drained"), &own.Drained},
		{requests, attr("result", "stray_ack"), &own.StrayAcks},
		{events, attr("event", "retransmitted"), &tx.Retransmitted},
		{events, attr("event", "absorbed"), &tx.Absorbed},
		{events, attr("event", "stray_response"), &tx.StrayResponses},
		{events, attr("event", "stray_cancel"), &tx.StrayCancels},
		{events, attr("event", "timed_out"), &tx.TimedOut},
		{events, attr("event", "transport_error"), &tx.TransportErrors},
		{events, attr("event", "response_too_large"), &tx.TooLarge},
		{events, attr("event", "flow_closed"), &e.flows.counts.told},
		{events, attr("event", "flow_closed_untold"), &e.flows.counts.untold},
		{events, attr("event", "flow_unremembered"), &e.flows.counts.unremembered},
		{live, attr("side", "server"), &tx.Servers},
		{live, attr("side", "client"), &tx.Clients},
		{lookups, attr("event", "lookup"), &names.Lookups},
		{lookups, attr("event", "shared"), &names.Shared},
		{lookups, attr("event", "cached"), &names.Cached},
		{lookups, attr("event", "refused"), &names.Refused},
		{lookups, attr("event", "failed"), &names.Failed},
		{lookups, attr("event", "query"), &names.Queries},
		{lookups, attr("event", "silent"), &names.Silent},
		{lookups, attr("event", "tcp"), &names.TCP},
		{lookups, attr("event", "garbage"), &names.Garbage},
		{lookups, attr("event", "stale"), &names.Stale},
		{lookups, attr("event", "evicted"), &names.Evicted},
		{lookups, attr("event", "deferred"), &names.Deferred},
	}
	_, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, t := range totals {
			o.ObserveInt64(t.instrument, t.value.Load(), t.label)
		}
		return nil
	}, requests, events, live, lookups)
	return err
}
