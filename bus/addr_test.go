package bus

import "testing"

func TestParseAddr(t *testing.T) {
	tests := []struct {
		name, in string
		want     Addr
		err      string
	}{
		{"empty", "", Addr{Kind: AddrBus}, ""},
		{"own bus", "nats://", Addr{Kind: AddrBus}, ""},
		{"bus", "nats://10.0.0.1:4333", Addr{AddrBus, "10.0.0.1:4333"}, ""},
		{"bus, port of NATS", "nats://nats.example.com", Addr{AddrBus, "nats.example.com:4222"}, ""},
		{"bus, IPv6", "NATS://[::1]:4222", Addr{AddrBus, "[::1]:4222"}, ""},
		{"gRPC as the specification prints it", "dispatcher:51901", Addr{AddrGRPC, "dispatcher:51901"}, ""},
		{"gRPC", "grpc://connect_1:51904", Addr{AddrGRPC, "connect_1:51904"}, ""},
		{"no port", "dispatcher", Addr{}, `"dispatcher" is no address, want nats://, nats://host:port, host:port or grpc://host:port`},
		{"no host", ":51901", Addr{}, `":51901" is no address, want nats://, nats://host:port, host:port or grpc://host:port`},
		{"gRPC without an address", "grpc://", Addr{}, `"grpc://" is no address, want nats://, nats://host:port, host:port or grpc://host:port`},
		{"other scheme", "http://dispatcher:80", Addr{}, `"http://dispatcher:80" has the scheme http://, want nats://, nats://host:port, host:port or grpc://host:port`},
		{"user", "nats://me:pass@host:4222", Addr{}, `"nats://me:pass@host:4222" is no address, want nats://, nats://host:port, host:port or grpc://host:port`},
		{"path", "nats://host/x:4222", Addr{}, `"nats://host/x:4222" is no address, want nats://, nats://host:port, host:port or grpc://host:port`},
		{"port 0", "connect:0", Addr{}, `"connect:0" has the port "0", want 1 to 65535`},
		{"port too big", "connect:70000", Addr{}, `"connect:70000" has the port "70000", want 1 to 65535`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseAddr(tt.in)
			if text := errorText(err); got != tt.want || text != tt.err {
				t.Errorf("ParseAddr(%q) = %+v, %q, want %+v, %q", tt.in, got, text, tt.want, tt.err)
			}
			if err != nil {
				return
			}
			if again, err := ParseAddr(got.String()); again != got || err != nil {
				t.Errorf("ParseAddr(%q) = %+v, %v, want %+v", got.String(), again, err, got)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
