package transport

import "strings"

// Protocol is a SIP transport. The values are those of Transport in common.proto, where 3 is SCTP.
type Protocol uint8

// The transports of RFC 3261 18 and RFC 7118.
const (
	UDP Protocol = 0
	TCP Protocol = 1
	TLS Protocol = 2
	WS  Protocol = 4
	WSS Protocol = 5
)

// Bus is how EdgePorts reach each other (Peer). No message on a network names it.
const Bus Protocol = 6

// protocols is how many values a table with an entry for each Protocol of the network needs.
const protocols = 6

// String is the protocol as a Via spells it (RFC 3261 25.1), empty for a value that is none of the constants.
func (p Protocol) String() string {
	switch p {
	case UDP:
		return "UDP"
	case TCP:
		return "TCP"
	case TLS:
		return "TLS"
	case WS:
		return "WS"
	case WSS:
		return "WSS"
	case Bus:
		return "BUS"
	}
	return ""
}

// Reliable says whether the protocol delivers every byte in order or none, so that nothing is sent twice
// (RFC 3261 17). The bus loses what is on its way while a server of NATS goes and another one takes over.
func (p Protocol) Reliable() bool { return p != UDP && p != Bus }

// Secure says whether the protocol is encrypted.
func (p Protocol) Secure() bool { return p == TLS || p == WSS }

// ParseProtocol reads the transport of a Via, of a transport parameter or of a configuration, in any case.
func ParseProtocol(s string) (Protocol, bool) {
	for _, p := range [...]Protocol{UDP, TCP, TLS, WS, WSS} {
		// The length keeps out what only Unicode folds to an S.
		if name := p.String(); len(s) == len(name) && strings.EqualFold(s, name) {
			return p, true
		}
	}
	return 0, false
}

// lower is the protocol as errors, logs and metrics spell it.
func (p Protocol) lower() string { return strings.ToLower(p.String()) }
