package proxy

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"net/netip"

	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// token is what a Record-Route of ours says to ourselves, in the user part of its URI: how to route the rest of the
// dialog with no state kept. It is signed together with the Call-ID, so only a dialog that we routed once has one, and
// nobody can use a Route of his own making to send requests through us.
//
// A side of the call that can be reached at its Contact needs nothing: its requests go where the Request-URI says, so
// that a target refresh works. A side that cannot - behind a NAT, or on a connection that it opened - has its flow in
// here.
type token struct {
	callerTag uint32 // of the dialog-forming request's From tag: which way a request goes
	caller    hop    // the flow to the caller; zero: its Contact will do
	callee    hop    // the flow to the callee; zero: its Contact will do
}

// hop is a flow that can be named in a token.
type hop struct {
	protocol transport.Protocol
	remote   netip.AddrPort
	id       string // of the connection; empty for UDP
}

func hopOf(flow transport.Flow) hop {
	return hop{protocol: flow.Protocol(), remote: flow.Remote(), id: connectionID(flow)}
}

// connectionID is the ID of flow, and empty for UDP, whose addresses say as much.
func connectionID(flow transport.Flow) string {
	if flow.Protocol() == transport.UDP {
		return ""
	}
	return flow.ID()
}

func (h hop) valid() bool { return h.remote.IsValid() }

// The text of a token is the base64url form of: version, flags, if a hop follows the caller's tag, the hops, and the
// first ten bytes of the HMAC-SHA256 over all that and the Call-ID.
const (
	tokenVersion = 1
	macSize      = 10
	hasCaller    = 1
	hasCallee    = 2
	maxToken     = 160 // of a valid token's bytes; two connections to IPv6 addresses take less
	tokenText    = (maxToken*8 + 5) / 6
)

var tokenEncoding = base64.RawURLEncoding

// mac is a keyed HMAC that is reused.
type mac struct {
	key  []byte
	hash hash.Hash
	sum  [sha256.Size]byte
	buf  [maxToken]byte
}

func (p *Proxy) mac(key []byte) *mac {
	m, _ := p.macs.Get().(*mac)
	if m == nil || string(m.key) != string(key) {
		m = &mac{key: key, hash: hmac.New(sha256.New, key)}
	}
	m.hash.Reset()
	return m
}

func (m *mac) of(token, callID []byte) []byte {
	m.hash.Write(token)
	m.hash.Write(callID)
	return m.hash.Sum(m.sum[:0])[:macSize]
}

// appendToken appends the signed text of t to dst.
func (p *Proxy) appendToken(dst []byte, t token, callID []byte) []byte {
	m := p.mac(p.keys.Current())
	defer p.macs.Put(m)
	b := append(m.buf[:0], tokenVersion, 0)
	if t.caller.valid() || t.callee.valid() {
		b = binary.BigEndian.AppendUint32(b, t.callerTag)
	}
	if t.caller.valid() {
		b[1] |= hasCaller
		b = t.caller.append(b)
	}
	if t.callee.valid() {
		b[1] |= hasCallee
		b = t.callee.append(b)
	}
	b = append(b, m.of(b, callID)...)
	return tokenEncoding.AppendEncode(dst, b)
}

// readToken is the token in the user part of a URI. It is not ok if we did not sign it for this Call-ID.
func (p *Proxy) readToken(text, callID []byte) (t token, ok bool) {
	if n := tokenEncoding.DecodedLen(len(text)); n < 2+macSize || n > maxToken {
		return token{}, false
	}
	var space [maxToken]byte
	n, err := tokenEncoding.Decode(space[:], text)
	if err != nil || n < 2+macSize || space[0] != tokenVersion {
		return token{}, false
	}
	body, sum := space[:n-macSize], space[n-macSize:n]
	for _, key := range p.keys.All() {
		m := p.mac(key)
		ok = hmac.Equal(m.of(body, callID), sum)
		p.macs.Put(m)
		if ok {
			return parseToken(body)
		}
	}
	return token{}, false
}

// parseToken reads what we signed.
func parseToken(b []byte) (t token, ok bool) {
	flags := b[1]
	b = b[2:]
	if flags&(hasCaller|hasCallee) != 0 {
		if len(b) < 4 {
			return token{}, false
		}
		t.callerTag, b = binary.BigEndian.Uint32(b), b[4:]
	}
	if flags&hasCaller != 0 {
		if t.caller, b, ok = parseHop(b); !ok {
			return token{}, false
		}
	}
	if flags&hasCallee != 0 {
		if t.callee, b, ok = parseHop(b); !ok {
			return token{}, false
		}
	}
	return t, len(b) == 0
}

func (h hop) append(b []byte) []byte {
	addr := h.remote.Addr().AsSlice()
	b = append(b, byte(h.protocol), byte(len(addr)))
	b = append(b, addr...)
	b = binary.BigEndian.AppendUint16(b, h.remote.Port())
	b = append(b, byte(len(h.id)))
	return append(b, h.id...)
}

func parseHop(b []byte) (h hop, rest []byte, ok bool) {
	if len(b) < 2 {
		return hop{}, nil, false
	}
	h.protocol = transport.Protocol(b[0])
	n := int(b[1])
	b = b[2:]
	if len(b) < n+3 {
		return hop{}, nil, false
	}
	addr, ok := netip.AddrFromSlice(b[:n])
	h.remote = netip.AddrPortFrom(addr, binary.BigEndian.Uint16(b[n:]))
	n, b = int(b[n+2]), b[n+3:]
	if !ok || len(b) < n {
		return hop{}, nil, false
	}
	h.id = string(b[:n])
	return h, b[n:], true
}

// tagHash is what a token keeps of a From tag. It need not be secret: it only tells two tags of one dialog apart.
func tagHash(tag []byte) uint32 {
	h := uint32(2166136261) // FNV-1a
	for _, c := range tag {
		h = (h ^ uint32(c)) * 16777619
	}
	return h
}
