package transport

import (
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

func TestMetrics(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	cfg := Config{Listen: []Listen{at(TCP, "127.0.0.1:0"), at(UDP, "127.0.0.1:0")}}
	e := &edge{got: make(chan received, 10), closed: make(chan Flow, 10)}
	e.Layer = New(cfg, func(f Flow, data []byte) { e.got <- received{f, string(data)} }, func(f Flow) { e.closed <- f },
		slog.New(slog.DiscardHandler), sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test"))
	if err := e.Listen(); err != nil {
		t.Fatal(err)
	}
	e.run(t)

	a := text("a", 0)
	c := e.client(t, "127.0.0.1")
	write(t, c, a+a)
	e.want(t, a)
	e.want(t, a).Send([]byte("four"), nil)
	bad := e.client(t, "127.0.0.1")
	write(t, bad, "?")
	e.wantClosed(t, Malformed)
	u := udpClient(t, "127.0.0.1")
	datagram(t, u, e.Points()[1].Addr, "\r\n\r\n")
	datagram(t, u, e.Points()[1].Addr, "abc")
	e.want(t, "abc").Send([]byte("de"), nil)

	var data metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &data); err != nil {
		t.Fatal(err)
	}
	got := make(map[string]int64) // those that are not 0
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			var points []metricdata.DataPoint[int64]
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				points = d.DataPoints
			case metricdata.Gauge[int64]:
				points = d.DataPoints
			}
			for _, p := range points {
				if p.Value != 0 {
					got[m.Name+"{"+p.Attributes.Encoded(attribute.DefaultEncoder())+"}"] = p.Value
				}
			}
		}
	}
	want := map[string]int64{
		"routr.edgeport.transport.messages{direction=in,protocol=tcp}":               2,
		"routr.edgeport.transport.messages{direction=out,protocol=tcp}":              1,
		"routr.edgeport.transport.messages{direction=in,protocol=udp}":               1,
		"routr.edgeport.transport.messages{direction=out,protocol=udp}":              1,
		"routr.edgeport.transport.bytes{direction=in,protocol=tcp}":                  int64(2*len(a) + 1),
		"routr.edgeport.transport.bytes{direction=out,protocol=tcp}":                 4,
		"routr.edgeport.transport.bytes{direction=in,protocol=udp}":                  3,
		"routr.edgeport.transport.bytes{direction=out,protocol=udp}":                 2,
		"routr.edgeport.transport.keepalives{protocol=udp}":                          1,
		"routr.edgeport.transport.connections.opened{direction=in,protocol=tcp}":     2,
		"routr.edgeport.transport.connections.open{protocol=tcp}":                    1,
		"routr.edgeport.transport.connections.closed{protocol=tcp,reason=malformed}": 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	for r := alive + 1; r < reasons; r++ {
		if r.String() == "" {
			t.Errorf("reason %d has no name", r)
		}
	}
	for r := none + 1; r < refusals; r++ {
		if r.String() == "" {
			t.Errorf("refusal %d has no name", r)
		}
	}
}
