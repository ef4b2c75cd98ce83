package dispatcher

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	commonpb "github.com/routr-fabric/routr/proto/common/v2beta1"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
)

// invite is the request of testdata/invite.json.
func invite() *processorpb.MessageRequest {
	return &processorpb.MessageRequest{
		Ref:             "a84b4c76e66710@pc33.example.com",
		EdgePortRef:     "edgeport-01",
		Method:          processorpb.Method_INVITE,
		Sender:          &processorpb.NetInterface{Host: "192.0.2.4", Port: 40404, Transport: commonpb.Transport_WSS},
		ListeningPoints: []*processorpb.NetInterface{{Host: "0.0.0.0", Port: 5060}},
		ExternalAddrs:   []string{"203.0.113.7"},
		Metadata:        map[string]string{"__proto__": "x"},
		Flow:            "f1",
		Message: &sipmessagepb.SIPMessage{
			MessageType: &sipmessagepb.SIPMessage_RequestUri{RequestUri: &sipmessagepb.SipURI{
				User: "bob", Host: "example.com", TransportParam: "tcp", Parameters: map[string]string{"ob": ""},
			}},
			From: &sipmessagepb.From{
				Tag: "1928301774", Parameters: map[string]string{"x": "1"},
				Address: &sipmessagepb.Address{DisplayName: "Alice", Uri: &sipmessagepb.SipURI{
					User: "alice", Host: "example.com", UserParam: "phone", TtlParam: -1, Port: -1, Secure: true,
				}},
			},
			To:            &sipmessagepb.To{},
			Contact:       &sipmessagepb.Contact{Expires: -1, QValue: 0.5},
			CallId:        &sipmessagepb.CallID{CallId: "a84b4c76e66710@pc33.example.com"},
			ContentLength: &sipmessagepb.ContentLength{ContentLength: 3},
			MaxForwards:   &sipmessagepb.MaxForwards{MaxForwards: 70},
			Authorization: &sipmessagepb.Authorization{Realm: "example.com", CNonce: "0a4f113b", NonceCount: 1},
			Extensions:    []*sipmessagepb.Extension{{Name: "User-Agent", Value: "Zoiper 5.6"}, {Name: "CSeq", Value: "314159 INVITE"}},
			Via: []*sipmessagepb.Via{{
				Host: "pc33.example.com", Port: -1, Branch: "z9hG4bK776asdhds", Transport: "WSS", RPortFlag: true, RPort: 40404,
				Received: "192.0.2.4", Ttl: -1,
			}},
			Body: "v=0",
			CSeq: &sipmessagepb.CSeq{Number: 314159, Method: "INVITE"},
		},
	}
}

func ringing() *processorpb.MessageRequest {
	return &processorpb.MessageRequest{
		Method: processorpb.Method_INVITE,
		Message: &sipmessagepb.SIPMessage{
			MessageType: &sipmessagepb.SIPMessage_ResponseType{ResponseType: sipmessagepb.ResponseType_CALL_OR_TRANSACTION_DOES_NOT_EXIST},
			StatusCode:  481,
		},
	}
}

// mustScript makes a script that has all the time it needs: a busy machine may stop anything for 5 ms.
func mustScript(t testing.TB, source string) *script {
	t.Helper()
	m, err := newMatcher(source)
	if err != nil {
		t.Fatalf("newMatcher(%s): %v", source, err)
	}
	if m.script == nil {
		t.Fatalf("newMatcher(%s) is answered in Go, want a script", source)
	}
	m.script.limit = time.Minute
	return m.script
}

// The object has exactly the keys, in the order, that Routr v2 gives to a matchFunc.
func TestObject(t *testing.T) {
	golden, err := os.ReadFile("testdata/invite.json")
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	if err := json.Compact(&want, golden); err != nil {
		t.Fatal(err)
	}
	m, err := mustScript(t, "req => JSON.stringify(req)").load()
	if err != nil {
		t.Fatal(err)
	}
	m.request.set(invite().ProtoReflect())
	v, err := m.match(nil, m.request.value)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(want.String(), ","), strings.Split(v.String(), ",")); diff != "" {
		t.Errorf("object of the INVITE differs (-want +got):\n%s", diff)
	}
}

// What is answered in Go is answered as JavaScript would.
func TestStatic(t *testing.T) {
	tests := []struct {
		source string
		match  string // the methods that match, of INVITE, MESSAGE, REGISTER, UNKNOWN and FOO
	}{
		{"", "INVITE MESSAGE REGISTER UNKNOWN FOO"},
		{"req => true", "INVITE MESSAGE REGISTER UNKNOWN FOO"},
		{"() => true", "INVITE MESSAGE REGISTER UNKNOWN FOO"},
		{"(req) => { return true; } // all", "INVITE MESSAGE REGISTER UNKNOWN FOO"},
		{"function (r) { return true }", "INVITE MESSAGE REGISTER UNKNOWN FOO"},
		{"req => false", ""},
		{"req => req.method === 'MESSAGE'", "MESSAGE"},
		{`r => "MESSAGE" == r.method`, "MESSAGE"},
		{"req => (req.method === 'MESSAGE')", "MESSAGE"},
		{"req => req.method === 'message'", ""},
		{"req => req.method === 'FOO'", ""},
		{"req => req.method === 'UNKNOWN'", "UNKNOWN FOO"},
		{`req => ["INVITE", "REGISTER"].includes(req.method)`, "INVITE REGISTER"},
		{"req => [].includes(req.method)", ""},
		{`req => req.method === "INVITE" || req.method === "MESSAGE" || req.method === "BYE"`, "INVITE MESSAGE"},
		{`req => ["INVITE"].includes(req.method) || req.method === "MESSAGE"`, "INVITE MESSAGE"},
	}
	for _, tt := range tests {
		t.Run(tt.source, func(t *testing.T) {
			m, err := newMatcher(tt.source)
			if err != nil {
				t.Fatal(err)
			}
			if m.static == nil {
				t.Fatal("newMatcher makes a script, want it answered in Go")
			}
			// The same function, in a form that is not recognised.
			js := mustScript(t, "req => ("+source(tt.source)+")(req) ? 1 : 0")
			var got []string
			for _, method := range []string{"INVITE", "MESSAGE", "REGISTER", "UNKNOWN", "FOO"} {
				if m.static(method) {
					got = append(got, method)
				}
				req := &processorpb.MessageRequest{Method: processorpb.Method(processorpb.Method_value[method]), MethodName: method}
				inJS, err := js.run(req)
				if err != nil || inJS != m.static(method) {
					t.Errorf("in JavaScript, %s = %t, %v; in Go %t", method, inJS, err, m.static(method))
				}
			}
			if got := strings.Join(got, " "); got != tt.match {
				t.Errorf("matches %q, want %q", got, tt.match)
			}
		})
	}
}

func source(s string) string {
	if s == "" {
		return "req => true"
	}
	return s + "\n"
}

func TestScript(t *testing.T) {
	tests := []struct {
		source string
		req    *processorpb.MessageRequest
		want   bool
	}{
		{`req => req.message.from.address.uri.user === "alice"`, invite(), true},
		{`req => req.message.from.address.uri.user === "bob"`, invite(), false},
		{`req => req.message.extensions.find(e => e.name === "User-Agent" && e.value.includes("Zoiper"))`, invite(), true},
		{`req => req.message.extensions.find(e => e.name === "User-Agent" && e.value.includes("Linphone"))`, invite(), false},
		{`req => req.method !== "INVITE"`, invite(), false},
		{`req => req`, invite(), true},
		{`req => 0`, invite(), false},
		{`req => ""`, invite(), false},
		{`req => {}`, invite(), false},
		{`req => "no"`, invite(), true},
		{`req => req.message.expires === null`, invite(), true},
		{`req => req.message.responseType === undefined && !("responseType" in req.message)`, invite(), true},
		{`req => req.message.messageType === "requestUri"`, invite(), true},
		{`req => req.message.messageType === "responseType" && req.message.responseType === "CALL_OR_TRANSACTION_DOES_NOT_EXIST"`, ringing(), true},
		{`req => req.message.from === null && req.message.extensions.length === 0`, ringing(), true},
		{`req => req.message.statusCode === 481`, ringing(), true},
		{`req => !Object.keys(req.message).includes("statusCode")`, ringing(), true},
		{`req => "ob" in req.message.requestUri.parameters`, invite(), true},
		{`req => req.message.cSeq.number === 314159`, invite(), true},
		{`req => req.flow === "f1"`, invite(), true},
		{`req => req.message === req.message && req.hasOwnProperty("ref")`, invite(), true},
		{`req => Array.isArray(req.message.via) && req.message.via.map(v => v.host).sort().join() === "pc33.example.com"`, invite(), true},
		{`({sender: {host}}) => host.startsWith("192.0.2.")`, invite(), true},
		{`req => /^al.*e$/i.test(req.message.from.address.uri.user)`, invite(), true},
		{`req => req.message.from.address.uri.user.match(/(?<first>a)/).groups.first === "a"`, invite(), true},
		{`req => "a,b".split(/,/).length === 2 && "a1".replace(/\d/g, "") === "a"`, invite(), true},
		{`(() => { const users = new Set(["alice"]); return req => users.has(req.message.from.address.uri.user) })()`, invite(), true},
		{`req => { req.method = "BYE"; delete req.ref; return req.method === "INVITE" && req.ref !== undefined }`, invite(), true},
		{`function (req) { for (const e of req.message.extensions) if (e.name === "CSeq") return true; return false }`, invite(), true},
		{`req => /^\u{61}.+e$/u.test("alice") && /^J.*n$/s.test("J\nn")`, invite(), true},
		{`req => /x/.constructor === Object && (() => 0).constructor === Object`, invite(), true},
		{`req => req.message?.contact?.address?.uri === undefined`, invite(), true},
		{`req => req.message.from.address.displayName === "Jürgen 𝄞"`, named("Jürgen 𝄞"), true},
		{`req => req.method === 99`, &processorpb.MessageRequest{Method: 99}, true},
	}
	for _, tt := range tests {
		t.Run(tt.source, func(t *testing.T) {
			s := mustScript(t, tt.source)
			for range 2 { // a machine is used again
				if got, err := s.run(tt.req); err != nil || got != tt.want {
					t.Fatalf("run = %t, %v, want %t", got, err, tt.want)
				}
			}
		})
	}
}

func named(name string) *processorpb.MessageRequest {
	req := invite()
	req.Message.From.Address.DisplayName = name
	return req
}

// What fails does not match, stops in time, and does not spoil the next request.
func TestScriptFails(t *testing.T) {
	tests := []struct {
		name, source, want string
	}{
		{"throws", `req => { throw new Error("no") }`, "Error: no"},
		{"null", `req => req.message.expires.expires > 0`, "TypeError: Cannot read property 'expires' of undefined"},
		{"endless loop", `req => { for (;;); }`, "took longer than 5ms"},
		{"endless list", `req => { const a = []; for (;;) a.push(req.ref) }`, "took longer than 5ms"},
		{"endless recursion", `req => { const f = () => f(); return f() }`, "has more than 256 calls inside each other"},
		{"recursion through native code", `req => { const f = () => [1].map(f); return f() }`, "has more than 256 calls inside each other"},
		{"catches all", `req => { for (;;) { try { for (;;); } catch (e) {} finally { continue } } }`, "took longer than 5ms"},
		{"big string", `req => "x".repeat(1 << 28)`, "TypeError: Object has no member 'repeat'"},
		{"padding", `req => "x".padEnd(1 << 28)`, "TypeError: Object has no member 'padEnd'"},
		{"big buffer", `req => new ArrayBuffer(1 << 30)`, "ReferenceError: ArrayBuffer is not defined"},
		{"eval", `req => eval("true")`, "ReferenceError: eval is not defined"},
		{"function constructor", `req => (() => 0).constructor("return 1")() === 1`, "TypeError: Not a function: return 1"},
		{"pattern from text", `req => req.ref.match("(?=a)")`, "TypeError: match wants a regular expression, as /x/"},
		{"pattern from an object", `req => req.ref.search({toString: () => "(?=a)"})`, "TypeError: search wants a regular expression, as /x/"},
		{"regexp constructor", `req => new RegExp(req.ref)`, "ReferenceError: RegExp is not defined"},
		{"no input or output", `req => require("fs")`, "ReferenceError: require is not defined"},
		{"no console", `req => console.log(req)`, "ReferenceError: console is not defined"},
		{"strict write", `req => { "use strict"; req.method = "BYE"; return true }`, "TypeError"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := mustScript(t, tt.source)
			if strings.HasPrefix(tt.want, "took longer") {
				s.limit = scriptLimit
			}
			for range 2 {
				got, err := s.run(invite())
				if got {
					t.Error("run matches, want no match")
				}
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("run: %v, want %s", err, tt.want)
				}
			}
		})
	}
}

func TestMatcherRefuses(t *testing.T) {
	tests := []struct {
		name, source, want string
	}{
		{"syntax", "req => {", "is no JavaScript: matchFunc: Line 2:1 Unexpected token )"},
		{"two expressions", "req => true); (req => false", "is more than one expression, want one function such as req => true"},
		{"statement", "if (true) {}", "is no JavaScript: matchFunc: Line 1:2 Unexpected token if"},
		{"no function", "true", "is true, want a function such as req => true"},
		{"string", `"req => true"`, "is req => true, want a function such as req => true"},
		{"undefined name", "matchAll", "cannot be evaluated: ReferenceError: matchAll is not defined at matchFunc:1:2(0)"},
		{"endless evaluation", "(() => { for (;;); })()", "cannot be evaluated in 100ms"},
		{"async", "async req => req.x", "is async or a generator, which would match everything; want a plain function"},
		{"async true", "async req => true", "is async or a generator, which would match everything; want a plain function"},
		{"generator", "function* (req) { return true }", "is async or a generator, which would match everything; want a plain function"},
		{"async inside", "req => [1].some(async () => false)", "is async or a generator, which would match everything; want a plain function"},
		{"look-ahead", "req => /(?=a)/.test(req.ref)", "the regular expression /(?=a)/ cannot be run in bounded time"},
		{"look-behind", "req => /(?<!a)b/.test(req.ref)", "the regular expression /(?<!a)b/ cannot be run in bounded time"},
		{"back-reference", `req => { const p = {x: [/(a)\1/]}; return p.x[0].test(req.ref) }`, `the regular expression /(a)\1/ cannot be run in bounded time`},
		{"named back-reference", `req => { switch (req.ref) { case "a": return /(?<x>a)\k<x>/.test(req.ref) } }`, `/(?<x>a)\k<x>/`},
		{"big count", "req => /a{2000}/.test(req.ref)", "the regular expression /a{2000}/ cannot be run in bounded time"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := newMatcher(tt.source)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("newMatcher = %v, want %s", err, tt.want)
			}
		})
	}
}

// Only what can run long is watched.
func TestLimited(t *testing.T) {
	tests := []struct {
		source string
		want   bool
	}{
		{`req => req.message.from.address.uri.user === "alice"`, false},
		{`req => req.message?.from !== null && req.sender["host"] > "1" ? 1 : -2`, false},
		{`function (req) { return !req.metadata }`, false},
		{`req => req.ref.startsWith("a")`, true},
		{`req => { while (req.x) ; }`, true},
		{`req => { for (const k in req) ; }`, true},
		{"req => req.ref.trim``", true},
		{`req => [...req.message.via]`, true},
		{`req => new Date`, true},
		{`req => ({get x() { for (;;); }}).x`, true},
		{`req => class { static x = 1 }`, true},
		{`(x => req => req.ref)(1)`, true},
	}
	for _, tt := range tests {
		if got := mustScript(t, tt.source).limited; got != tt.want {
			t.Errorf("limited of %s = %t, want %t", tt.source, got, tt.want)
		}
	}
}

func TestScriptConcurrent(t *testing.T) {
	s := mustScript(t, `req => req.message.extensions.some(e => e.value === req.ref)`)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			req := invite()
			req.Message.Extensions[0].Value = strings.Repeat("x", i)
			for n := range 200 {
				want := n%2 == 0
				req.Ref = strings.Repeat("x", i)
				if !want {
					req.Ref = "y"
				}
				if got, err := s.run(req); err != nil || got != want {
					t.Errorf("run = %t, %v, want %t", got, err, want)
					return
				}
			}
		})
	}
	wg.Wait()
}

// Whatever a stranger sends, a script sees an object, and nothing panics.
func FuzzScript(f *testing.F) {
	script := mustScript(f, `req => JSON.parse(JSON.stringify(req)).ref === req.ref`)
	for _, req := range []*processorpb.MessageRequest{invite(), ringing(), {}} {
		data, err := proto.Marshal(req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var req processorpb.MessageRequest
		if req.UnmarshalVTUnsafe(data) != nil || len(data) > 4096 {
			return
		}
		if same, err := script.run(&req); !same || err != nil {
			t.Errorf("run = %t, %v, want true", same, err)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	req := invite()
	b.Run("static", func(b *testing.B) {
		s := &Service{routes: map[string][]*route{"INVITE": {{processor: &processor{}}}}}
		r := request("INVITE")
		b.ReportAllocs()
		for b.Loop() {
			if rt, _, err := s.find(r); rt == nil || err != nil {
				b.Fatal("no match")
			}
		}
	})
	for _, bb := range []struct{ name, source string }{
		{"goja/method", `req => req.method !== "BYE"`},
		{"goja/user", `req => req.message.from.address.uri.user === "alice"`},
		{"goja/header", `req => req.message.extensions.find(e => e.name === "CSeq")`},
	} {
		b.Run(bb.name, func(b *testing.B) {
			s := mustScript(b, bb.source)
			b.ReportAllocs()
			for b.Loop() {
				if ok, err := s.run(req); !ok || err != nil {
					b.Fatalf("run = %t, %v", ok, err)
				}
			}
		})
	}
	b.Run("goja/load", func(b *testing.B) {
		s := mustScript(b, `req => req.ref`)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.load(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
