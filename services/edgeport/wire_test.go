package edgeport

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/routr-fabric/routr/bus"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

// wireMethods are all that cross a proxy outside of a dialog. CANCEL does not: each hop makes its own (RFC 3261 9.2). The
// last four are of nobody, and methods are case-sensitive (7.1).
var wireMethods = []string{
	"INVITE", "BYE", "REGISTER", "OPTIONS", "MESSAGE", "INFO", "UPDATE", "PRACK", "REFER", "NOTIFY", "SUBSCRIBE", "PUBLISH",
	"PING", "FOO.bar", "!%*_+`'~-1", "foo.BAR",
}

// P3, P16, P53: what the proxy does not have to change passes it byte for byte, both ways: 400 requests, so that each
// method takes each pair of transports, and their responses.
func TestP16E4ByteForByte(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		w := startWire(t, conn)
		for i := range len(wireMethods) * len(transports) * len(transports) {
			from, to, method := transports[i%5], transports[i/5%5], wireMethods[i%len(wireMethods)]
			t.Run(fmt.Sprintf("%d %s %s->%s", i, method, from, to), func(t *testing.T) {
				w.relay(t, newSpeller(i), w.callers[from], w.callees[to], method, fmt.Sprintf("%04d", i))
			})
		}
	})
}

// P10, P16, P58: the same within a dialog, in both directions, where a request follows its Route and the bus is not asked.
func TestP16E4ByteForByteInDialog(t *testing.T) {
	modes(t, func(t *testing.T, conn *bus.Conn) {
		w := startWire(t, conn)
		seed := 1000
		for _, from := range transports {
			for _, to := range transports {
				t.Run(from+"->"+to, func(t *testing.T) {
					w.callers[from].t, w.callees[to].t = t, t
					a, b := w.call(t, w.callers[from], w.callees[to], "dialog-"+from+"-"+to)
					for range 2 {
						for _, method := range []string{"ACK", "INFO", "foo.BAR", "UPDATE", "PRACK", "INVITE"} {
							seed++
							w.follow(t, newSpeller(seed), a, b, method, seed)
						}
						a, b = b, a
					}
				})
			}
		}
	})
}

// wire is an EdgePort between two phones for each transport.
type wire struct {
	*exchange
	callers, callees map[string]*phone
}

func startWire(t *testing.T, conn *bus.Conn) *wire {
	t.Helper()
	w := &wire{callers: make(map[string]*phone), callees: make(map[string]*phone)}
	w.exchange = startExchange(t, conn, func(cfg *Config) { cfg.Spec.Methods = slices.Concat(wireMethods, []string{"ACK", "CANCEL"}) })
	for _, name := range transports {
		w.callers[name], w.callees[name] = w.phone(t, name, "alice-"+name), w.phone(t, name, "bob-"+name)
	}
	return w
}

// relay sends a request outside of a dialog from one phone to the other, with some responses back.
func (w *wire) relay(t *testing.T, s speller, from, to *phone, method, id string) {
	t.Helper()
	from.t, to.t = t, t
	callID := id + s.of("", "@example.com", "%!*_+`'~()<>:\\\"/[]?{}@h.-x")
	route := [][]string{nil, {"<sip:192.0.2.77;lr>"}, {"\"P, 1\" <sip:p1@192.0.2.78:5070;lr;x>;y=z", "<sip:" + w.point(from.transport) + ";lr>", "<sip:p3.example.com;lr>"}}[s.IntN(3)]
	uri := s.of("sip:bob@example.com", "SIP:b%6Fb;day=tuesday:p%40ss@Example.COM:5060;x=%3B;Transport=udp", "sip:[2001:db8::1];unknown", "tel:+1-201-555-0123;phone-context=+1", "urn:service:sos.fire")
	req := s.request(from, method, uri, callID, id, s.of("", "", "t"), route, len(route))
	target := w.setDecision(s, req, callID, to)

	from.client.send(w.system, req.sent())
	if method == "INVITE" {
		from.want("SIP/2.0 100")
	}
	var recorded []*phone
	if slices.Contains([]string{"INVITE", "SUBSCRIBE", "REFER", "NOTIFY"}, method) { // 16.6 step 4
		if recorded = append(recorded, to); from.transport != to.transport {
			recorded = append(recorded, from)
		}
	}
	got := w.wantRequest(t, to, req, target, recorded)
	if got == nil {
		return
	}
	statuses := []int{[]int{200, 202, 299, 401, 404, 407, 420, 486, 433, 488, 500, 504, 600, 603, 699}[s.IntN(15)]}
	if method == "INVITE" {
		statuses = append([]int{180, 199}[:s.IntN(3)], statuses...)
	}
	number, cseq := got.CSeq()
	for _, status := range statuses {
		resp := s.response(to, status, values(got, message.KindVia), "<sip:alice@example.com>;tag=a"+id, callID, fmt.Sprintf("%d%s%s", number, s.lws(), cseq))
		to.client.send(w.system, resp.sent())
		w.wantResponse(t, from, resp)
		if method == "INVITE" && status >= 300 { // hop by hop (17.1.1.3)
			to.want("ACK")
			from.client.send(w.system, "ACK "+uri+" SIP/2.0\r\n"+req.via+"From: <sip:alice@example.com>;tag=a"+id+"\r\nTo: <sip:bob@example.com>;tag=b1\r\nCall-ID: "+callID+
				"\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n")
		}
	}
}

// setDecision has the test, as the dispatcher, decide on the request in one of the ways that there are, and returns its
// new Request-URI.
func (w *wire) setDecision(s speller, req *text, callID string, to *phone) (uri string) {
	answer := func(answer *processorpb.MessageResponse) {
		w.decides(callID, func(r *bus.Request, _ *processorpb.MessageRequest) { r.Reply(bus.Reply{Body: bus.Value(answer)}) })
	}
	target := &processorpb.MessageResponse{Targets: []*processorpb.Target{to.target()}}
	switch {
	case to.transport == "udp" && s.chance(60): // the message comes back with another Request-URI
		host, port, _ := net.SplitHostPort(to.addr())
		next := &sipmessagepb.SipURI{User: to.name, Host: host}
		fmt.Sscan(port, &next.Port)
		w.decides(callID, func(r *bus.Request, req *processorpb.MessageRequest) {
			m := proto.CloneOf(req.Message)
			m.MessageType = &sipmessagepb.SIPMessage_RequestUri{RequestUri: next}
			m.Route = nil
			r.Reply(bus.Reply{Body: bus.Value(&processorpb.MessageResponse{Message: m})})
		})
	case s.chance(30): // credentials go, and a header comes
		for range 1 + s.IntN(2) {
			at := s.IntN(len(req.lines) + 1)
			req.lines = slices.Insert(req.lines, at, line{sent: s.header("Proxy-Authorization", "Digest username=\"alice\",\r\n realm=\"example.com\" , response=\"0\"")})
		}
		req.lines = append(req.lines, line{want: "X-Added: by a processor\r\n"})
		target.RemoveHeaders = []string{"proxy-authorization"}
		target.AddHeaders = []*sipmessagepb.Extension{{Name: "X-Added", Value: "by a processor"}}
		fallthrough
	default:
		answer(target)
	}
	return to.contact()
}

// follow sends a request of a dialog.
func (w *wire) follow(t *testing.T, s speller, from, to *leg, method string, seed int) {
	t.Helper()
	route, id := slices.Clone(from.route), fmt.Sprintf("%04d-%s", seed, from.callID)
	if to.transport == "udp" && s.chance(50) { // through a proxy of the callee's, which is the callee's address
		route = append(route, s.of("\"P, 1\" <sip:p1@"+to.addr()+";lr;odd=%20>;y=\"z,\"", "<sip:"+to.addr()+";lr>"))
	}
	_, tag, _ := strings.Cut(from.remote, ";tag=")
	_, own, _ := strings.Cut(from.local, ";tag=")
	req := s.request(from.phone, method, from.target, from.callID, id, tag, route, len(from.route))
	for i, l := range req.lines { // the From tag tells which way the request goes
		if old := "a" + from.callID[:4]; strings.HasSuffix(strings.TrimRight(l.sent, " \t\r\n"), old) {
			req.lines[i] = same(strings.Replace(l.sent, old, own, 1))
		}
	}
	from.client.send(w.system, req.sent())
	if method == "INVITE" {
		from.phone.want("SIP/2.0 100")
	}
	got := w.wantRequest(t, to.phone, req, from.target, nil)
	if got == nil || method == "ACK" {
		return
	}
	number, _ := got.CSeq()
	resp := s.response(to.phone, 200, values(got, message.KindVia), from.local, from.callID, fmt.Sprint(number, " ", method))
	to.client.send(w.system, resp.sent())
	w.wantResponse(t, from.phone, resp)
}

// wantRequest is the next request at to, which has to be req with another Request-URI and what the proxy adds.
func (w *wire) wantRequest(t *testing.T, to *phone, req *text, uri string, recorded []*phone) *message.Message {
	t.Helper()
	m, data := to.next()
	rest, err := w.withoutOurs(string(data), to, req, recorded)
	method, _, _ := strings.Cut(req.start, " ")
	want := *req
	want.start = method + " " + uri + " SIP/2.0"
	if d := cmp.Diff(lines(want.want()), lines(rest)); err != nil || d != "" {
		t.Errorf("%v; %s over %s received (-want +got)\n%s", err, to.name, to.transport, d)
		return nil
	}
	return m
}

// wantResponse is the next response at to, which has to be resp without its top Via.
func (w *wire) wantResponse(t *testing.T, to *phone, resp *text) {
	t.Helper()
	_, data := to.next()
	got, err := string(data), error(nil)
	if !resp.length && to.transport != "udp" {
		got, err = cut(got, fmt.Sprintf("Content-Length: %d", len(resp.body)))
	}
	if d := cmp.Diff(lines(resp.want()), lines(got)); err != nil || d != "" {
		t.Errorf("%v; %s over %s received (-want +got)\n%s", err, to.name, to.transport, d)
	}
}

// withoutOurs is a request without the lines that the proxy had to add to it; all of them have to be there, in the first
// places of their kind. recorded are the phones whose sides a Record-Route is for.
func (w *wire) withoutOurs(got string, to *phone, req *text, recorded []*phone) (string, error) {
	var errs []error
	remove := func(pattern string, args ...any) {
		var err error
		got, err = cut(got, fmt.Sprintf(pattern, args...))
		errs = append(errs, err)
	}
	remove(`Via: SIP/2\.0/%s %s;branch=z9hG4bK[^;]+`, strings.ToUpper(to.transport), w.point(to.transport))
	for _, p := range recorded {
		param := ";transport=" + p.transport
		if p.transport == "udp" {
			param = ""
		}
		remove(`Record-Route: <sip:[^@>]+@%s%s;lr>`, w.point(p.transport), param)
	}
	if !slices.ContainsFunc(req.lines, func(l line) bool { return nameOf(l.want) == "max-forwards" }) {
		remove(`Max-Forwards: 70`)
	}
	if !req.length && to.transport != "udp" {
		remove(`Content-Length: %d`, len(req.body))
	}
	if rest, err := cut(got, `Max-Breadth: 60`); err == nil { // RFC 5393 5.3.3; no request here has one
		got = rest
	}
	return got, errors.Join(errs...)
}

// cut takes the first header of a kind, which has to be the one of the pattern, out of a message.
func cut(message, pattern string) (string, error) {
	whole := regexp.MustCompile("^" + pattern + "\r\n$")
	all := lines(message)
	for i, l := range all {
		if i == 0 || nameOf(l) != nameOf(pattern) {
			continue
		}
		if !whole.MatchString(l) {
			return message, fmt.Errorf("the first %s is %q, want %s", nameOf(pattern), l, pattern)
		}
		return strings.Join(slices.Delete(all, i, i+1), ""), nil
	}
	return message, fmt.Errorf("no %s", pattern)
}

// nameOf is the name of a header in one form.
func nameOf(line string) string {
	name, _, _ := strings.Cut(line, ":")
	name = strings.TrimSpace(name)
	for full, short := range compact {
		if strings.EqualFold(name, short) {
			name = full
		}
	}
	return strings.ToLower(name)
}

// lines are the start line, the headers with the lines folded into them, and the rest of a message with the empty line.
func lines(message string) []string {
	head, _, _ := strings.Cut(message, "\r\n\r\n")
	body := message[len(head):]
	if strings.HasPrefix(body, "\r\n") {
		head, body = head+"\r\n", body[2:]
	}
	var all []string
	for l := range strings.SplitAfterSeq(head, "\n") {
		if len(all) > 0 && l != "" && (l[0] == ' ' || l[0] == '\t') {
			all[len(all)-1] += l
		} else if l != "" {
			all = append(all, l)
		}
	}
	return append(all, body)
}
