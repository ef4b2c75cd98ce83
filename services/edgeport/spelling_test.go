package edgeport

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// line is a header field as it is sent, with its line breaks, and as it has to arrive; the two differ where the proxy
// has to change it, and only there.
type line struct{ sent, want string }

func same(text string) line { return line{text, text} }

// text is a message as it is sent, and what has to arrive of it.
type text struct {
	start  string
	lines  []line
	body   string
	length bool   // it has a Content-Length
	via    string // of a request: the line with the Via of its sender
}

func (m *text) sent() string { return m.join(func(l line) string { return l.sent }) }
func (m *text) want() string { return m.join(func(l line) string { return l.want }) }

func (m *text) join(part func(line) string) string {
	var b strings.Builder
	b.WriteString(m.start + "\r\n")
	for _, l := range m.lines {
		b.WriteString(part(l))
	}
	return b.String() + "\r\n" + m.body
}

// speller writes messages that are legal by the grammar of RFC 3261 25 and as few people write them. What it writes
// depends on its seed alone.
type speller struct{ *rand.Rand }

func newSpeller(seed int) speller { return speller{rand.New(rand.NewPCG(3261, uint64(seed)))} }

func (s speller) of(list ...string) string { return list[s.IntN(len(list))] }

func (s speller) chance(percent int) bool { return s.IntN(100) < percent }

// compact are the compact forms of names (RFC 3261 7.3.3 and the RFCs of the extensions).
var compact = map[string]string{
	"Via": "v", "From": "f", "To": "t", "Call-ID": "i", "Contact": "m", "Content-Length": "l", "Content-Type": "c",
	"Content-Encoding": "e", "Subject": "s", "Supported": "k", "Event": "o", "Allow-Events": "u", "Refer-To": "r",
	"Referred-By": "b", "Session-Expires": "x", "Accept-Contact": "a", "Reject-Contact": "j", "Request-Disposition": "d",
	"Identity": "y",
}

// name is a header's name in any of its forms.
func (s speller) name(full string) string {
	name := full
	if c, ok := compact[full]; ok && s.chance(40) {
		name = c
	}
	switch s.IntN(4) {
	case 0:
		return strings.ToUpper(name)
	case 1:
		return strings.ToLower(name)
	case 2:
		mixed := []byte(name)
		for i, c := range mixed {
			if c|0x20 >= 'a' && c|0x20 <= 'z' && s.chance(50) {
				mixed[i] ^= 0x20
			}
		}
		return string(mixed)
	default:
		return name
	}
}

// colon is HCOLON, with white space and line folding.
func (s speller) colon() string {
	return s.of(":", ": ", ": ", ": ", " :", "\t: ", ":\t", "  \t :   ", ":\r\n ", " :\r\n\t ", ":  \r\n  ")
}

// lws is white space where at least one blank has to be.
func (s speller) lws() string { return s.of(" ", " ", "\t", "  \t ", "\r\n ", " \r\n\t", "\t\r\n   ") }

// sws is white space where none has to be.
func (s speller) sws() string { return s.of("", "", "", s.lws()) }

// header is one line.
func (s speller) header(full, value string) string {
	return s.name(full) + s.colon() + value + s.of("", "", "", " ", "\t ") + "\r\n"
}

// list is a header of several values.
func (s speller) list(full string, values ...string) string {
	value := values[0]
	for _, v := range values[1:] {
		value += s.sws() + "," + s.sws() + v
	}
	return s.header(full, value)
}

// addresses are values of From and To, without a tag.
var addresses = []string{
	`<sip:alice@example.com>`,
	`"J. \"Rosen\berg\" \\ <x>, Jr; tag=no" <sip:alice@example.com>`,
	`sip:alice@example.com`,
	"Anonymous\r\n <sip:c8oqz84zk7z@privacy.example.com>",
	`  Watson   and  Co.!%*_+'~ <tel:+1-201-555-0123;phone-context=example.com>`,
	"\"J\u00fcrgen \u65e5\u672c\" <sip:%61lice:p%40ss@EXAMPLE.com;p=%3B;User=phone>",
	`"" <sip:alice@[2001:db8::10]:5070>`,
	"The\r\n\tfolded  \r\n name\t<sips:alice@example.com?Subject=a%20b&x=y>",
	`<urn:service:sos.fire>`,
}

func (s speller) address(full, tag string) line {
	value := s.of(addresses...)
	if s.chance(30) {
		value += s.sws() + `;` + s.sws() + s.of(`hidden`, `x=y`, `user="a,b;c"`, `o = "q\"uoted"`)
	}
	if tag != "" {
		value += s.sws() + ";" + s.sws() + s.of("tag", "TAG", "Tag") + s.sws() + "=" + s.sws() + tag
	}
	return same(s.header(full, value))
}

// extras are header lines that a proxy has no business with: of extensions, unknown, repeated.
func (s speller) extras() []line {
	all := []string{
		s.header("Subject", "  I know you're there, \r\n\tpick up\r\n  the phone   and answer!"),
		s.header("Subject", "no colon : or semicolon; or <bracket, ends this"),
		s.list("Supported", "100rel", "path", "outbound", "x-unknown.!%*_+`'~"),
		s.list("Require", "nothing", "that-we-know"),
		s.list("Allow", "INVITE", "ACK", "invite", "FOO.bar"),
		s.list("Accept", "application/sdp;level=1", "*/*", "text/html ; q = 0.7", `multipart/mixed;boundary="a,b"`),
		s.list("Accept-Language", "da", "en-gb;q=0.8", "en;q=0.7"),
		s.list("Contact", "<sip:a@192.0.2.1:5062;transport=tcp;ob>;+sip.instance=\"<urn:uuid:1>\" ; q=0.7", "\"B, b\" <sip:b@[2001:db8::1]>;expires=3"),
		s.list("Record-Route", "<sip:p2.example.com;lr>", "\"P1\" <sip:p1.example.com;lr;x=\u00e9>;y=z"),
		s.header("Record-Route", "<sip:tok%41en@192.0.2.77:5070;transport=tcp;lr=on;x>"),
		s.header("Refer-To", "<sip:dave@denver.example.org?Replaces=12345%40192.168.118.3%3Bto-tag%3D12345%3Bfrom-tag%3D5FFE-3994>"),
		s.header("Referred-By", "<sip:ref@example.com>;cid=\"2UWQFN309shb3@ref.example.com\""),
		s.header("Session-Expires", "4000;refresher=uac"),
		s.header("Event", "presence . winfo ; id = 7"),
		s.header("Subscription-State", "active;expires=600000"),
		s.header("Timestamp", "54 . 25"),
		s.header("Date", "Sat, 13 Nov 2010 23:29:00 GMT"),
		s.header("Date", "Sun, 14 Nov 2010 23:29:00 GMT"),
		s.header("Warning", "307 isi.edu \"Session parameter 'foo' not \\\"understood\\\"\", 301 x \"y\""),
		s.header("Expires", "0000000000000007200"),
		s.header("MIME-Version", "1 . 0"),
		s.header("Content-Encoding", "identity, x-gzip"),
		s.header("Content-Disposition", "session;handling=optional"),
		s.header("Alert-Info", "<http://www.example.com/sounds/moo.wav>, <cid:a@b>;x"),
		s.header("Call-Info", "<http://wwww.example.com/alice/photo.jpg> ;purpose=icon,\r\n <http://www.example.com/alice/> ;purpose=info"),
		s.header("Diversion", "<sip:+19195551234;a=b@example.com>;privacy=full;reason=unconditional"),
		s.header("History-Info", "<sip:bob@example.com?Reason=SIP%3Bcause%3D302>;index=1, <sip:c@d>;index=1.1"),
		s.header("P-Asserted-Identity", "\"Cullen\" <sip:fluffy@example.com>"),
		s.header("P-Asserted-Identity", "tel:+14085264000"),
		s.header("Privacy", "id ; header;user"),
		s.header("Reason", "Q.850;cause=16;text=\"Terminated, \u00e9\""),
		s.header("Replaces", "98732@sip.example.com;from-tag=r33th4x0r;to-tag=ff87ff"),
		s.header("RAck", "0776656   1 INVITE"),
		s.header("RSeq", "0000988789"),
		s.header("In-Reply-To", "70710@saturn.example.com,17320@saturn.example.com"),
		s.header("Authorization", `Digest username="a,b", realm="elsewhere.example", nonce="00", uri="sip:x", response="d\"q"`),
		s.header("Authorization", `NewScheme a=b,c="d"`),
		s.header("User-Agent", "Softphone/1.0 (beta; \"quoted\") \u2603 caf\u00e9"),
		s.header("Organization", "Boxes   by \t Bob"),
		s.header("Identity", "dGhpcyBpcyBub3Q=;info=<https://example.org/p.cer>;alg=ES256"),
		s.header("Accept-Contact", "*;audio;require, *;video"),
		s.header("Path", "<sip:edge@192.0.2.9;lr;ob>,<sip:P3.EXAMPLEHOME.COM;lr>"),
		"X-Empty:\r\n",
		"X-Empty : \t \r\n",
		"x-bl-ank:\r\n \r\n\t\r\n",
		"X-Long: " + strings.Repeat("0123456789abcdef,;<>\"", 30) + "\r\n",
		"X-Folded: a\r\n b\r\n\tc\r\n     d:e\r\n",
		"X-Repeated: 1\r\n", "x-repeated: 2\r\n", "X-REPEATED : 3\r\n",
		"!%*_+`'~.-: the name is a token\r\n",
		"X-UTF8: \u041f\u0440\u0438\u0432\u0435\u0442 \u4e16\u754c \U0001f600\r\n",
		"X-Latin1: caf\xe9, which is not legal and daily bread\r\n",
		"X-Colons: a: b: c::\r\n",
		"X-Brackets: <<>>\"\"\\\"((\r\n",
		"Vi: not a Via\r\n", "Froms: nor a From\r\n", "Content-Lengths: 99\r\n", "Z: one letter\r\n",
	}
	once := map[string]bool{} // what may stand in a message once
	var lines []line
	for _, i := range s.Perm(len(all))[:6+s.IntN(14)] {
		name, _, _ := strings.Cut(all[i], ":")
		name = strings.ToLower(strings.TrimSpace(name))
		for full, short := range compact {
			if name == short {
				name = strings.ToLower(full)
			}
		}
		switch name {
		case "subject", "session-expires", "event", "expires", "refer-to", "timestamp":
			if once[name] {
				continue
			}
			once[name] = true
		}
		lines = append(lines, same(all[i]))
	}
	return lines
}

// bodies of every kind; the first is none.
var bodies = []struct{ kind, text string }{
	{"", ""},
	{"application/sdp", "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=" + strings.Repeat("x", 4000) + "\r\n"},
	{"text/plain;charset=UTF-8", "\u65e5\u672c\u8a9e \U0001f600 without a line break at its end"},
	{"text/plain", "\r\n\r\n   it begins with an empty line\r\n\r\n"},
	{"message/sipfrag", "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKno\r\nContent-Length: 5\r\n\r\nhello"},
	{"application/octet-stream", everyByte()},
	{`multipart/mixed;boundary="unique boundary"`, "preamble\r\n--unique boundary\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n\r\n--unique boundary\r\n" +
		"Content-Type: application/isup;version=x\r\nContent-Transfer-Encoding: binary\r\n\r\n" + everyByte() + "\r\n--unique boundary--\r\nepilogue\x00"},
	{"x-unknown/a.b+c", strings.Repeat("\x00\xff\r\n", 2000)},
}

func everyByte() string {
	b := make([]byte, 512)
	for i := range b {
		b[i] = byte(i)
	}
	return string(b)
}

// content gives m a body, with its headers among the others. Without a Content-Length it goes to the end of the datagram,
// or of the WebSocket message; only a stream needs one (RFC 3261 18.3).
func (s speller) content(m *text, transport string) {
	body := bodies[s.IntN(len(bodies))]
	m.body = body.text
	if body.kind != "" {
		m.lines = append(m.lines, same(s.header("Content-Type", body.kind)))
	}
	if m.length = transport == "tcp" || transport == "tls" || s.chance(60); m.length {
		m.lines = append(m.lines, same(s.header("Content-Length", s.of("", "00", "0000000")+fmt.Sprint(len(m.body)))))
	}
}

// request is a request from the phone from, and what has to arrive of it. In a dialog route is its route set, of which
// the first ours are the EdgePort's; outside of one it is whatever the sender would like.
func (s speller) request(from *phone, method, uri, callID, branch, toTag string, route []string, ours int) *text {
	vias, top := s.vias(from, branch)
	m := &text{start: method + " " + uri + " SIP/2.0", via: top.sent}
	m.lines = []line{
		s.address("From", "a"+callID[:4]), s.address("To", toTag),
		same(s.header("Call-ID", callID)),
		same(s.header("CSeq", s.of("", "0", "00000")+fmt.Sprint(s.IntN(1<<31))+s.lws()+method)),
	}
	if s.chance(80) {
		n := 1 + s.IntN(255)
		name := s.name("Max-Forwards")
		m.lines = append(m.lines, line{name + s.colon() + s.of("", "00") + fmt.Sprint(n) + s.of("", " ") + "\r\n", fmt.Sprintf("%s: %d\r\n", name, n-1)})
	}
	s.content(m, from.transport)
	m.lines = append(m.lines, s.extras()...)
	s.Shuffle(len(m.lines), func(i, j int) { m.lines[i], m.lines[j] = m.lines[j], m.lines[i] })
	// Those whose order counts, each somewhere behind the one before.
	m.scatter(s, append([]line{top}, vias...))
	m.scatter(s, s.spread("Route", route, ours))
	return m
}

// scatter puts lines between those of m, in their order.
func (m *text) scatter(s speller, lines []line) {
	at := 0
	for _, l := range lines {
		at += s.IntN(len(m.lines) - at + 1)
		m.lines = slices.Insert(m.lines, at, l)
		at++
	}
}

// vias are the Vias of a request: the line with that of the phone, and those of the elements behind it. What arrives of
// the first one has received and rport as RFC 3261 18.2.1 and RFC 3581 4 want them.
func (s speller) vias(from *phone, branch string) (others []line, top line) {
	port := from.addr()[strings.LastIndexByte(from.addr(), ':')+1:]
	host, rport := from.host(), true
	if from.transport == "udp" {
		host = s.of("127.0.0.1", "127.0.0.1", "pc33.example.com", "[2001:db8::1]") + s.of(":", " : ", ":\r\n ") + port
		rport = s.chance(50)
	}
	slash := func() string { return s.sws() + "/" + s.sws() }
	sent := "SIP" + slash() + "2.0" + slash() + strings.ToUpper(from.transport) + s.lws() + host
	want := sent
	params := []line{same(s.sws() + ";" + s.sws() + s.of("branch", "BRANCH", "bRanch") + s.sws() + "=" + s.sws() + "z9hG4bK" + branch)}
	if rport {
		params = append(params, line{sent: s.sws() + ";" + s.sws() + s.of("rport", "RPort", "rport=99")})
	}
	for _, p := range []line{same(";keep"), same("; x = \"q,;uoted\\\"\""), same(";comp=sigcomp"), same(";\r\n ttl=1"), {sent: ";received=192.0.2.99"}, {sent: " ; Received = [2001:db8::7]"}} {
		if s.chance(25) {
			params = append(params, p)
		}
	}
	s.Shuffle(len(params), func(i, j int) { params[i], params[j] = params[j], params[i] })
	for _, p := range params {
		sent, want = sent+p.sent, want+p.want
	}
	if rport || !strings.HasPrefix(host, "127.0.0.1") {
		want += ";received=127.0.0.1"
	}
	if rport {
		want += ";rport=" + port
	}
	behind := []string{
		"SIP/2.0/TCP spindle.example.com ;\r\n  branch  =   z9hG4bK9ikj8  ;\r\n received=192.0.2.4", "SIP  / 2.0\t/ UDP    192.168.255.111   ; branch=z9hG4bK30239",
		"SIP/2.0/TLS [2001:db8::9]:5061;branch=z9hG4bK.x;unknown=\"a, b\"", "SIP/2.0/X-ext.1 h;branch=old;rport;maddr=192.0.2.1;ttl=7",
	}
	joined := ""
	for range s.IntN(3) {
		v := s.of(behind...)
		if s.chance(50) {
			joined += s.sws() + "," + s.sws() + v
		} else {
			others = append(others, same(s.header("Via", v)))
		}
	}
	name, end := s.name("Via")+s.colon(), joined+s.of("", " ")+"\r\n"
	return others, line{name + sent + end, name + want + end}
}

// spread puts values into one or more headers of a kind, of which the first few values do not arrive.
func (s speller) spread(full string, values []string, gone int) (lines []line) {
	for i := 0; i < len(values); {
		n := 1 + s.IntN(len(values)-i)
		name := s.name(full) + s.colon()
		l := line{sent: name}
		for j := i; j < i+n; j++ {
			value := values[j]
			if j < i+n-1 {
				value += s.sws() + "," + s.sws()
			}
			l.sent += value
			if j >= gone {
				if l.want == "" {
					l.want = name
				}
				l.want += value
			}
		}
		end := s.of("", "\t") + "\r\n"
		l.sent += end
		if l.want != "" {
			l.want += end
		}
		lines, i = append(lines, l), i+n
	}
	return lines
}

// response is a response to a request that the phone to received, whose Vias it copies, and what has to arrive of it.
func (s speller) response(to *phone, status int, vias []string, from, callID, cseq string) *text {
	m := &text{start: fmt.Sprintf("SIP/2.0 %d %s", status, s.of("OK", "", "Any  reason \t at all", "\u00c7a va \u2603", "200 (not) <really>;x=\"y"))}
	m.lines = []line{
		same(s.header("From", from)), s.address("To", "b1"),
		same(s.header("Call-ID", callID)), same(s.header("CSeq", cseq)),
	}
	s.content(m, to.transport)
	if status == 401 || status == 407 {
		m.lines = append(m.lines,
			same(s.header("WWW-Authenticate", `Digest realm="a, b", nonce="1\"2" , qop="auth,auth-int",stale=FALSE`)),
			same(s.header("Proxy-Authenticate", `Digest realm="other", nonce="",algorithm=SHA-256`)),
			same(s.header("Proxy-Authenticate", `Unknown x=y`)))
	}
	m.lines = append(m.lines, s.extras()...)
	s.Shuffle(len(m.lines), func(i, j int) { m.lines[i], m.lines[j] = m.lines[j], m.lines[i] })
	m.scatter(s, s.spread("Via", vias, 1)) // the first is the EdgePort's
	return m
}
