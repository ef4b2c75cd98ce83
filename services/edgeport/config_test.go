package edgeport

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDefaultIsValid(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Errorf("Default().Validate() = %v, want nil", err)
	}
}

// A ref is part of a token, whose bytes count; the schema counts characters.
func TestConfigRef(t *testing.T) {
	for ref, want := range map[string]string{
		strings.Repeat("a", 64): "",
		"":                      `ref: "" has 0 bytes, want 1 to 64`,
		strings.Repeat("ä", 33): `ref: "` + strings.Repeat("ä", 33) + `" has 66 bytes, want 1 to 64`,
	} {
		c, got := Default(), ""
		c.Ref = ref
		if err := c.Validate(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("Validate() = %q, want %q", got, want)
		}
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
			s.Transport = []Transport{{Protocol: "tcp", BindAddr: "192.168.1.148", Port: 5060}, {Protocol: "udp", Port: 5060}}
			s.Processor.Addr = "dispatcher:51901"
		}, ""},
		{"names, IPv6, single addresses", func(s *Spec) {
			s.BindAddr, s.ExternalAddrs, s.Localnets = "::", []string{"sip.example.com", "2001:db8::1"}, []string{"10.0.0.1", "fd00::/8"}
		}, ""},
		{"free ports", func(s *Spec) { s.Transport = []Transport{{Protocol: "udp", Port: 0}, {Protocol: "udp", Port: 0}} }, ""},
		{"one port, two addresses", func(s *Spec) {
			s.Transport = []Transport{{Protocol: "udp", BindAddr: "127.0.0.1", Port: 5060}, {Protocol: "udp", BindAddr: "127.0.0.2", Port: 5060}}
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
		{"address of a transport", func(s *Spec) { s.Transport = []Transport{{Protocol: "udp", BindAddr: "eth0", Port: 5060}} },
			`spec.transport[0].bindAddr: "eth0" is no IP address, want one such as 0.0.0.0`},
		{"one address and all addresses", func(s *Spec) {
			s.Transport = []Transport{{Protocol: "udp", BindAddr: "127.0.0.1", Port: 5060}, {Protocol: "UDP", Port: 5060}}
		}, "spec.transport[1].port: 5060 is already used by spec.transport[0]"},
		{"tls on the port of tcp", func(s *Spec) {
			s.Transport = []Transport{{Protocol: "tcp", Port: 5060}, {Protocol: "tls", Port: 5060}}
		}, "spec.transport[1].port: 5060 is already used by spec.transport[0]"},
		{"all five", func(s *Spec) {
			s.Transport = []Transport{
				{Protocol: "udp", Port: 5060}, {Protocol: "tcp", Port: 5060, ProxyProtocol: ProxyProtocol{From: []string{"10.0.0.0/8", "::1"}}},
				{Protocol: "TLS", Port: 5061, TLS: TransportTLS{CertFile: "c", KeyFile: "k", ClientCAFile: "ca", ClientAuth: "require"}},
				{Protocol: "ws", Port: 5062, Origins: []string{"https://phone.example.com", "http://localhost:8080", "https://[::1]"}},
				{Protocol: "wss", Port: 5063, TLS: TransportTLS{CertFile: "c", KeyFile: "c"}},
			}
		}, ""},
		{"protocol", func(s *Spec) { s.Transport = []Transport{{Protocol: "sctp", Port: 5060}} },
			`spec.transport[0].protocol: "sctp" is not known, want udp, tcp, tls, ws or wss`},
		{"what is for other protocols", func(s *Spec) {
			s.Transport = []Transport{{Protocol: "udp", TLS: TransportTLS{CertFile: "c", KeyFile: "c"}, Origins: []string{"https://a"}, ProxyProtocol: ProxyProtocol{From: []string{"::1"}}}}
		}, "spec.transport[0].tls: udp has no certificates, want tls or wss as the protocol\n" +
			"spec.transport[0].origins: udp has no origins, want ws or wss as the protocol\n" +
			"spec.transport[0].proxyProtocol: udp has no connections, want another protocol"},
		{"half a certificate", func(s *Spec) {
			s.Transport = []Transport{{Protocol: "tls", TLS: TransportTLS{CertFile: "c", ClientAuth: "require"}}, {Protocol: "wss", TLS: TransportTLS{KeyFile: "k", ClientCAFile: "ca"}}}
		}, "spec.transport[0].tls.keyFile: is missing, want the key of tls.certFile\n" +
			"spec.transport[0].tls.clientCAFile: is missing, want the authorities of the clients' certificates with tls.clientAuth\n" +
			"spec.transport[1].tls.certFile: is missing, want the certificate of tls.keyFile\n" +
			"spec.transport[1].tls.clientAuth: is missing, want request or require with tls.clientCAFile"},
		{"values", func(s *Spec) {
			s.Transport = []Transport{{Protocol: "wss", TLS: TransportTLS{ClientAuth: "maybe"}, Origins: []string{"https://a/", "phone.example.com"}, ProxyProtocol: ProxyProtocol{From: []string{"lb"}}}}
		}, "spec.transport[0].tls.clientAuth: \"maybe\" is not known, want request or require\n" +
			"spec.transport[0].origins[0]: \"https://a/\" is no origin, want one such as https://phone.example.com\n" +
			"spec.transport[0].origins[1]: \"phone.example.com\" is no origin, want one such as https://phone.example.com\n" +
			"spec.transport[0].proxyProtocol.from[0]: \"lb\" is no network, want one such as 10.0.0.0/8"},
		{"a guard", func(s *Spec) {
			s.Guard.Allow, s.Guard.Deny = []string{"203.0.113.0/24", "::1"}, []string{"2001:db8::/32"}
			s.Guard.Feed = Feed{From: "https://apiban.org/api/KEY/banned", Interval: 60}
			s.Guard.Rate, s.Guard.BanTime, s.Guard.MaxBanTime, s.Guard.Scanners = 0, 0, 0, nil
		}, ""},
		{"networks of the guard", func(s *Spec) { s.Guard.Allow = []string{"10.0.0.0/8", "office"} },
			`spec.guard.allow[1]: "office" is no network, want one such as 203.0.113.0/24`},
		{"networks that are denied", func(s *Spec) { s.Guard.Deny, s.Guard.DenyFiles = []string{"10.0.0.0/33"}, []string{"a", ""} },
			"spec.guard.deny[0]: \"10.0.0.0/33\" is no network, want one such as 203.0.113.0/24\n" +
				"spec.guard.denyFiles[1]: is empty, want a file"},
		{"the feed of the guard", func(s *Spec) { s.Guard.Feed = Feed{From: "http://apiban.org/api/SECRET/banned", Interval: 5} },
			"spec.guard.feed.from: is of http, want https, or a file\n" +
				"spec.guard.feed.interval: 5 is out of range, want 60 to 604800 seconds"},
		{"numbers of the guard", func(s *Spec) {
			s.Guard = Guard{Rate: -1, Burst: 9, BanTime: 60, MaxBanTime: 30, Feed: Feed{Interval: 60}, Scanners: []string{"friendly-scanner", "a"}}
		},
			"spec.guard.rate: -1 is out of range, want 0 to 1000000 messages a second\n" +
				"spec.guard.burst: 9 is out of range, want 10 to 10000000 messages\n" +
				"spec.guard.maxBanTime: 30 is out of range, want banTime, which is 60, to 31536000 seconds\n" +
				`spec.guard.scanners[1]: "a" would be in the name of many phones, want three letters or more`},
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
		{Transport{Protocol: "udp", Port: 5060}, "[::1]:5060"},
		{Transport{Protocol: "tcp", BindAddr: "127.0.0.1", Port: 0}, "127.0.0.1:0"},
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
