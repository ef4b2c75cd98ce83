package connect

import (
	"context"
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/routr-fabric/routr/bus/bustest"
)

func TestCounts(t *testing.T) {
	reader := metric.NewManualReader()
	conn := bustest.Connect(t)
	s, err := New(testConfig(), testResources(), conn, slog.New(slog.DiscardHandler), metric.NewMeterProvider(metric.WithReader(reader)).Meter("test"))
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	f := &fabric{t: t, conn: conn}
	f.send(request{})
	f.send(request{method: "INVITE", uri: "sip:1001@sip.local"})
	f.send(request{uri: "sip:elsewhere"})
	f.call(phone{}, request{}) // nobody serves the location
	f.call(phone{password: "guess"}, request{})

	var data metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &data); err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, m := range data.ScopeMetrics[0].Metrics {
		for _, p := range m.Data.(metricdata.Sum[int64]).DataPoints {
			for _, label := range p.Attributes.ToSlice() {
				got[m.Name+" "+label.Value.AsString()] = p.Value
			}
		}
	}
	const name = "routr.connect.requests "
	want := map[string]int64{
		name + "registered": 0, name + "forwarded": 0, name + "challenged": 5, name + "refused": 1, name + "unavailable": 1, name + "failed": 0,
		"routr.connect.offences wrong-credentials": 1, "routr.connect.offences forged-nonce": 0, "routr.connect.offences too-many-tries": 0,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}
