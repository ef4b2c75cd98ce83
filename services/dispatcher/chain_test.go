package dispatcher

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
)

// The parts of the chain tests: what a middleware or a processor answers.

func nothing(*processorpb.MessageRequest) *processorpb.MessageResponse {
	return &processorpb.MessageResponse{}
}

func whole(req *processorpb.MessageRequest) *processorpb.MessageResponse {
	return &processorpb.MessageResponse{Sender: req.Sender, Message: req.Message, Metadata: req.Metadata}
}

// body answers with the message whose body has s behind it.
func body(s string) func(*processorpb.MessageRequest) *processorpb.MessageResponse {
	return func(req *processorpb.MessageRequest) *processorpb.MessageResponse {
		m := proto.Clone(req.Message).(*sipmessagepb.SIPMessage)
		m.Body += s
		return &processorpb.MessageResponse{Message: m}
	}
}

func metadata(kv ...string) func(*processorpb.MessageRequest) *processorpb.MessageResponse {
	return func(*processorpb.MessageRequest) *processorpb.MessageResponse {
		resp := &processorpb.MessageResponse{Metadata: make(map[string]string)}
		for i := 0; i < len(kv); i += 2 {
			resp.Metadata[kv[i]] = kv[i+1]
		}
		return resp
	}
}

func status(code int32) func(*processorpb.MessageRequest) *processorpb.MessageResponse {
	return func(*processorpb.MessageRequest) *processorpb.MessageResponse {
		return &processorpb.MessageResponse{Message: &sipmessagepb.SIPMessage{StatusCode: code}}
	}
}

func targets(uri string) func(*processorpb.MessageRequest) *processorpb.MessageResponse {
	return func(*processorpb.MessageRequest) *processorpb.MessageResponse {
		return &processorpb.MessageResponse{Targets: []*processorpb.Target{{Uri: uri}}}
	}
}

// sight is what a step saw, in short: its name, the body or the status, and the metadata that was added.
func sight(name string, req *processorpb.MessageRequest) string {
	s := name + ":" + req.Message.GetBody()
	if isResponse(req.Message) {
		s = name + ":" + statusOf(req.Message)
	}
	for _, key := range []string{"a", "b"} {
		if v, ok := req.Metadata[key]; ok {
			s += " " + key + "=" + v
		}
	}
	return s
}

func statusOf(m *sipmessagepb.SIPMessage) string {
	return map[int32]string{180: "180", 403: "403", 407: "407", 481: "481"}[m.StatusCode]
}

func TestChain(t *testing.T) {
	type answers = map[string]func(*processorpb.MessageRequest) *processorpb.MessageResponse
	allScopes := []Scope{ScopeInitial, ScopeMidDialog, ScopeResponses}
	changed := func(body string) *sipmessagepb.SIPMessage {
		m := invite().Message
		m.Body = body
		return m
	}
	invited := []*processorpb.Target{{Uri: "sip:bob@192.0.2.9"}}
	tests := []struct {
		name        string
		middlewares []Middleware
		scope       []Scope // of the processor
		answers     answers // nil: echoes the whole message
		response    bool    // send a response, not a request
		saw         []string
		want        *processorpb.MessageResponse
		interest    string
	}{
		{
			name:        "before and after, in order, targets stay targets",
			middlewares: []Middleware{{Ref: "after1", PostProcessor: true}, {Ref: "before1"}, {Ref: "before2"}, {Ref: "after2", PostProcessor: true}},
			answers:     answers{"before1": nothing, "before2": nothing, "connect": targets("sip:bob@192.0.2.9"), "after1": nothing, "after2": nothing},
			saw:         []string{"before1:v=0", "before2:v=0", "connect:v=0", "after1:v=0", "after2:v=0"},
			want:        &processorpb.MessageResponse{Targets: invited},
		},
		{
			name:        "a changed message travels on",
			middlewares: []Middleware{{Ref: "before1"}, {Ref: "before2"}, {Ref: "after1", PostProcessor: true}},
			answers:     answers{"before1": body(" 1"), "before2": body(" 2"), "connect": body(" c"), "after1": body(" a")},
			saw:         []string{"before1:v=0", "before2:v=0 1", "connect:v=0 1 2", "after1:v=0 1 2 c"},
			want:        &processorpb.MessageResponse{Message: changed("v=0 1 2 c a")},
		},
		{
			name:        "what a middleware changed is not lost when the processor names targets",
			middlewares: []Middleware{{Ref: "rtp"}},
			answers:     answers{"rtp": body(" rtp"), "connect": targets("sip:bob@192.0.2.9")},
			saw:         []string{"rtp:v=0", "connect:v=0 rtp"},
			want:        &processorpb.MessageResponse{Targets: invited, Message: changed("v=0 rtp")},
		},
		{
			name:        "nor what one changes behind the processor",
			middlewares: []Middleware{{Ref: "rtp", PostProcessor: true}},
			answers:     answers{"rtp": body(" rtp"), "connect": targets("sip:bob@192.0.2.9")},
			saw:         []string{"connect:v=0", "rtp:v=0"},
			want:        &processorpb.MessageResponse{Targets: invited, Message: changed("v=0 rtp")},
		},
		{
			name:        "metadata adds up, the last word wins",
			middlewares: []Middleware{{Ref: "m1"}, {Ref: "m2"}, {Ref: "m3", PostProcessor: true}},
			answers:     answers{"m1": metadata("a", "1", "b", "1"), "m2": metadata("b", "2"), "connect": metadata("a", "c"), "m3": metadata("b", "3")},
			saw:         []string{"m1:v=0", "m2:v=0 a=1 b=1", "connect:v=0 a=1 b=2", "m3:v=0 a=c b=2"},
			want:        &processorpb.MessageResponse{Metadata: map[string]string{"a": "c", "b": "3"}},
		},
		{
			name:        "a response of a middleware ends the chain",
			middlewares: []Middleware{{Ref: "ban"}, {Ref: "rtp"}},
			answers:     answers{"ban": status(403)},
			saw:         []string{"ban:v=0"},
			want:        &processorpb.MessageResponse{Message: &sipmessagepb.SIPMessage{StatusCode: 403}},
		},
		{
			name:        "behind the processor too",
			middlewares: []Middleware{{Ref: "ban", PostProcessor: true}, {Ref: "rtp", PostProcessor: true}},
			answers:     answers{"connect": targets("sip:bob@192.0.2.9"), "ban": status(403)},
			saw:         []string{"connect:v=0", "ban:v=0"},
			want:        &processorpb.MessageResponse{Message: &sipmessagepb.SIPMessage{StatusCode: 403}},
		},
		{
			name:        "middlewares behind the processor see its response",
			middlewares: []Middleware{{Ref: "log", PostProcessor: true}},
			answers:     answers{"connect": status(407), "log": nothing},
			saw:         []string{"connect:v=0", "log:407"},
			want:        &processorpb.MessageResponse{Message: &sipmessagepb.SIPMessage{StatusCode: 407}},
		},
		{
			name:        "interest is the union of the scopes",
			middlewares: []Middleware{{Ref: "rtp", Scope: allScopes}},
			answers:     answers{"rtp": nothing, "connect": nothing},
			saw:         []string{"rtp:v=0", "connect:v=0"},
			want:        &processorpb.MessageResponse{},
			interest:    "midDialog,responses;connect",
		},
		{
			name:     "interest of the processor alone",
			scope:    []Scope{ScopeInitial, ScopeMidDialog},
			answers:  answers{"connect": nothing},
			saw:      []string{"connect:v=0"},
			want:     &processorpb.MessageResponse{},
			interest: "midDialog;connect",
		},
		{
			name:        "a middleware for responses sees no request",
			middlewares: []Middleware{{Ref: "log", Scope: []Scope{ScopeResponses}}},
			answers:     answers{"connect": targets("sip:bob@192.0.2.9")},
			saw:         []string{"connect:v=0"},
			want:        &processorpb.MessageResponse{Targets: invited},
			interest:    "responses;connect",
		},
		{
			name:        "a response goes to those who want it",
			middlewares: []Middleware{{Ref: "first"}, {Ref: "rtp", Scope: allScopes}},
			answers:     answers{"rtp": status(180)},
			response:    true,
			saw:         []string{"rtp:481"},
			want:        &processorpb.MessageResponse{Message: &sipmessagepb.SIPMessage{StatusCode: 180}},
		},
		{
			name:        "a response goes to the processor if it wants it",
			middlewares: []Middleware{{Ref: "rtp", Scope: allScopes}},
			scope:       allScopes,
			answers:     answers{"rtp": metadata("a", "1"), "connect": nothing},
			response:    true,
			saw:         []string{"rtp:481", "connect:481 a=1"},
			want:        &processorpb.MessageResponse{Metadata: map[string]string{"a": "1"}},
		},
		{
			name:     "a response that nobody wants to see goes on as it came",
			response: true,
			want:     &processorpb.MessageResponse{},
		},
	}
	bustest.Modes(t, func(t *testing.T, conn *bus.Conn) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				cfg := config(Processor{Ref: "connect", Methods: []string{"INVITE"}, Scope: tt.scope})
				cfg.Spec.Middlewares = tt.middlewares
				saw := make(chan string, 10)
				step := func(ref string) bus.Handler {
					return func(_ context.Context, r *bus.Request) {
						req, err := bus.Decode[processorpb.MessageRequest](r.Body)
						if err != nil {
							t.Error(err)
						}
						saw <- sight(ref, req)
						if answer := tt.answers[ref]; answer != nil {
							r.Reply(bus.Reply{Body: bus.Value(answer(req))})
						} else {
							r.Reply(bus.Reply{Body: bus.Value(whole(req))})
						}
					}
				}
				scoped(t, conn, bus.SubjectProcess("connect", bus.Every), "connect", step("connect"))
				for _, m := range tt.middlewares {
					scoped(t, conn, bus.SubjectMiddleware(m.Ref, bus.Every), m.Ref, step(m.Ref))
				}
				start(t, conn, cfg)

				sent, subject := invite(), bus.SubjectDispatch("INVITE")
				if tt.response {
					sent, subject = ringing(), bus.SubjectResponse("INVITE")
				}
				before := proto.Clone(sent)
				got := <-send(conn, subject, bus.Value(sent), patience)
				if diff := cmp.Diff(tt.want, got.message(t), protocmp.Transform()); diff != "" {
					t.Errorf("answer differs (-want +got):\n%s", diff)
				}
				if got.reply.Interest != tt.interest {
					t.Errorf("Interest = %q, want %q", got.reply.Interest, tt.interest)
				}
				close(saw)
				var seen []string
				for s := range saw {
					seen = append(seen, s)
				}
				if diff := cmp.Diff(tt.saw, seen); diff != "" {
					t.Errorf("steps differ (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(before, proto.Message(sent), protocmp.Transform()); diff != "" {
					t.Errorf("the message of the EdgePort was changed (-want +got):\n%s", diff)
				}
			})
		}
	})
}

// scoped serves until the end of the subtest, so that the next one can serve the same subject.
func scoped(t *testing.T, conn *bus.Conn, subject, ref string, h bus.Handler) {
	t.Helper()
	s, err := conn.Serve(subject, ref, h, bus.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Drain(context.Background()); err != nil {
			t.Errorf("Drain: %v", err)
		}
	})
}

func TestChainFails(t *testing.T) {
	tests := []struct {
		name  string
		reply func(*bus.Request) // nil: nobody serves
		want  string
	}{
		{"unreachable", nil, "UNAVAILABLE: middleware mid: "},
		{"fails", func(r *bus.Request) { r.Fail(bus.Errorf(bus.FailedPrecondition, "no rtpengine")) }, "FAILED_PRECONDITION: middleware mid: no rtpengine"},
		{"garbage", func(r *bus.Request) { r.Reply(bus.Reply{Body: bus.Raw([]byte("garbage"))}) }, "INTERNAL: middleware mid: answered with what is no MessageResponse: "},
		{
			"targets", func(r *bus.Request) { r.Reply(bus.Reply{Body: bus.Value(targets("sip:mallory")(nil))}) },
			"INTERNAL: middleware mid: answered with targets or headers, want a message, a response or nothing from a middleware",
		},
	}
	bustest.Modes(t, func(t *testing.T, conn *bus.Conn) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				cfg := config(Processor{Ref: "connect", Methods: []string{"INVITE"}})
				cfg.Spec.Middlewares = []Middleware{{Ref: "mid"}}
				scoped(t, conn, bus.SubjectProcess("connect", bus.Every), "connect", func(_ context.Context, r *bus.Request) {
					t.Error("the request reached the processor")
					r.Fail(nil)
				})
				if tt.reply != nil {
					scoped(t, conn, bus.SubjectMiddleware("mid", bus.Every), "mid", func(_ context.Context, r *bus.Request) { tt.reply(r) })
				}
				start(t, conn, cfg)
				got := <-send(conn, bus.SubjectDispatch("INVITE"), bus.Value(invite()), patience)
				if !strings.HasPrefix(got.String(), tt.want) {
					t.Errorf("Dispatch(INVITE) = %s, want %s", got, tt.want)
				}
			})
		}
	})
}
