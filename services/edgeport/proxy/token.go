package proxy

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash"
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
	caller    string // the ID of the flow to the caller; empty: its Contact will do
	callee    string // the ID of the flow to the callee; empty: its Contact will do
	edge      string // the EdgePort that has to route it; empty: the one that the URI names
	opens     bool   // it is for one request outside a dialog, which another EdgePort hands to edge (peer.go)
}

// The text of a token is the base64url form of: version, flags, then what the flags tell of - the caller's tag, the flows,
// the EdgePort - and the first ten bytes of the HMAC-SHA256 over all that and the Call-ID.
const (
	tokenVersion = 2
	macSize      = 10
	hasCaller    = 1
	hasCallee    = 2
	hasEdge      = 4
	opens        = 8
	maxToken     = 448 // of a valid token's bytes; two UDP flows between IPv6 addresses with zones take less
	tokenText    = (maxToken*8 + 5) / 6
)

var tokenEncoding = base64.RawURLEncoding.Strict()

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
	if t.opens {
		b[1] |= opens
	}
	if t.caller != "" || t.callee != "" {
		b = binary.BigEndian.AppendUint32(b, t.callerTag)
	}
	for _, part := range [...]struct {
		flag byte
		text string
	}{{hasCaller, t.caller}, {hasCallee, t.callee}, {hasEdge, t.edge}} {
		if part.text != "" {
			b[1] |= part.flag
			b = append(append(b, byte(len(part.text))), part.text...)
		}
	}
	b = append(b, m.of(b, callID)...)
	return tokenEncoding.AppendEncode(dst, b)
}

// readToken is the token in the user part of a URI. It is not ok if we did not sign it for this Call-ID, or wrote it
// another way: a token has one spelling.
func (p *Proxy) readToken(text, callID []byte) (t token, ok bool) {
	if n := tokenEncoding.DecodedLen(len(text)); n < 2+macSize || n > maxToken {
		return token{}, false
	}
	var space [maxToken]byte
	n, err := tokenEncoding.Decode(space[:], text)
	// A line break between the letters is no error, but makes less of them.
	if err != nil || len(text) != tokenEncoding.EncodedLen(n) || space[0] != tokenVersion {
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
	t.opens = flags&opens != 0
	if flags&(hasCaller|hasCallee) != 0 {
		if len(b) < 4 {
			return token{}, false
		}
		t.callerTag, b = binary.BigEndian.Uint32(b), b[4:]
	}
	for _, part := range [...]struct {
		flag byte
		text *string
	}{{hasCaller, &t.caller}, {hasCallee, &t.callee}, {hasEdge, &t.edge}} {
		if flags&part.flag == 0 {
			continue
		}
		if len(b) == 0 || len(b) <= int(b[0]) {
			return token{}, false
		}
		*part.text, b = string(b[1:1+b[0]]), b[1+b[0]:]
	}
	return t, len(b) == 0
}

// tagHash is what a token keeps of a From tag. It need not be secret: it only tells two tags of one dialog apart.
func tagHash(tag []byte) uint32 {
	h := uint32(2166136261) // FNV-1a
	for _, c := range tag {
		h = (h ^ uint32(c)) * 16777619
	}
	return h
}
