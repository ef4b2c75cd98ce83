package transaction

import (
	"bytes"
	"encoding/base32"
	"encoding/binary"
	"hash/maphash"

	"github.com/routr-fabric/routr/services/edgeport/message"
	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// cookie starts every branch of RFC 3261 8.1.1.7.
const cookie = "z9hG4bK"

// serverKey names a server transaction: 128 bits of a keyed hash over what RFC 3261 17.2.3 compares, and over the
// transport and the source IP, so that nobody can touch a transaction of somebody else, or one of his own on another
// transport, by guessing a branch. (Not the source port: a NAT may change it between a request and its retransmission.)
type serverKey [2]uint64

// serverKey of a request as if its method were the given one: ACK and CANCEL look for the INVITE.
func (l *Layer) serverKey(flow transport.Flow, m *message.Message, method message.Method) serverKey {
	var space [256]byte
	b := space[:0]
	via := m.TopVia()
	addr := flow.Remote().Addr().As16()
	b = append(b, byte(flow.Protocol()), byte(method))
	b = append(b, addr[:]...)
	if method == message.MethodOther {
		b = append(b, m.MethodText()...)
		b = append(b, 0)
	}
	if bytes.HasPrefix(via.Branch, []byte(cookie)) && len(via.Branch) > len(cookie) {
		b = append(b, via.Branch...)
		b = append(b, 0)
		b = append(b, via.Host...)
		b = binary.BigEndian.AppendUint16(b, via.Port)
	} else {
		// A client of RFC 2543: 17.2.3, second list. The To tag is left out, as the ACK has one and the INVITE has not.
		number, _ := m.CSeq()
		b = append(b, m.RequestURI()...)
		b = append(b, 0)
		b = append(b, m.FromTag()...)
		b = append(b, 0)
		b = append(b, m.CallID()...)
		b = append(b, 0)
		b = append(b, via.Text...)
		b = binary.BigEndian.AppendUint32(b, number)
	}
	return serverKey{maphash.Bytes(l.seed[0], b), maphash.Bytes(l.seed[1], b)}
}

var tagEncoding = base32.NewEncoding(digits).WithPadding(base32.NoPadding)

// tag is the To tag of our own responses (RFC 3261 8.2.6.2): the same for the same transaction, so it needs no place
// of its own, and unknown to others, as the hash is keyed.
func (k serverKey) tag() string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], k[0]^k[1])
	return tagEncoding.EncodeToString(b[:])
}

const (
	digits       = "0123456789abcdefghijklmnopqrstuv"
	branchDigits = 13 // 64 bits in base 32
	markDigits   = 8
	markBits     = markDigits * 5
)

// Branch is the branch parameter of a client transaction: the cookie and a random number that only the peer and
// everybody between us know. The response is matched by it.
type Branch uint64

// Append appends the text of the branch to dst.
func (b Branch) Append(dst []byte) []byte {
	return appendDigits(append(dst, cookie...), uint64(b), branchDigits)
}

// Mark is a second part of a branch, of 40 bits, which the user of the layer recognises when the request comes back to
// it (RFC 3261 16.6 step 8). It says nothing to the layer.
type Mark uint64

// NewMark is the lower 40 bits of a hash.
func NewMark(hash uint64) Mark { return Mark(hash & (1<<markBits - 1)) }

// Append appends the mark to the text of a branch.
func (m Mark) Append(dst []byte) []byte { return appendDigits(append(dst, '.'), uint64(m), markDigits) }

// MarkOf is the mark of a branch; false if it has none, or is no branch of this layer's making.
func MarkOf(branch []byte) (Mark, bool) {
	const at = len(cookie) + branchDigits
	if len(branch) != at+1+markDigits || branch[at] != '.' {
		return 0, false
	}
	m, ok := number(branch[at+1:])
	return Mark(m), ok
}

func appendDigits(dst []byte, n uint64, count int) []byte {
	for shift := 5 * (count - 1); shift >= 0; shift -= 5 {
		dst = append(dst, digits[n>>shift&31])
	}
	return dst
}

// number reads digits.
func number(text []byte) (n uint64, ok bool) {
	for _, c := range text {
		switch {
		case '0' <= c && c <= '9':
			n = n<<5 | uint64(c-'0')
		case 'a' <= c && c <= 'v':
			n = n<<5 | uint64(c-'a'+10)
		default:
			return 0, false
		}
	}
	return n, true
}

// branchID reads the number in a branch of ours.
func branchID(branch []byte) (uint64, bool) {
	const size = len(cookie) + branchDigits
	if len(branch) < size || string(branch[:len(cookie)]) != cookie || len(branch) > size && branch[size] != '.' {
		return 0, false
	}
	return number(branch[len(cookie):size])
}
