package resolver

import "testing"

// G24: what stacks leave out of RFC 3263: NAPTR before SRV before A, every target of a set, and the service of sips over
// TLS.
func TestG24Locate(t *testing.T) {
	z := serve(t, world)
	b := newBench(t, Config{Servers: []string{z.addr}})
	for _, tt := range []struct {
		name string
		q    Query
		want string
	}{
		{"NAPTR before A, of the first order alone", Query{Host: "full.test"}, "tls 192.0.2.10:5071"},
		{"all targets of SRV, by priority", Query{Host: "srv.test", Transport: "udp"}, "udp 192.0.2.52:5080, udp 192.0.2.51:5060"},
		{"_sips._tcp for sips", Query{Host: "srv.test", Secure: true, Transport: "tcp"}, "tls 192.0.2.52:5061"},
		{"no secure next hop becomes an insecure one", Query{Host: "order.test", Secure: true}, "tls 192.0.2.20:5061"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := b.find(tt.q)
			if text(got) != tt.want || err != nil {
				t.Errorf("Lookup(%+v) = %s, %v, want %s", tt.q, text(got), err, tt.want)
			}
		})
	}
}
