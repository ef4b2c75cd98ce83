package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

const (
	// httpHead is how much the request that opens a WebSocket may take, cookies and all.
	httpHead = 16 << 10
	// frameRoom is what the buffer of a WebSocket has beside the message: a header, and a frame of control between the
	// fragments.
	frameRoom = ws.MaxHeaderSize + ws.MaxControlFramePayloadSize + 1
	// maxFragments of one message. Nobody needs more, and empty ones cost their sender little.
	maxFragments = 1024
)

var (
	errClosed = errors.New("the peer closed the WebSocket")
	errNoHTTP = errors.New("what came is no request for a WebSocket")
)

// closeError is a mistake that ends a WebSocket with a status code (RFC 6455 7.4.1).
type closeError struct {
	code ws.StatusCode
	text string
}

func (e *closeError) Error() string { return e.text }

// upgrade answers the handshake (RFC 6455 4.2, RFC 7118 4). What has come behind it stays in in.
func (c *conn) upgrade(in *inbox) error {
	in.bound(httpHead)
	end := 0
	for {
		data := in.buf[:in.n]
		const get = "GET "
		if n := min(len(get), len(data)); string(data[:n]) != get[:n] {
			return errNoHTTP
		}
		if i := bytes.Index(data, []byte("\r\n\r\n")); i >= 0 {
			end = i + 4
			break
		}
		n, err := c.fill(in)
		in.n += n
		switch {
		case errors.Is(err, errTooBig):
			_, _ = io.WriteString(c.blocking(), "HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
			c.refused = true
			return err
		case err != nil:
			return err
		}
	}
	offered := false
	u := ws.Upgrader{
		Protocol: func(p []byte) bool {
			sip := string(p) == "sip"
			offered = offered || sip
			return sip
		},
		OnHeader: func(name, value []byte) error {
			if string(name) == "Origin" && !c.point.allows(string(value)) {
				return ws.RejectConnectionError(ws.RejectionStatus(403), ws.RejectionReason("this origin is not allowed"))
			}
			return nil
		},
		OnBeforeUpgrade: func() (ws.HandshakeHeader, error) {
			if !offered {
				return nil, ws.RejectConnectionError(ws.RejectionStatus(400), ws.RejectionReason("want the subprotocol sip (RFC 7118 4.1)"))
			}
			return nil, nil
		},
	}
	if _, err := u.Upgrade(struct {
		io.Reader
		io.Writer
	}{bytes.NewReader(in.buf[:end]), c.blocking()}); err != nil {
		c.refused = true
		return fmt.Errorf("open a WebSocket: %w", err)
	}
	in.drop(end)
	in.bound(c.layer.limits.Message + frameRoom)
	c.frames = &frames{limit: c.layer.limits.Message}
	return nil
}

// allows says whether the scripts of a page may connect.
func (p *listener) allows(origin string) bool {
	return len(p.Origins) == 0 || slices.ContainsFunc(p.Origins, func(o string) bool { return strings.EqualFold(o, origin) })
}

// frames is the reading side of a WebSocket: it takes messages out of their frames in the buffer that they came in.
// The beginning of the buffer is what has come of a message, behind it are bytes that were not looked at.
type frames struct {
	limit     int
	body      int       // of the message, at the start of the buffer
	op        ws.OpCode // of the message; OpContinuation while there is none
	fragments int
	open      bool // within the payload of a data frame
	fin       bool // which is the last of its message
	left      int  // of that payload
	seen      int  // of that payload
	mask      [4]byte
	head      [ws.MaxHeaderSize]byte
	reader    bytes.Reader
	pong      []byte // answers the last ping; nil: there was none
	closed    bool
	reply     []byte // to the close frame
}

// partial says whether a message has begun and not ended.
func (f *frames) partial(in *inbox) bool { return in.n > 0 || f.open || f.op != ws.OpContinuation }

// add takes the n bytes that were read into the room of in, and hands every message that is whole to deliver, until that
// wants no more: one SIP message each (RFC 7118 5). A message of nothing but CRLFs is a keep-alive.
func (f *frames) add(in *inbox, n int, deliver func([]byte) (more bool)) (messages int, ping bool, err error) {
	in.n += n
	at, wanted := f.body, true
	for !f.closed && wanted {
		if !f.open {
			size, err := f.frame(in.buf[at:in.n])
			if err != nil {
				return messages, ping, err
			}
			if size == 0 {
				break
			}
			at += size
			continue
		}
		k := min(f.left, in.n-at)
		copy(in.buf[f.body:], in.buf[at:at+k])
		ws.Cipher(in.buf[f.body:f.body+k], f.mask, f.seen)
		f.body, at, f.left, f.seen = f.body+k, at+k, f.left-k, f.seen+k
		if f.left > 0 {
			break
		}
		f.open = false
		if !f.fin {
			continue
		}
		data := in.buf[:f.body:f.body]
		if f.op == ws.OpText && !utf8.Valid(data) {
			return messages, ping, &closeError{ws.StatusInvalidFramePayloadData, "a text is not UTF-8"}
		}
		f.body, f.op, f.fragments = 0, ws.OpContinuation, 0
		if sip := trim(data); len(sip) > 0 {
			wanted = deliver(sip)
			messages++
		} else {
			ping = ping || bytes.Contains(data, []byte("\r\n\r\n"))
		}
	}
	in.cut(f.body, at)
	f.reader.Reset(nil) // it would keep the buffer
	return messages, ping, nil
}

// frame takes what does not belong to a message from the front of data: the header of a data frame, or a whole frame of
// control. It returns its size, 0 if it is not all there.
func (f *frames) frame(data []byte) (int, error) {
	f.reader.Reset(data)
	h, err := ws.ReadHeaderBuffer(&f.reader, f.head[:])
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return 0, nil
	case err == nil:
		state := ws.StateServerSide
		if f.op != ws.OpContinuation {
			state = state.Set(ws.StateFragmented)
		}
		err = ws.CheckHeader(h, state)
	}
	if err != nil {
		return 0, &closeError{ws.StatusProtocolError, err.Error()}
	}
	size := len(data) - f.reader.Len()
	if h.OpCode.IsControl() {
		end := size + int(h.Length)
		if len(data) < end {
			return 0, nil
		}
		payload := data[size:end]
		ws.Cipher(payload, h.Mask, 0)
		return end, f.control(h.OpCode, payload)
	}
	if f.fragments++; h.Length > int64(f.limit-f.body) || f.fragments > maxFragments {
		return 0, &closeError{ws.StatusMessageTooBig, "the message is too big"}
	}
	if h.OpCode != ws.OpContinuation {
		f.op = h.OpCode
	}
	f.open, f.fin, f.left, f.seen, f.mask = true, h.Fin, int(h.Length), 0, h.Mask
	return size, nil
}

func (f *frames) control(op ws.OpCode, payload []byte) error {
	switch op {
	case ws.OpPing: // of several, the last is answered (RFC 6455 5.5.3)
		f.pong = append(make([]byte, 0, len(payload)), payload...)
	case ws.OpClose:
		f.closed = true
		if len(payload) == 0 {
			return nil
		}
		if len(payload) == 1 {
			return &closeError{ws.StatusProtocolError, "half a status code"}
		}
		code, reason := ws.ParseCloseFrameDataUnsafe(payload)
		if err := ws.CheckCloseFrameData(code, reason); err != nil {
			return &closeError{ws.StatusProtocolError, err.Error()}
		}
		f.reply = append([]byte(nil), payload[:2]...)
	}
	return nil
}

// farewell is the payload of our close frame, for the reason why reading ended. Without ok there is none to be sent.
func (f *frames) farewell(why Reason, err error) (payload []byte, ok bool) {
	var code ws.StatusCode
	bad, isClose := errors.AsType[*closeError](err)
	switch {
	case isClose:
		code = bad.code
	case f.closed:
		return f.reply, true
	case why == byShutdown || why == idle:
		code = ws.StatusGoingAway
	case why == Malformed:
		code = ws.StatusInvalidFramePayloadData
	case why == slowMessage || why == Unwanted:
		code = ws.StatusPolicyViolation
	case why == noMemory:
		code = 1013 // Try Again Later, of the IANA registry
	default:
		return nil, false
	}
	return binary.BigEndian.AppendUint16(nil, uint16(code)), true
}

// scratch is a buffer for what leaves; it is reused.
type scratch struct {
	bytes.Buffer
	head [ws.MaxHeaderSize]byte
}

// scratchKept is how big a scratch may have become and be kept.
const scratchKept = 16 << 10

func (l *Layer) newScratch() *scratch {
	s, _ := l.scratches.Get().(*scratch)
	return s
}

func (l *Layer) free(s *scratch) {
	if s.Cap() <= scratchKept {
		s.Reset()
		l.scratches.Put(s)
	}
}

// frame is data as one frame. A buffer gives no errors.
func (s *scratch) frame(op ws.OpCode, data []byte) []byte {
	_ = ws.WriteHeaderBuffer(s, ws.Header{Fin: true, OpCode: op, Length: int64(len(data))}, s.head[:])
	_, _ = s.Write(data)
	return s.Bytes()
}

// opcode of a message: a text has to be UTF-8, which SIP is not bound to.
func opcode(data []byte) ws.OpCode {
	if utf8.Valid(data) {
		return ws.OpText
	}
	return ws.OpBinary
}
