package location

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	locationpb "github.com/routr-fabric/routr/proto/location/v2beta1"
)

// contact is what makes two bindings of an AOR the same one.
type contact struct {
	// key is the part of the contact URI that must be equal (RFC 3261 19.1.4): scheme, user, host, port, headers, and
	// the parameters that count even where only one of the URIs has them.
	key string
	// id is a hash of the identity, the same in every instance.
	id uint64
	// params are the parameters, which are compared only where both URIs have them.
	params []uriParam
}

// uriParam is a parameter of a URI as hashes of its name and its value, each in the form in which two equal ones are the
// same. A client may bring 32 contacts of 64 parameters each to an AOR that has 1,000: as text they took a second.
type uriParam struct{ name, value uint32 }

// identify reads the identity of a route's contact. Nothing of it refers to the memory of r.
func identify(r *locationpb.Route) contact {
	var c contact
	if r.ContactUri != "" {
		c = parseContact(r.ContactUri)
	}
	h := newHash()
	switch {
	case outbound(r):
		h = h.text(r.Instance).number(uint64(r.RegId))
	case r.ContactUri != "":
		h = h.text(c.key)
	default:
		h = h.text(r.User).text(strings.ToLower(r.Host)).text(r.Port).number(uint64(r.Transport))
	}
	c.id = h.sum()
	return c
}

// outbound reports whether r was registered by RFC 5626, whose bindings are told apart by instance and reg-id.
func outbound(r *locationpb.Route) bool { return r.RegId > 0 && r.Instance != "" }

// same reports whether a and b are one binding: by instance and reg-id where both have them (RFC 5626 6), else by the
// contact URI (RFC 3261 19.1.4), or by user, host, port and transport where one has no URI, as clients of Routr v2.
func same(a, b *binding) bool {
	ra, rb := a.route, b.route
	switch {
	case outbound(ra) && outbound(rb):
		return ra.RegId == rb.RegId && ra.Instance == rb.Instance
	case ra.ContactUri == "" || rb.ContactUri == "":
		return ra.User == rb.User && ra.Port == rb.Port && ra.Transport == rb.Transport &&
			strings.EqualFold(ra.Host, rb.Host)
	case ra.ContactUri == rb.ContactUri:
		return true
	}
	return a.contact.key == b.contact.key && sameParams(a.contact.params, b.contact.params)
}

// parseContact splits a contact URI. A URI that is neither sip: nor sips: is its own key.
func parseContact(uri string) contact {
	scheme, rest, _ := strings.Cut(uri, ":")
	if !strings.EqualFold(scheme, "sip") && !strings.EqualFold(scheme, "sips") {
		return contact{key: uri}
	}
	at := strings.LastIndexByte(rest, '@')
	user, host := rest[:at+1], rest[at+1:]
	host, headers, _ := strings.Cut(host, "?")
	host, params, _ := strings.Cut(host, ";")

	c := contact{params: parseParams(params)}
	b := make([]byte, 0, len(uri)+8)
	b = appendFolded(b, scheme, true)
	b = append(b, ':')
	b = appendFolded(b, user, false)
	b = appendFolded(b, host, true)
	// In a fixed order, as the order of the parameters means nothing.
	for _, name := range [...]string{"user", "ttl", "method", "maddr", "transport"} {
		if value, ok := param(params, name); ok {
			b = append(b, ';')
			b = append(b, name...)
			b = append(b, '=')
			// A method is case-sensitive (RFC 3261 7.1).
			b = appendFolded(b, value, name != "method")
		}
	}
	if headers != "" {
		list := strings.Split(headers, "&")
		for i, h := range list {
			name, value, _ := strings.Cut(h, "=")
			list[i] = string(appendFolded(appendFolded(nil, name, true), "="+value, false))
		}
		slices.Sort(list)
		for _, h := range list {
			b = append(append(b, '?'), h...)
		}
	}
	c.key = string(b)
	return c
}

// parseParams reads a list separated by ';'. Of several of one name the first counts. They are in the order of the hashes.
func parseParams(list string) []uriParam {
	if list == "" {
		return nil
	}
	params := make([]uriParam, 0, strings.Count(list, ";")+1)
	var buf [64]byte
	for p := range strings.SplitSeq(list, ";") {
		name, value, _ := strings.Cut(p, "=")
		params = append(params, uriParam{hash32(bytes.ToLower(append(buf[:0], name...))), hash32(appendFolded(buf[:0], value, true))})
	}
	slices.SortStableFunc(params, func(a, b uriParam) int { return cmp.Compare(a.name, b.name) })
	return slices.CompactFunc(params, func(a, b uriParam) bool { return a.name == b.name })
}

// sameParams reports whether no parameter that both lists have has two values.
func sameParams(a, b []uriParam) bool {
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0].name < b[0].name:
			a = a[1:]
		case a[0].name > b[0].name:
			b = b[1:]
		case a[0].value != b[0].value:
			return false
		default:
			a, b = a[1:], b[1:]
		}
	}
	return true
}

// param is the value of the named parameter in a list separated by ';'.
func param(params, name string) (value string, ok bool) {
	for params != "" {
		var p string
		p, params, _ = strings.Cut(params, ";")
		n, v, _ := strings.Cut(p, "=")
		if strings.EqualFold(n, name) {
			return v, true
		}
	}
	return "", false
}

// appendFolded appends a component of a URI in the form in which two equal ones are the same bytes: characters outside
// the reserved set unescaped, those in it left as they are, and letters in lower case where the component has no case
// (RFC 3261 19.1.4).
func appendFolded(dst []byte, s string, lower bool) []byte {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if d, ok := unescape(s, i); ok {
			i += 2
			if strings.IndexByte(";/?:@&=+$,%", d) >= 0 {
				const hex = "0123456789abcdef"
				dst = append(dst, '%', hex[d>>4], hex[d&15])
				continue
			}
			c = d
		}
		if lower && c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

// hash is FNV-1a, which every instance computes alike.
type hash uint64

func newHash() hash { return 14695981039346656037 }

func (h hash) text(s string) hash {
	for i := 0; i < len(s); i++ {
		h = (h ^ hash(s[i])) * 1099511628211
	}
	return (h ^ 0xFF) * 1099511628211 // no byte of UTF-8: it ends the text
}

func hash32(text []byte) uint32 { return uint32(newHash().bytes(text).sum()) }

func (h hash) bytes(b []byte) hash {
	for _, c := range b {
		h = (h ^ hash(c)) * 1099511628211
	}
	return h
}

func (h hash) number(n uint64) hash { return (h ^ hash(n)) * 1099511628211 }

// sum spreads the hash over all bits (the finalizer of MurmurHash3), as rendezvous hashing compares sums.
func (h hash) sum() uint64 {
	n := uint64(h)
	n ^= n >> 33
	n *= 0xFF51AFD7ED558CCD
	n ^= n >> 33
	n *= 0xC4CEB9FE1A85EC53
	return n ^ n>>33
}
