package edgeport

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

// G15: a request may use its last hop, and none behind that; the number never wraps around.
func TestG15MaxForwards(t *testing.T) {
	alice, bob := udpClient(t), udpClient(t)
	s := start(t, bustest.Local(t), to(bob), nil)
	for _, tt := range []struct{ in, want string }{{"70", "69"}, {"1", "0"}, {"255", "254"}, {"0", "SIP/2.0 483"}, {"256", "SIP/2.0 400"}, {"-1", "SIP/2.0 400"}, {"4294967295", "SIP/2.0 400"}} {
		alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", "z9hG4bK"+tt.in, "Max-Forwards: "+tt.in))
		if strings.HasPrefix(tt.want, "SIP") {
			alice.want(tt.want)
			continue
		}
		m := bob.want("MESSAGE")
		if got := header(m, "Max-Forwards"); got != tt.want {
			t.Errorf("Max-Forwards %s became %s, want %s", tt.in, got, tt.want)
		}
		bob.send(s, response(m, 200, "b"))
		alice.want("SIP/2.0 200")
	}
	bob.quiet(s)
}

// G16: a method is what is written there, in its case.
func TestG16MethodsKeepTheirCase(t *testing.T) {
	methods := []string{"foo.Bar", "FOO.bAR", "x-!%*_+`'~"}
	alice, bob := udpClient(t), udpClient(t)
	names := make(chan string, 10)
	s := start(t, bustest.Local(t), func(r *bus.Request, req *processorpb.MessageRequest) {
		names <- req.MethodName
		to(bob)(r, req)
	}, func(cfg *Config) { cfg.Spec.Methods = append(cfg.Spec.Methods, methods...) })
	for _, method := range methods {
		alice.send(s, alice.request(s, method, "sip:bob@example.com", "z9hG4bK"+method))
		m := bob.want(method + " sip:")
		if _, cseq := m.CSeq(); string(cseq) != method {
			t.Errorf("CSeq has %q, want %q", cseq, method)
		}
		if got := <-names; got != method {
			t.Errorf("method on the bus = %q, want %q", got, method)
		}
		bob.send(s, response(m, 200, "b"))
		alice.want("SIP/2.0 200")
	}
	alice.send(s, alice.request(s, "invite", "sip:bob@example.com", "z9hG4bKinvite"))
	alice.want("SIP/2.0 405")
}

// G17: another version is refused, in the one that we speak.
func TestG17Version(t *testing.T) {
	alice := udpClient(t)
	s := start(t, bustest.Local(t), notFound, nil)
	for i, version := range []string{"SIP/7.0", "SIP/2.1", "SIP/02.0", "SIP/3.0"} {
		alice.send(s, strings.Replace(alice.request(s, "MESSAGE", "sip:bob@example.com", fmt.Sprint("z9hG4bK", i)), "SIP/2.0\r\n", version+"\r\n", 1))
		alice.want("SIP/2.0 505")
	}
	for _, version := range []string{"SIPX/2.0", "HTTP/1.1", "SIP/2", "SIP2.0", "SIP/2.0 "} { // no versions of SIP at all
		alice.send(s, strings.Replace(alice.request(s, "MESSAGE", "sip:bob@example.com", "z9hG4bKnone"), "SIP/2.0\r\n", version+"\r\n", 1))
	}
	alice.quiet(s)
}

// G18, G19: how parameters and addresses are written is no reason to misread, to cut or to drop them.
func TestG18G19Spelling(t *testing.T) {
	for _, tt := range []struct {
		name   string
		fields []string
		branch string // by which the answer knows its request
	}{
		{"names in capitals", []string{"Via: SIP/2.0/UDP HOST;RPORT;BRANCH=z9hG4bKx", "From: <sip:alice@example.com>;TAG=a"}, "z9hG4bKx"},
		{"white space in parameters", []string{"Via: SIP / 2.0 / UDP  HOST ; rport ;\r\n branch\t= z9hG4bKx", "From: <sip:alice@example.com> ; tag = a"}, "z9hG4bKx"},
		{"quotes in Via", []string{`Via: SIP/2.0/UDP HOST;x="a,b;branch=no\"";branch=z9hG4bKx;rport, SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKy`}, "z9hG4bKx"},
		{"Vias without parameters", []string{"Via: SIP/2.0/UDP HOST;branch=z9hG4bKx;rport,SIP/2.0/UDP a.example.com,SIP/2.0/TCP b.example.com:5061"}, "z9hG4bKx"},
		{"IPv6 Vias", []string{"Via: SIP/2.0/UDP HOST;branch=z9hG4bKx;rport, SIP/2.0/UDP [2001:db8::1]:5060, SIP/2.0/TCP [::ffff:192.0.2.1];received=2001:db8::2"}, "z9hG4bKx"},
		{"quotes in Contact", []string{`Contact: "a\"b, <c>" <sip:alice@192.0.2.1>;x="1,2;3", <sip:b@192.0.2.1>`}, ""},
		{"Record-Route", []string{`Record-Route: "Proxy, one" <sip:p1@192.0.2.1;lr;x=%20>;header="a,b", <sip:192.0.2.2;lr=on>`}, ""},
		{"Refer-To", []string{`Refer-To: "Carol" <sip:carol@example.com?Replaces=1%3Bto-tag%3D2>;method=INVITE`}, ""},
		{"other headers", []string{`History-Info: <sip:a@b?Reason=SIP%3Bcause%3D302>;index=1, <sip:c@d>;index=1.1`, "x-UNKNOWN : , ;; \"", "Subject:"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			alice, bob := udpClient(t), udpClient(t)
			s := start(t, bustest.Local(t), to(bob), nil)
			fields := slices.Clone(tt.fields)
			for i := range fields {
				fields[i] = strings.Replace(fields[i], "HOST", alice.addr(), 1)
			}
			branch := "z9hG4bK1"
			text := alice.request(s, "MESSAGE", "sip:bob@example.com", branch, fields...)
			alice.send(s, text)
			m := bob.want("MESSAGE")
			if d := cmp.Diff(notOurs([]byte(text)), notOurs(m.Bytes())); d != "" {
				t.Errorf("what came (-want +got):\n%s", d)
			}
			var sent message.Message
			if err := sent.Parse([]byte(text), message.DefaultLimits()); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(values(&sent, message.KindVia)[1:], values(m, message.KindVia)[2:]); d != "" {
				t.Errorf("Vias below the caller's (-want +got):\n%s", d)
			}
			if d := cmp.Diff(values(&sent, message.KindRecordRoute), values(m, message.KindRecordRoute)); d != "" {
				t.Errorf("Record-Routes (-want +got):\n%s", d)
			}
			bob.send(s, response(m, 200, "b"))
			if tt.branch != "" {
				branch = tt.branch
			}
			if got := string(alice.want("SIP/2.0 200").TopVia().Branch); got != branch {
				t.Errorf("the answer has branch %q, want %q", got, branch)
			}
		})
	}
	t.Run("ports that are none", func(t *testing.T) {
		alice := udpClient(t)
		s := start(t, bustest.Local(t), notFound, nil)
		for i, port := range []string{"abc", "-5", "99999", "0", ""} {
			alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", "", fmt.Sprintf("Via: SIP/2.0/UDP 127.0.0.1:%s;rport;branch=z9hG4bK%d", port, i)))
		}
		alice.quiet(s)
		if n := s.edge.counts.malformed.Load(); n != 5 {
			t.Errorf("%d malformed messages counted, want 5", n)
		}
	})
}

// G20: URIs that are not sip: reach whoever decides, as they are, an emergency above all.
func TestG20URIs(t *testing.T) {
	alice, bob := udpClient(t), udpClient(t)
	asked := make(chan string, 10)
	s := start(t, bustest.Local(t), func(r *bus.Request, req *processorpb.MessageRequest) {
		asked <- req.GetMessage().GetRequestUri().GetRaw()
		to(bob)(r, req)
	}, nil)
	for i, uri := range []string{
		"urn:service:sos", "URN:service:sos.fire", "tel:+1-201-555-0123;phone-context=example.com", "sip:bob@[::ffff:192.0.2.1]:5070",
		"sip:b%6fb;x=1:p%40ss@Example.COM;Foo=bar",
	} {
		text := alice.request(s, "MESSAGE", uri, fmt.Sprint("z9hG4bK", i), "To: <"+uri+">")
		alice.send(s, text)
		m := bob.want("MESSAGE")
		if raw := <-asked; raw != uri || header(m, "To") != "<"+uri+">" {
			t.Errorf("%s was asked for as %q, and came to %q", uri, raw, header(m, "To"))
		}
		bob.send(s, response(m, 200, "b"))
		alice.want("SIP/2.0 200")
	}
	for i, uri := range []string{"soap.beep://192.0.2.103:3002", "nobodyKnowsThisScheme:x", "http://example.com"} {
		alice.send(s, alice.request(s, "MESSAGE", uri, fmt.Sprint("z9hG4bKno", i)))
		alice.want("SIP/2.0 416")
	}
}

// G21: the same branch by another transport or from another address is another request, and one without a branch or a
// From tag, as of RFC 2543, is one as well.
func TestG21TransactionsAreApart(t *testing.T) {
	bob := udpClient(t)
	s := start(t, bustest.Local(t), to(bob), nil)
	via := "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKsame;rport"
	for _, alice := range []*client{udpOn(t, "127.0.0.5"), udpOn(t, "127.0.0.6"), s.tcpClient()} {
		alice.send(s, alice.request(s, "MESSAGE", "sip:bob@example.com", "", via))
		bob.send(s, response(bob.want("MESSAGE"), 200, "b"))
		alice.want("SIP/2.0 200")
	}
	alice := udpClient(t)
	old := alice.request(s, "MESSAGE", "sip:bob@example.com", "", "Via: SIP/2.0/UDP "+alice.addr(), "From: <sip:alice@example.com>")
	alice.send(s, old)
	bob.send(s, response(bob.want("MESSAGE"), 200, "b"))
	alice.want("SIP/2.0 200")
	alice.send(s, old) // again, which is answered from memory
	alice.want("SIP/2.0 200")
	bob.quiet(s)
}

// G23: no datagram ends a listener.
func TestG23ListenerSurvives(t *testing.T) {
	s := startOrdeals(t, "127.0.0.1", udpClient)
	mallory := udpClient(t)
	for i := range 256 {
		mallory.send(s.system, strings.Repeat(string([]byte{byte(i)}), i))
		mallory.send(s.system, "OPTIONS sip:a SIP/2.0\r\n"+strings.Repeat(string([]byte{byte(i)}), i)+"\r\n\r\n")
		if i%32 == 31 {
			mallory.quiet(s.system)
		}
	}
	s.tcpClient().quiet(s.system)
}

// G26: a compact name is the header that it stands for, where that matters to us, and stays as it is.
func TestG26CompactNames(t *testing.T) {
	alice, bob := udpClient(t), udpClient(t)
	asked := make(chan map[string]string, 1)
	s := start(t, bustest.Local(t), func(r *bus.Request, req *processorpb.MessageRequest) {
		extensions := make(map[string]string)
		for _, x := range req.GetMessage().GetExtensions() {
			extensions[x.Name] = x.Value
		}
		asked <- extensions
		to(bob)(r, req)
	}, nil)
	text := "MESSAGE sip:bob@example.com SIP/2.0\r\nv: SIP/2.0/UDP " + alice.addr() + ";branch=z9hG4bK1;rport\r\nMax-Forwards: 70\r\n" +
		"f: <sip:alice@example.com>;tag=a\r\nt: <sip:bob@example.com>\r\ni: compact\r\nCSeq: 1 MESSAGE\r\nm: <sip:alice@192.0.2.1>\r\n" +
		"k: path\r\no: presence\r\nr: <sip:x@example.com>\r\nb: <sip:y@example.com>\r\ns: hi\r\ne: gzip\r\na: *;audio\r\nu: presence\r\n" +
		"x: 90\r\ny: id\r\nd: proxy\r\nj: *;video\r\nc: text/plain\r\nl: 2\r\n\r\nhi"
	alice.send(s, text)
	m := bob.want("MESSAGE")
	if d := cmp.Diff(notOurs([]byte(text)), notOurs(m.Bytes())); d != "" {
		t.Errorf("what came (-want +got):\n%s", d)
	}
	want := map[string]string{
		"CSeq": "1 MESSAGE", "Supported": "path", "Event": "presence", "Refer-To": "<sip:x@example.com>", "Referred-By": "<sip:y@example.com>", "Subject": "hi",
		"Content-Encoding": "gzip", "Accept-Contact": "*;audio", "Allow-Events": "presence", "Session-Expires": "90", "Identity": "id",
		"Request-Disposition": "proxy", "Reject-Contact": "*;video", "Content-Type": "text/plain",
	}
	if d := cmp.Diff(want, <-asked); d != "" {
		t.Errorf("what whoever decides gets (-want +got):\n%s", d)
	}
	bob.send(s, response(m, 200, "b"))
	if got := string(alice.want("SIP/2.0 200").CallID()); got != "compact" {
		t.Errorf("answer to %q, want compact", got)
	}
}

// A25: what means something to NATS, to a store or to a shell means nothing in a message: it is asked for, and passed on,
// as it is.
func TestA25OpaqueText(t *testing.T) {
	alice, bob := udpClient(t), udpClient(t)
	asked := make(chan [2]string, 1)
	s := start(t, bustest.Local(t), func(r *bus.Request, req *processorpb.MessageRequest) {
		asked <- [2]string{req.Ref, req.GetMessage().GetFrom().GetAddress().GetUri().GetUser()}
		to(bob)(r, req)
	}, func(cfg *Config) { cfg.Spec.Methods = append(cfg.Spec.Methods, "*", "a.*", "%2A") })
	for i, method := range []string{"MESSAGE", "*", "a.*", "%2A"} {
		for j, text := range []string{"';DROP%20TABLE", "1001.*", "*.%3E", "$JS.API.STREAM.DELETE.KV_routr_bindings", "$(reboot)", "..%2f..%2f", "a=2Eb", "%00"} {
			id := fmt.Sprint(i, "-", j, "-", text, ".*.>")
			alice.send(s, alice.request(s, method, "sip:bob@example.com", fmt.Sprintf("z9hG4bK%d-%d", i, j), "Call-ID: "+id, "From: <sip:"+text+"@example.com>;tag=a"))
			m := bob.want(method + " sip:")
			if got := <-asked; got != [2]string{id, text} || string(m.CallID()) != id || header(m, "From") != "<sip:"+text+"@example.com>;tag=a" {
				t.Errorf("asked for Call-ID and user %q, want %q and %q; sent on\n%s", got, id, text, m.Bytes())
			}
			bob.send(s, response(m, 200, "b"))
			alice.want("SIP/2.0 200")
		}
	}
}
