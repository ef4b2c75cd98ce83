package processor

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
)

// Digest algorithms (RFC 8760 2.1), without the -sess variants, which are not offered.
const (
	SHA256 = "SHA-256"
	MD5    = "MD5"
)

// NonceLifetime is how long a nonce serves, where nothing else is wanted.
const NonceLifetime = 5 * time.Minute

// Role says whom a challenge comes from (RFC 3261 22.1).
type Role bool

// The roles: a registrar or user agent server challenges with 401 and WWW-Authenticate, a proxy with 407 and
// Proxy-Authenticate.
const (
	AsServer Role = false
	AsProxy  Role = true
)

// Secret is what a user's password becomes in one realm: enough to verify digests, for each algorithm.
type Secret struct {
	md5    [2 * md5.Size]byte
	sha256 [2 * sha256.Size]byte
}

// NewSecret makes the secret of a user in a realm: H(username:realm:password), in hex (RFC 7616 3.4.2).
func NewSecret(username, realm, password string) *Secret {
	a1 := []byte(username + ":" + realm + ":" + password)
	s := new(Secret)
	m, h := md5.Sum(a1), sha256.Sum256(a1) //nolint:gosec // MD5 is what the phones know; RFC 8760 2.1 keeps it for them
	hex.Encode(s.md5[:], m[:])
	hex.Encode(s.sha256[:], h[:])
	return s
}

// Digest challenges and verifies by RFC 7616 and RFC 8760, with qop "auth" and no other. Nonces are signed with a key
// that all instances share, so each instance verifies the nonces of the others; which counts a nonce has been used with
// is known to the instance that made it, and the others ask it (see ServeNonces). Once that instance is gone its nonces
// are stale: their holders are challenged anew, and what an eavesdropper recorded is good nowhere.
//
// Guessing is bounded: what one network, and what all of them about one account, may try in a minute, see backoff. These
// bounds are per instance.
type Digest struct {
	nonces     nonces
	algorithms []string
	unknown    *Secret // what an unknown user is verified against, so that it takes as long
	backoff    *backoff
	offences   offences
}

// NewDigest makes a Digest that offers the algorithms in this order. Nonces serve for lifetime. An error names the
// algorithm that is not known.
func NewDigest(keys Keys, lifetime time.Duration, algorithms ...string) (*Digest, error) {
	if len(algorithms) == 0 {
		return nil, fmt.Errorf("digest without an algorithm, want %s, %s or both", SHA256, MD5)
	}
	for _, a := range algorithms {
		if a != SHA256 && a != MD5 {
			return nil, fmt.Errorf("digest algorithm %q is not known, want %s or %s", a, SHA256, MD5)
		}
	}
	return &Digest{
		nonces:     nonces{keys: keys, lifetime: lifetime, maker: rand.Uint32()}, //nolint:gosec // it tells instances apart
		algorithms: slices.Clone(algorithms),
		unknown:    new(Secret),
		backoff:    newBackoff(),
	}, nil
}

// Authenticate verifies the credentials that r has for realm, and runs done exactly once: with the name of the user, or
// with a response that refuses r, which is a challenge, 401 or 407 by role, or 400. secretOf gives the secret of a user by
// the name in the credentials, nil for an unknown one. done runs before Authenticate returns, unless the nonce is of
// another instance, which is asked then; it must not block.
//
// Unknown users, wrong passwords and passwords that were not looked at, as too many were tried, get the same answer for
// the same work. A challenge says stale=true to a client that has the right password and must only repeat its request
// with the new nonce: the old one is past its lifetime, of a key or an instance that is gone, or its nonce count has not
// grown.
//
// The uri of the credentials must be the Request-URI as RFC 3261 19.1.4 compares them, else the answer is 400 (RFC 7616
// 3.4.6). One without a user that names this server, by the realm or by an address that the EdgePort listens on, is
// taken as well, since RFC 3261 22.4 item 6 leaves that to the server and clients write it; it protects its sender less,
// as the response is bound to no callee.
//
// A challenge for a wrong password has the metadata OffenceKey, for the EdgePort.
func (d *Digest) Authenticate(ctx context.Context, r Request, role Role, realm string, secretOf func(username string) *Secret, done func(username string, refusal *processorpb.MessageResponse)) {
	now, network := time.Now(), networkOf(r.GetSender().GetHost())
	x := d.examine(r, role, realm, network, secretOf, now)
	switch x.verdict {
	case right:
		done(x.username, nil)
	case rightThere:
		username := x.username
		d.ask(ctx, r, &x.nonce, x.count, func(fresh bool) {
			if !fresh {
				done("", d.challenge(role, realm, network, stale, time.Now()))
				return
			}
			done(username, nil)
		})
	case misdirected:
		done("", NewResponse(400, "Digest URI Is Not The Request-URI"))
	default:
		done("", d.challenge(role, realm, network, x.verdict, now))
	}
}

// verdict is what the credentials of a request are worth.
type verdict int

const (
	absent      verdict = iota // there are none that answer a challenge of ours
	misdirected                // their uri is not that of the request
	heldBack                   // too many were tried: nobody looked at these
	wrong                      // the user does not exist or has another password
	forged                     // that, and we never made the nonce
	stale                      // right, with a nonce that does not serve
	rightThere                 // right, if the instance that made the nonce has not seen the nonce count
	right
)

// examination is what examine found.
type examination struct {
	verdict  verdict
	username string
	nonce    nonce
	count    uint32
	hashed   int // bytes; the same for all users and passwords, which is what tests look at
}

// examine verifies the credentials of r. What it does depends on what the request says, never on whether its user exists
// or what their password is, up to the verdict that there is such a user and it is right.
func (d *Digest) examine(r Request, role Role, realm string, network uint64, secretOf func(username string) *Secret, now time.Time) (x examination) {
	c, algorithm, ok := d.credentials(r.GetMessage(), role, realm)
	if !ok {
		return x
	}
	if !designates(c.URI, realm, r.MessageRequest) {
		x.verdict = misdirected
		return x
	}
	b, signed := d.nonces.read(c.Nonce, realm)
	if signed {
		network = b.holder()
	}
	try, allowed := d.backoff.begin(network, signed, realm, c.Username, now)
	secret, known := secretOf(c.Username), true
	if secret == nil {
		secret, known = d.unknown, false
	}
	verified, hashed := secret.verify(algorithm, &c, MethodOf(r.MessageRequest))
	x.hashed = hashed
	switch count, ok := countOf(c.NC); {
	case !allowed:
		x.verdict = heldBack
	case (!verified || !known) && !signed:
		x.verdict = forged
	case !verified || !known:
		x.verdict = wrong
	// Only who has the password gets below, so only they can make an entry in the table of nonce counts, or have another
	// instance asked.
	case !signed || !ok || !d.nonces.serves(b.made(), now):
		x.verdict = stale
	case b.maker() != d.nonces.maker:
		x.verdict = rightThere
		x.username, x.nonce, x.count = c.Username, b, count
	case !d.nonces.counts.use(b.number(), b.made(), count):
		x.verdict = stale
	default:
		x.verdict = right
		x.username = c.Username
	}
	switch {
	case x.verdict >= stale:
		d.backoff.right(try, now)
	case x.verdict != heldBack:
		d.backoff.wrong(try, now)
	}
	return x
}

// HeaderName is the header that carries the credentials for a role.
func (role Role) HeaderName() string {
	if role == AsProxy {
		return "Proxy-Authorization"
	}
	return "Authorization"
}

// credentials are the first credentials of m for the realm that answer what we offer. A client may send several, for
// other servers on the way (RFC 3261 22.3).
func (d *Digest) credentials(m *sipmessagepb.SIPMessage, role Role, realm string) (c Credentials, algorithm string, ok bool) {
	if role == AsServer && m.GetAuthorization() != nil {
		if c, ok := credentialsOf(m.Authorization); ok && c.Realm == realm {
			if algorithm, ok := d.answered(&c); ok {
				return c, algorithm, true
			}
		}
	}
	for value := range Headers(m, role.HeaderName()) {
		if c, ok := ParseCredentials(value); ok && c.Realm == realm {
			if algorithm, ok := d.answered(&c); ok {
				return c, algorithm, true
			}
		}
	}
	return Credentials{}, "", false
}

// answered is the algorithm of credentials that answer a challenge of ours: one that we offer, with qop "auth", which
// RFC 3261 22.4 item 8 makes a client send once it was offered, so its absence is no way around the nonce count.
func (d *Digest) answered(c *Credentials) (algorithm string, ok bool) {
	if !strings.EqualFold(c.QOP, "auth") || c.CNonce == "" || c.Username == "" {
		return "", false
	}
	name := c.Algorithm
	if name == "" {
		name = MD5 // RFC 7616 3.3
	}
	for _, a := range d.algorithms {
		if strings.EqualFold(a, name) {
			return a, true
		}
	}
	return "", false
}

// verify compares the response in constant time with the one that s makes (RFC 7616 3.4.1). hashed is how many bytes that
// took.
func (s *Secret) verify(algorithm string, c *Credentials, method string) (ok bool, hashed int) {
	var (
		room      [512]byte // most credentials fit
		digest    [2 * sha256.Size]byte
		got, want []byte
		a1        = s.md5[:]
	)
	if algorithm == SHA256 {
		a1 = s.sha256[:]
	}
	b := append(room[:0], method...)
	b = append(append(b, ':'), c.URI...)
	hashed = len(b)
	a2 := hashHex(digest[:], algorithm, b)

	b = append(room[:0], a1...)
	for _, part := range [...]string{c.Nonce, c.NC, c.CNonce, c.QOP} {
		b = append(append(b, ':'), part...)
	}
	b = append(append(b, ':'), a2...)
	hashed += len(b)
	want = hashHex(digest[:], algorithm, b)

	// Clients disagree about the case of hex digits.
	var lower [2 * sha256.Size]byte
	got = lower[:min(len(c.Response), len(lower))]
	copy(got, c.Response)
	for i, x := range got {
		if x >= 'A' && x <= 'F' {
			got[i] = x + 'a' - 'A'
		}
	}
	return subtle.ConstantTimeCompare(got, want) == 1 && len(c.Response) == len(want), hashed
}

// hashHex writes the hash of b in hex to dst, which does not overlap b.
func hashHex(dst []byte, algorithm string, b []byte) []byte {
	if algorithm == SHA256 {
		sum := sha256.Sum256(b)
		return dst[:hex.Encode(dst, sum[:])]
	}
	sum := md5.Sum(b) //nolint:gosec // see NewSecret
	return dst[:hex.Encode(dst, sum[:])]
}

// challenge is the response with a header field for each algorithm that is offered, in order (RFC 8760 2.4).
func (d *Digest) challenge(role Role, realm string, network uint64, v verdict, now time.Time) *processorpb.MessageResponse {
	status, name := 401, "WWW-Authenticate"
	if role == AsProxy {
		status, name = 407, "Proxy-Authenticate"
	}
	text := d.nonces.next(realm, network, now)
	headers := make([]*sipmessagepb.Extension, 0, len(d.algorithms))
	for _, a := range d.algorithms {
		value := `Digest realm="` + quotable(realm) + `", nonce="` + text + `", algorithm=` + a + `, qop="auth"`
		if v == stale {
			value += ", stale=true"
		}
		headers = append(headers, NewHeader(name, value))
	}
	response := NewResponse(status, "", headers...)
	d.offences.note(response, v)
	return response
}

// quotable is s for the inside of a quoted-string.
func quotable(s string) string {
	if !strings.ContainsAny(s, `"\`) {
		return s
	}
	return strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(s)
}

// designates reports whether uri, of credentials for realm, stands for what req is sent to (see Authenticate).
func designates(uri, realm string, req *processorpb.MessageRequest) bool {
	if equalURI(uri, req.GetMessage().GetRequestUri()) {
		return true
	}
	u, ok := ParseURI(uri)
	if !ok || u.User != "" || u.Query != "" {
		return false
	}
	if strings.EqualFold(u.Host, realm) {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(u.Host, "[]"))
	for _, point := range req.GetListeningPoints() {
		if strings.EqualFold(u.Host, bracketed(point.GetHost())) {
			return true
		}
		// Which of its addresses a wildcard listener was reached at is not known.
		if own, e := netip.ParseAddr(point.GetHost()); err == nil && e == nil && own.IsUnspecified() && addr.IsValid() {
			return true
		}
	}
	return slices.ContainsFunc(req.GetExternalAddrs(), func(a string) bool { return strings.EqualFold(u.Host, bracketed(a)) })
}
