package edgeport

import (
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/services/edgeport/message"
	"github.com/routr-fabric/routr/services/location"
)

// What a REGISTER as it comes from the wire is worth, where an EdgePort reads what a registrar decides on.
func TestRegisterOnTheWire(t *testing.T) {
	tests := []struct {
		name   string
		fields []string
		want   []string // Contact values of the 200
	}{
		{"R7 parameter", []string{"Contact: <sip:b@192.0.2.1>;expires=700", "Expires: 800"}, []string{"<sip:b@192.0.2.1>;expires=700"}},
		{"R7 header", []string{"Contact: <sip:b@192.0.2.1>", "Expires: 800"}, []string{"<sip:b@192.0.2.1>;expires=800"}},
		{"R7 default", []string{"Contact: <sip:b@192.0.2.1>"}, []string{"<sip:b@192.0.2.1>;expires=3600"}},
		{"R7 2^32-1", []string{"Contact: <sip:b@192.0.2.1>;expires=4294967295"}, []string{"<sip:b@192.0.2.1>;expires=7200"}},
		{"R7 2^32", []string{"Contact: <sip:b@192.0.2.1>;expires=4294967296"}, []string{"<sip:b@192.0.2.1>;expires=3600"}},
		{"R7 negative", []string{"Contact: <sip:b@192.0.2.1>;expires=-1"}, []string{"<sip:b@192.0.2.1>;expires=3600"}},
		{"R7 garbage", []string{"Contact: <sip:b@192.0.2.1>;expires=soon", "Expires: later"}, []string{"<sip:b@192.0.2.1>;expires=3600"}},
		{"R9 above the maximum", []string{"Contact: <sip:b@192.0.2.1>;expires=7201"}, []string{"<sip:b@192.0.2.1>;expires=7200"}},
		{"R10 q", []string{"Contact: <sip:b@192.0.2.1>;expires=60;q=0.25, <sip:c@192.0.2.1>;expires=60;q=0.5"},
			[]string{"<sip:c@192.0.2.1>;expires=60;q=0.500", "<sip:b@192.0.2.1>;expires=60;q=0.250"}},
		{"R10 q above 1", []string{"Contact: <sip:b@192.0.2.1>;expires=60;q=1.5"}, []string{"<sip:b@192.0.2.1>;expires=60"}},
		{"R10 q of garbage", []string{"Contact: <sip:b@192.0.2.1>;expires=60;q=high"}, []string{"<sip:b@192.0.2.1>;expires=60"}},
		{"R22 ;ob stays in the contact", []string{"Contact: <sip:b@192.0.2.1;ob>;expires=60"}, []string{"<sip:b@192.0.2.1;ob>;expires=60"}},
		{"P62 no gruu", []string{`Contact: <sip:b@192.0.2.1>;expires=60;+sip.instance="<urn:uuid:1>"`, "Supported: path, gruu, outbound"},
			[]string{`<sip:b@192.0.2.1>;expires=60;+sip.instance="<urn:uuid:1>"`}},
	}
	modes(t, func(t *testing.T, conn *bus.Conn) {
		s := registrar(t, conn, location.Cache{Provider: "memory"})
		for i, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				bob := udpClient(t)
				send := func(branch string, fields ...string) *message.Message {
					branch += strconv.Itoa(i) // the next bob may have the port of this one
					bob.send(s, bob.request(s, "REGISTER", "sip:example.com", "z9hG4bK"+branch,
						append(fields, "From: <sip:bob@example.com>;tag=bob", "Call-ID: "+branch+bob.addr())...))
					return bob.await("SIP/2.0 200")
				}
				send("all", "Contact: *", "Expires: 0")
				if diff := cmp.Diff(tt.want, values(send("one", tt.fields...), message.KindContact)); diff != "" {
					t.Errorf("Contact of the 200 (-want +got):\n%s", diff)
				}
			})
		}
	})
}
