package transport

import (
	"errors"
	"sync"

	"github.com/routr-fabric/routr/services/edgeport/message"
)

// smallBuffer is where a connection reads. While it waits for the next message it needs none.
const smallBuffer = 4 << 10

// largeBuffer is more than nearly all messages need.
const largeBuffer = 64 << 10

var (
	errTooBig    = errors.New("message is too big")
	errMemory    = errors.New("all memory for incomplete and unsent messages is in use")
	errLineBreak = errors.New("half a line break between messages")
)

// inbox is what came in on a stream and is not a whole message yet. Its buffer is small, and grows only while a message
// does not fit; between messages it has none.
type inbox struct {
	framer message.Framer
	limit  int
	memory *budget
	pool   *sync.Pool

	small *[smallBuffer]byte // nil while at rest
	buf   []byte
	n     int // buf[:n] is filled
	crlf  int // how much of a CRLFCRLF precedes it
}

func newInbox(l *Layer) *inbox {
	return &inbox{limit: l.limits.Message, memory: &l.memory, pool: &l.buffers}
}

// rest gives the small buffer back if there is nothing in it.
func (in *inbox) rest() {
	if in.n == 0 && in.small != nil {
		in.pool.Put(in.small)
		in.small, in.buf = nil, nil
	}
}

// release gives all buffers back, with what is in them.
func (in *inbox) release() {
	in.n = 0
	in.shrink()
	in.rest()
}

// partial says whether a message has begun and not ended.
func (in *inbox) partial() bool { return in.n > 0 }

// room is where the next bytes go. It fails when a message is too big or the memory of all connections is used up.
func (in *inbox) room() ([]byte, error) {
	if in.small == nil {
		in.small, _ = in.pool.Get().(*[smallBuffer]byte)
		in.shrink()
	}
	if in.n < len(in.buf) {
		return in.buf[in.n:], nil
	}
	if in.n >= in.limit {
		return nil, errTooBig
	}
	size := min(2*len(in.buf), in.limit)
	take := in.memory.take
	if size > largeBuffer {
		take = in.memory.takeLarge
	}
	if !take(size) {
		return nil, errMemory
	}
	grown := make([]byte, size)
	copy(grown, in.buf)
	in.shrink()
	in.buf = grown
	return in.buf[in.n:], nil
}

// shrink returns to the small buffer.
func (in *inbox) shrink() {
	if len(in.buf) > smallBuffer {
		in.memory.give(len(in.buf))
	}
	if in.small != nil {
		in.buf = in.small[:min(smallBuffer, in.limit)]
	}
}

// add takes the n bytes that were read into room, and hands every message that is whole to deliver, until that wants no
// more. It returns how many those were, and whether the peer sent a keep-alive that wants an answer; several in one read
// get one. After an error, or when deliver wants no more, the stream has no meaning any more.
func (in *inbox) add(n int, deliver func([]byte) (more bool)) (messages int, ping bool, err error) {
	in.n += n
	data := in.buf[:in.n]
	for {
		pinged := false
		if data, pinged, err = in.skip(data); err != nil {
			return messages, ping, err
		}
		ping = ping || pinged
		if len(data) == 0 {
			break
		}
		size, err := in.framer.Next(data)
		if err != nil {
			return messages, ping, err
		}
		if size == 0 {
			break
		}
		more := deliver(data[:size:size])
		messages++
		if data = data[size:]; !more {
			break
		}
	}
	in.drop(in.n - len(data))
	return messages, ping, nil
}

// drop takes n bytes off the front.
func (in *inbox) drop(n int) { in.cut(0, n) }

// cut removes what is between from and to.
func (in *inbox) cut(from, to int) {
	old, n := in.buf, in.n-(to-from)
	if len(old) > smallBuffer && n < min(smallBuffer, in.limit) {
		in.shrink()
		copy(in.buf, old[:from])
	}
	in.n = from + copy(in.buf[from:], old[to:in.n])
}

// bound changes the limit.
func (in *inbox) bound(limit int) {
	in.limit = limit
	if len(in.buf) <= smallBuffer {
		in.shrink()
	}
}

// skip removes the CRLFs before a message (RFC 3261 7.5), and says whether two came in a row, which is the keep-alive of
// RFC 5626 4.4.1.
func (in *inbox) skip(data []byte) (rest []byte, ping bool, err error) {
	for i, b := range data {
		switch {
		case b == "\r\n\r\n"[in.crlf]:
			if in.crlf++; in.crlf == 4 {
				in.crlf, ping = 0, true
			}
		case in.crlf%2 == 1 || b == '\n':
			return nil, ping, errLineBreak
		default:
			in.crlf = 0
			return data[i:], ping, nil
		}
	}
	return nil, ping, nil
}
