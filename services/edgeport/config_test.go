package edgeport

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDefaultIsValid(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Errorf("Default().Validate() = %v, want nil", err)
	}
}

func TestConfigValidate(t *testing.T) {
	tests := []struct {
		name string
		in   func(*Spec)
		want string
	}{
		{"the specification's sample", func(s *Spec) {
			s.ExternalAddrs, s.Localnets = []string{"165.227.217.102"}, []string{"172.17.0.2/16"}
			s.Transport = []Transport{{"tcp", "192.168.1.148", 5060}, {"udp", "", 5060}}
			s.Processor.Addr = "dispatcher:51901"
		}, ""},
		{"names, IPv6, single addresses", func(s *Spec) {
			s.BindAddr, s.ExternalAddrs, s.Localnets = "::", []string{"sip.example.com", "2001:db8::1"}, []string{"10.0.0.1", "fd00::/8"}
		}, ""},
		{"free ports", func(s *Spec) { s.Transport = []Transport{{"udp", "", 0}, {"udp", "", 0}} }, ""},
		{"one port, two addresses", func(s *Spec) {
			s.Transport = []Transport{{"udp", "127.0.0.1", 5060}, {"udp", "127.0.0.2", 5060}}
		}, ""},
		{"extension method", func(s *Spec) { s.Methods = []string{"INVITE", "x.Ping"} }, ""},
		{"external address", func(s *Spec) { s.ExternalAddrs = []string{"203.0.113.7", "300.1.1.1", "a b"} },
			"spec.externalAddrs[1]: \"300.1.1.1\" is no IP address or host name, want one such as 203.0.113.7\n" +
				`spec.externalAddrs[2]: "a b" is no IP address or host name, want one such as 203.0.113.7`},
		{"localnet", func(s *Spec) { s.Localnets = []string{"10.0.0.0/33"} },
			`spec.localnets[0]: "10.0.0.0/33" is no network, want one such as 192.168.1.2/24`},
		{"method", func(s *Spec) { s.Methods = []string{"INV ITE", "invite", ""} },
			"spec.methods[0]: \"INV ITE\" is no SIP method, want a token such as INVITE\n" +
				"spec.methods[1]: \"invite\" is not INVITE, as methods are case-sensitive (RFC 3261 7.1); write INVITE\n" +
				`spec.methods[2]: "" is no SIP method, want a token such as INVITE`},
		{"address of a transport", func(s *Spec) { s.Transport = []Transport{{"udp", "eth0", 5060}} },
			`spec.transport[0].bindAddr: "eth0" is no IP address, want one such as 0.0.0.0`},
		{"one address and all addresses", func(s *Spec) {
			s.Transport = []Transport{{"udp", "127.0.0.1", 5060}, {"UDP", "", 5060}}
		}, "spec.transport[1].port: 5060 is already used by spec.transport[0]"},
		{"tls on the port of tcp", func(s *Spec) {
			s.Transport = []Transport{{"tcp", "", 5060}, {"tls", "", 5060}}
		}, "spec.transport[1].protocol: tls is not served yet; udp and tcp are\n" +
			"spec.transport[1].port: 5060 is already used by spec.transport[0]"},
		{"address of the dispatcher", func(s *Spec) { s.Processor.Addr = "dispatcher" },
			`spec.processor.addr: "dispatcher" is no address, want nats://, nats://host:port, host:port or grpc://host:port`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := Default()
			tt.in(&c.Spec)
			got := ""
			if err := c.Validate(); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Validate() differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestListenAddr(t *testing.T) {
	s := Spec{BindAddr: "::1", Localnets: []string{"172.17.0.2/16", "10.0.0.1"}}
	tests := []struct {
		in   Transport
		want string
	}{
		{Transport{"udp", "", 5060}, "[::1]:5060"},
		{Transport{"tcp", "127.0.0.1", 0}, "127.0.0.1:0"},
	}
	for _, tt := range tests {
		if got := s.ListenAddr(tt.in); got != tt.want {
			t.Errorf("ListenAddr(%+v) = %s, want %s", tt.in, got, tt.want)
		}
	}
	var nets []string
	for _, n := range s.Nets() {
		nets = append(nets, n.String())
	}
	if diff := cmp.Diff([]string{"172.17.0.2/16", "10.0.0.1/32"}, nets); diff != "" {
		t.Errorf("Nets() differs (-want +got):\n%s", diff)
	}
}
