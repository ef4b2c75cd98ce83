package message

import "bytes"

// Limits bound what Parse accepts, so that no message costs more than its neighbours.
type Limits struct {
	Size     int // bytes of a message, at most MaxSize
	Head     int // bytes of its head, at most MaxHead
	Headers  int // header fields, at most 256
	Vias     int // values of Via, of Record-Route and of Path, each
	Routes   int // values of Route
	Contacts int // values of Contact
}

// DefaultLimits is what an EdgePort should accept. Besides, no value may have more than MaxParams parameters.
func DefaultLimits() Limits {
	return Limits{Size: MaxSize, Head: MaxHead, Headers: 256, Vias: 64, Routes: 16, Contacts: 64}
}

// OwnLimits is what an EdgePort has made of a message within DefaultLimits, and what comes of that.
func OwnLimits() Limits {
	const most = 256
	return Limits{Size: MaxSize, Head: MaxHead, Headers: most, Vias: most, Routes: most, Contacts: most}
}

// MaxParams is how many parameters a Via, a URI or a name-addr may have.
const MaxParams = 64

// maxMethod is the length of the longest method. RFC 3261 has no bound; a method is kept in keys and counters.
const maxMethod = 64

// Parse reads the message at the start of data, which m refers to from now on. A datagram may be longer than its
// message (RFC 3261 18.3); line breaks before it are skipped (7.5). Parse checks what every receiver has to: the syntax
// of the start line, of every header line, of the top Via, From, To, Call-ID, CSeq, Max-Forwards and Content-Length;
// that what may stand once does not stand twice; the limits. It leaves the values of other headers, and the scheme of
// the Request-URI, to those who use them. The error is an *Error, with Answerable to ask next; a response that is
// refused is just dropped.
func (m *Message) Parse(data []byte, lim Limits) error {
	for len(data) > 0 && (data[0] == '\r' || data[0] == '\n') {
		data = data[1:]
	}
	*m = Message{data: data, headers: m.headers[:0], first: m.first, forwards: -1}
	err := m.parse(lim)
	if err == nil {
		return nil
	}
	if !m.answerable { // nothing of it is worth a look
		*m = Message{headers: m.headers[:0], first: m.first, forwards: -1}
	}
	return err
}

func (m *Message) parse(lim Limits) *Error {
	if len(m.data) > MaxSize {
		return errTooLarge
	}
	// What the spans cannot tell is not looked at.
	head := m.data[:min(len(m.data), lim.Head, MaxHead)]
	eol := bytes.IndexByte(head, '\n')
	if eol < 1 || head[eol-1] != '\r' {
		return m.headError(eol, len(head), errStartLineEnd)
	}
	startErr := m.parseStart(m.data[:eol-1])
	if startErr != nil && !m.request {
		return startErr
	}
	repeated, err := m.index(head, eol+1, lim)
	if err == nil {
		err = m.checkIdentity(repeated, lim)
	}
	if err != nil {
		return err
	}
	// From here on a response can be built: its headers are copies of the ones just checked.
	m.answerable = m.request
	switch {
	case len(m.data) > lim.Size:
		return errTooLarge
	case startErr != nil:
		return startErr
	}
	if repeated != 0 {
		return errRepeated
	}
	return m.checkRest()
}

// headError is why the line at eol, none if that is negative, does not end in the n bytes that a head may have: it is too
// large, or otherwise.
func (m *Message) headError(eol, n int, otherwise *Error) *Error {
	if eol < 0 && n < len(m.data) {
		return errTooLarge
	}
	return otherwise
}

// parseStart reads the start line, RFC 3261 7.1 and 7.2. When it fails for a line that is a request's at least in
// shape, m.request is set.
func (m *Message) parseStart(line []byte) *Error {
	i := bytes.IndexByte(line, ' ')
	if i < 1 {
		return errNotSIP
	}
	if isVersion(line[:i]) {
		return m.parseStatus(line, i)
	}
	j := bytes.LastIndexByte(line, ' ')
	if j <= i+1 || !isVersion(line[j+1:]) || i > maxMethod || !all(line[:i], isToken) {
		return errNotSIP
	}
	m.request = true
	m.method = MethodOf(line[:i])
	m.uri = span{uint16(i + 1), uint16(j)}
	if !equalFold(line[j+1:], "sip/2.0") {
		return errVersion
	}
	u, err := ParseURI(line[i+1 : j])
	if err != nil || len(u.Headers) > 0 { // 19.1.1: no headers in a Request-URI
		return errRequestURI
	}
	return nil
}

func (m *Message) parseStatus(line []byte, i int) *Error {
	code := line[i+1:]
	if len(code) > 3 {
		if code[3] != ' ' {
			return errStatusLine
		}
		code = code[:3]
	}
	n, ok := number(code, 699)
	if !ok || n < 100 || !equalFold(line[:i], "sip/2.0") {
		return errStatusLine
	}
	m.status = uint16(n)
	m.uri = span{uint16(min(len(line), i+5)), uint16(len(line))}
	return nil
}

// isVersion says whether b is a SIP-Version, of any number.
func isVersion(b []byte) bool {
	if len(b) < 7 || !equalFold(b[:4], "sip/") {
		return false
	}
	i := bytes.IndexByte(b[4:], '.')
	return i > 0 && all(b[4:4+i], isDigit) && all(b[5+i:], isDigit)
}

// index finds the header lines of data, from pos on, and the body. It returns the kinds that stand there twice but may
// not.
func (m *Message) index(data []byte, pos int, lim Limits) (repeated uint64, err *Error) {
	start := pos
	lines := 1 // line breaks so far, that of the start line among them
	most := min(lim.Headers, 256)
	for {
		eol := bytes.IndexByte(data[pos:], '\n')
		if eol < 1 || data[pos+eol-1] != '\r' {
			return 0, m.headError(eol, len(data), errHeaderEnd)
		}
		lines++
		next := pos + eol + 1
		if eol == 1 {
			m.body = next
			break
		}
		if isBlank(data[pos]) {
			if len(m.headers) == 0 {
				return 0, errHeader
			}
			m.fold(&m.headers[len(m.headers)-1], pos, next)
			pos = next
			continue
		}
		if len(m.headers) >= most {
			return 0, errHeaders
		}
		line := data[pos : next-2]
		colon := bytes.IndexByte(line, ':')
		if colon < 1 {
			return 0, errHeader
		}
		end := colon
		for end > 0 && isBlank(line[end-1]) {
			end--
		}
		k, ok := kindOf(line[:end])
		if !ok {
			return 0, errHeaderName
		}
		from, to := colon+1, len(line)
		for from < to && isBlank(line[from]) {
			from++
		}
		for from < to && isBlank(line[to-1]) {
			to--
		}
		if bit := uint64(1) << k; m.seen&bit == 0 {
			m.seen |= bit
			m.first[k] = uint8(len(m.headers))
		} else {
			repeated |= bit
		}
		m.headers = append(m.headers, header{
			start: uint16(pos), nameEnd: uint16(pos + end),
			value: uint16(pos + from), valueEnd: uint16(pos + to), next: uint16(next),
			kind: k,
		})
		pos = next
	}
	// Every line ended with CR LF: a CR more than these is a bare one.
	if bytes.Count(data[:m.body], []byte{'\r'}) != lines {
		return 0, errCR
	}
	if bytes.IndexByte(data[:m.body], 0) >= 0 && !m.nulsQuoted(start) {
		return 0, errNUL
	}
	return repeated & onceKinds, nil
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// fold makes the line data[pos:next] part of the header above it (RFC 3261 7.3.1). It looks at that line alone: a header
// may be folded twenty thousand times.
func (m *Message) fold(h *header, pos, next int) {
	from, to := pos, next-2
	for from < to && isBlank(m.data[from]) {
		from++
	}
	for to > from && isBlank(m.data[to-1]) {
		to--
	}
	h.next = uint16(next)
	if h.value == h.valueEnd { // nothing but white space so far
		h.value, h.valueEnd = uint16(from), uint16(to)
	} else if from < to {
		h.valueEnd = uint16(to)
	}
}

// nulsQuoted says whether each NUL is in a quoted-pair, the one place where the grammar has it (RFC 4475 3.1.1.2).
func (m *Message) nulsQuoted(start int) bool {
	if bytes.IndexByte(m.data[:start], 0) >= 0 {
		return false
	}
	for i := range m.headers {
		_, _, v := m.Header(i)
		inside := false
		for j := 0; j < len(v); j++ {
			switch v[j] {
			case '"':
				inside = !inside
			case '\\':
				if inside {
					j++
				}
			case 0:
				return false
			}
		}
	}
	return true
}

// checkIdentity checks what a response copies (RFC 3261 8.2.6.2), and what bounds its size.
func (m *Message) checkIdentity(repeated uint64, lim Limits) *Error {
	const identity = 1<<KindFrom | 1<<KindTo | 1<<KindCallID | 1<<KindCSeq
	if m.seen&identity != identity || m.seen&(1<<KindVia) == 0 {
		return errMissing
	}
	if repeated&(identity|1<<KindContentLength) != 0 {
		return errRepeated
	}
	if err := m.checkCounts(lim); err != nil {
		return err
	}
	if !m.parseTopVia() {
		return errVia
	}
	var ok bool
	if m.fromTag, ok = m.parseAddr(KindFrom); !ok {
		return errFrom
	}
	if m.toTag, ok = m.parseAddr(KindTo); !ok {
		return errTo
	}
	if len(m.CallID()) == 0 {
		return errCallID
	}
	return nil
}

// checkCounts bounds the lists by their commas: one in a quoted string counts as well, which only makes the limit a
// little tighter.
func (m *Message) checkCounts(lim Limits) *Error {
	const lists = 1<<KindVia | 1<<KindRoute | 1<<KindRecordRoute | 1<<KindPath | 1<<KindContact
	var vias, recordRoutes, paths, routes, contacts int
	for i := range m.headers {
		h := &m.headers[i]
		if lists&(1<<h.kind) == 0 {
			continue
		}
		n := 1 + bytes.Count(m.data[h.value:h.valueEnd], []byte{','})
		switch h.kind {
		case KindVia:
			vias += n
		case KindRecordRoute:
			recordRoutes += n
		case KindPath:
			paths += n
		case KindRoute:
			routes += n
		default:
			contacts += n
		}
	}
	if max(vias, recordRoutes, paths) > lim.Vias || routes > lim.Routes || contacts > lim.Contacts {
		return errValues
	}
	return nil
}

func (m *Message) parseTopVia() bool {
	h := &m.headers[m.first[KindVia]]
	from, to, _, ok := nextValue(m.data[:h.valueEnd], int(h.value))
	if !ok {
		return false
	}
	var err error
	m.viaText = span{uint16(from), uint16(to)}
	m.via, err = ParseVia(m.data[from:to])
	return err == nil
}

// parseAddr checks a From or To and finds its tag.
func (m *Message) parseAddr(k Kind) (tag span, ok bool) {
	v, _ := m.Get(k)
	a, err := ParseNameAddr(v)
	if err != nil || a.Wildcard() {
		return span{}, false
	}
	if a.Tag != nil {
		at := m.Offset(a.Tag)
		tag = span{uint16(at), uint16(at + len(a.Tag))}
	}
	return tag, true
}

// checkRest checks what a response can complain about.
func (m *Message) checkRest() *Error {
	if !m.parseCSeq() {
		return errCSeq
	}
	if v, ok := m.Get(KindMaxForwards); ok {
		n, ok := number(v, 255) // 20.22
		if !ok {
			return errMaxForwards
		}
		m.forwards = int16(n)
	}
	v, ok := m.Get(KindContentLength)
	if !ok {
		return nil // 18.3: the body goes to the end of the datagram
	}
	n, ok := number(v, MaxSize)
	if !ok {
		return errContentLength
	}
	if int(n) > len(m.data)-m.body {
		return errBodyEnd
	}
	m.data = m.data[:m.body+int(n)]
	return nil
}

// parseCSeq reads CSeq, whose method is that of the request line (RFC 3261 8.1.1.5). The number is below 2^31, but only
// one that 32 bits cannot hold is refused.
func (m *Message) parseCSeq() bool {
	v, _ := m.Get(KindCSeq)
	i := 0
	for i < len(v) && classes[v[i]]&isDigit != 0 {
		i++
	}
	n, ok := number(v[:i], 1<<32-1)
	method := v[skip(v, i):]
	if !ok || len(method) == len(v)-i || !all(method, isToken) {
		return false
	}
	m.cseq = uint32(n)
	at := m.Offset(method)
	m.cseqText = span{uint16(at), uint16(at + len(method))}
	if m.request {
		m.cseqMethod = m.method
		return bytes.Equal(method, m.MethodText())
	}
	m.cseqMethod = MethodOf(method)
	return true
}
