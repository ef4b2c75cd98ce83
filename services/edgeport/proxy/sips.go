package proxy

import "github.com/routr-fabric/routr/services/edgeport/transport"

// secured is the transport of a sips URI that names protocol: what TLS runs over (RFC 3261 26.2.2).
func secured(protocol transport.Protocol) transport.Protocol {
	switch protocol {
	case transport.WS, transport.WSS:
		return transport.WSS
	default:
		return transport.TLS
	}
}
