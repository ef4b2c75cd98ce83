package message

import "bytes"

// Framer finds the messages in the bytes of a stream (RFC 3261 18.3). It remembers how far it has looked, so that a
// message that arrives a byte at a time costs no more than one that arrives at once. The zero value stands at the start
// of a message.
type Framer struct {
	seen    int  // what was searched for the end of the header section
	start   int  // where the start line begins, behind line breaks
	line    bool // the start line has been checked
	message int  // the length of the message, once it is known
}

// Next returns the length of the whole message at the start of buf, or 0 if it needs more bytes; the next call then has
// to get the same bytes and more behind them. After a message the caller takes it off buf, and Next goes on behind it.
// Line breaks before the start line count as part of the message: a transport that answers keep-alives (RFC 5626 3.5.1)
// takes them off before. An error, always an *Error, is for ever: the stream has lost its frame and is to be closed.
// It comes as soon as the start line is none, or the head exceeds MaxHead, ends in disorder, or has no Content-Length,
// without which no message of a stream has an end.
func (f *Framer) Next(buf []byte) (n int, err error) {
	if n, e := f.next(buf); e != nil {
		return 0, e
	} else if n > 0 {
		*f = Framer{}
		return n, nil
	}
	return 0, nil
}

// Frame is Next of a new Framer.
func Frame(buf []byte) (n int, err error) {
	return new(Framer).Next(buf)
}

func (f *Framer) next(buf []byte) (int, *Error) {
	if f.message == 0 {
		if !f.line {
			if err := f.startLine(buf); err != nil || !f.line {
				return 0, err
			}
		}
		from := max(f.start, f.seen-3)
		i := bytes.Index(buf[from:], []byte("\r\n\r\n"))
		if i < 0 {
			f.seen = len(buf)
			if len(buf)-f.start > MaxHead {
				return 0, errTooLarge
			}
			return 0, nil
		}
		body := from + i + 4
		if body-f.start > MaxHead {
			return 0, errTooLarge
		}
		length, err := contentLength(buf[f.start:body])
		if err != nil {
			return 0, err
		}
		if body-f.start+length > MaxSize {
			return 0, errTooLarge
		}
		f.message = body + length
	}
	if len(buf) < f.message {
		return 0, nil
	}
	return f.message, nil
}

// startLine looks at the first bytes: what is not SIP is told from them, before it can fill a buffer.
func (f *Framer) startLine(buf []byte) *Error {
	for f.start < len(buf) && (buf[f.start] == '\r' || buf[f.start] == '\n') {
		if f.start++; f.start > MaxHead {
			return errNotSIP
		}
	}
	line := buf[f.start:]
	end := bytes.IndexByte(line[min(f.seen, len(line)):], '\n')
	if end < 0 {
		// A method and its space come within a few bytes; so do TLS records and whatever else is no token.
		if i := token(line, 0); i < len(line) && line[i] != ' ' && !bytes.HasPrefix(line, []byte("SIP/")) || i > maxMethod {
			return errNotSIP
		}
		if f.seen = len(line); f.seen > MaxHead {
			return errTooLarge
		}
		return nil
	}
	line = line[:f.seen+end+1]
	f.seen = 0
	f.line = true
	var m Message
	if len(line) < 2 || line[len(line)-2] != '\r' {
		return errNotSIP
	}
	line = line[:len(line)-2]
	if err := m.parseStart(line); err != nil && !m.request {
		return err
	}
	return nil
}

// contentLength reads the one Content-Length of a header section, from the start line to the empty line.
func contentLength(section []byte) (int, *Error) {
	length := -1
	for pos := bytes.IndexByte(section, '\n') + 1; pos < len(section)-2; {
		start := pos
		for { // a line and those folded into it
			pos += bytes.IndexByte(section[pos:], '\n') + 1
			if section[pos-2] != '\r' {
				return 0, errHeader
			}
			if !isBlank(section[pos]) {
				break
			}
		}
		line := section[start : pos-2]
		if c := line[0] | 0x20; c != 'c' && c != 'l' {
			continue
		}
		colon := bytes.IndexByte(line, ':')
		if colon < 0 {
			return 0, errHeader
		}
		if k, _ := kindOf(trim(line[:colon])); k != KindContentLength {
			continue
		}
		n, ok := number(trim(line[colon+1:]), MaxSize)
		if !ok || length >= 0 {
			return 0, errContentLength
		}
		length = int(n)
	}
	if length < 0 {
		return 0, errNoLength
	}
	return length, nil
}
