package processor

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/routr-fabric/routr/bus"
	"github.com/routr-fabric/routr/bus/bustest"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
)

// serve runs a processor until the test ends or stop is called, which returns what Run returned.
func serve(t *testing.T, conn *bus.Conn, ref string, h Handler) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	go func() { done <- Run(ctx, conn, ref, h, Options{Log: log}, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("Run(%s) = %v before it was ready", ref, err)
	}
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() { _ = stop() })
	return stop
}

// ask sends a request to a processor and waits for the answer.
func ask(t *testing.T, conn *bus.Conn, ref string, req *processorpb.MessageRequest) (*processorpb.MessageResponse, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return bus.Ask[processorpb.MessageResponse](ctx, conn, bus.SubjectProcess(ref, MethodOf(req)), req)
}

func TestRunAnswers(t *testing.T) {
	bustest.Modes(t, func(t *testing.T, conn *bus.Conn) {
		backend, err := conn.Serve("test.backend", "backend", func(_ context.Context, r *bus.Request) {
			r.Reply(bus.Reply{Body: r.Body})
		}, bus.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = backend.Drain(context.Background()) }()

		serve(t, conn, "echo.1", func(ctx context.Context, r Request) {
			switch r.Ref {
			case "respond":
				r.Respond(486, "", NewHeader("X-Why", "because"))
			case "forward":
				r.Forward([]*processorpb.Target{{Uri: "sip:bob@192.0.2.1", Q: 1000}},
					[]*sipmessagepb.Extension{NewHeader("X-New", "1")}, []string{"X-Old"})
			case "twice":
				r.Respond(480, "")
				r.Respond(603, "")
			case "later":
				r.Call(ctx, "test.backend", r.MessageRequest, func(_ bus.Reply, err error) {
					if err != nil {
						r.Fail(err)
						return
					}
					r.Respond(200, "")
				})
			case "nobody":
				r.Call(ctx, "test.nobody", r.MessageRequest, func(_ bus.Reply, err error) { r.Fail(err) })
			case "panic":
				panic("handler")
			case "panic later":
				r.Call(ctx, "test.backend", r.MessageRequest, func(bus.Reply, error) { panic("callback") })
			}
		})

		for _, tt := range []struct {
			ref  string
			want *processorpb.MessageResponse
			code bus.Code
		}{
			{ref: "respond", want: NewResponse(486, "Busy Here", NewHeader("X-Why", "because"))},
			{ref: "forward", want: &processorpb.MessageResponse{
				Targets:       []*processorpb.Target{{Uri: "sip:bob@192.0.2.1", Q: 1000}},
				AddHeaders:    []*sipmessagepb.Extension{{Name: "X-New", Value: "1"}},
				RemoveHeaders: []string{"X-Old"},
			}},
			{ref: "twice", want: NewResponse(480, "Temporarily Unavailable")},
			{ref: "later", want: NewResponse(200, "OK")},
			{ref: "nobody", code: bus.Unavailable},
			{ref: "panic", code: bus.Internal},
			{ref: "panic later", code: bus.Internal},
		} {
			got, err := ask(t, conn, "echo.1", &processorpb.MessageRequest{Ref: tt.ref, Method: processorpb.Method_INVITE})
			if bus.CodeOf(err) != tt.code {
				t.Errorf("process(%s) = %v, want the code %q", tt.ref, err, tt.code)
			}
			if diff := cmp.Diff(tt.want, got, protocmp.Transform()); diff != "" {
				t.Errorf("process(%s) (-want +got):\n%s", tt.ref, diff)
			}
		}
	})
}

func TestRunRefusesWhatIsNoRequest(t *testing.T) {
	conn := bustest.Connect(t)
	serve(t, conn, "strict", func(_ context.Context, r Request) { r.Respond(200, "") })
	done := make(chan error, 1)
	conn.Call(context.Background(), bus.SubjectProcess("strict", "INVITE"), bus.Raw([]byte("\xff\xff\xff")),
		time.Now().Add(5*time.Second), func(_ bus.Reply, err error) { done <- err })
	if err := <-done; bus.CodeOf(err) != bus.InvalidArgument {
		t.Errorf("process(garbage) = %v, want %s", err, bus.InvalidArgument)
	}
}

func TestRunWaitsForAnswers(t *testing.T) {
	bustest.Modes(t, func(t *testing.T, conn *bus.Conn) {
		taken := make(chan Request, 1)
		stop := serve(t, conn, "slow", func(_ context.Context, r Request) { taken <- r })
		answered := make(chan error, 1)
		conn.Call(context.Background(), bus.SubjectProcess("slow", "INVITE"), bus.Value(&processorpb.MessageRequest{}),
			time.Now().Add(5*time.Second), func(_ bus.Reply, err error) { answered <- err })
		r := <-taken
		stopped := make(chan error, 1)
		go func() { stopped <- stop() }()
		select {
		case err := <-stopped:
			t.Fatalf("Run returned %v with a request unanswered", err)
		default:
		}
		r.Respond(200, "")
		if err := <-stopped; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
		if err := <-answered; err != nil {
			t.Errorf("the request that was taken = %v, want its answer", err)
		}
	})
}

func TestNewResponse(t *testing.T) {
	for _, tt := range []struct {
		status     int
		reason     string
		wantType   sipmessagepb.ResponseType
		wantReason string
	}{
		{404, "", sipmessagepb.ResponseType_NOT_FOUND, "Not Found"},
		{422, "", sipmessagepb.ResponseType_CLIENT_ERROR, "Session Interval Too Small"},
		{403, "exceeds maximum of 2 allowed contacts", sipmessagepb.ResponseType_FORBIDDEN, "exceeds maximum of 2 allowed contacts"},
		{500, "a\r\nVia: b\x00\x7f", sipmessagepb.ResponseType_SERVER_INTERNAL_ERROR, "a  Via: b  "},
		{500, strings.Repeat("é", 200), sipmessagepb.ResponseType_SERVER_INTERNAL_ERROR, strings.Repeat("é", 64)},
		{500, "x" + strings.Repeat("é", 200), sipmessagepb.ResponseType_SERVER_INTERNAL_ERROR, "x" + strings.Repeat("é", 63)},
	} {
		m := NewResponse(tt.status, tt.reason).Message
		if m.GetResponseType() != tt.wantType || m.StatusCode != int32(tt.status) || m.ReasonPhrase != tt.wantReason {
			t.Errorf("NewResponse(%d, %.20q) = %s %d %q, want %s %d %q", tt.status, tt.reason,
				m.GetResponseType(), m.StatusCode, m.ReasonPhrase, tt.wantType, tt.status, tt.wantReason)
		}
	}
}

func TestIsResponse(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   *sipmessagepb.SIPMessage
		want bool
	}{
		{"nothing", nil, false},
		{"empty", &sipmessagepb.SIPMessage{}, false},
		{"request", &sipmessagepb.SIPMessage{MessageType: &sipmessagepb.SIPMessage_RequestUri{RequestUri: &sipmessagepb.SipURI{}}}, false},
		{"response", NewResponse(180, "").Message, true},
		{"response without a type", &sipmessagepb.SIPMessage{StatusCode: 199}, true},
	} {
		r := Request{MessageRequest: &processorpb.MessageRequest{Message: tt.in}}
		if got := r.IsResponse(); got != tt.want {
			t.Errorf("IsResponse(%s) = %t, want %t", tt.name, got, tt.want)
		}
	}
}

func TestMethodOf(t *testing.T) {
	for n, name := range processorpb.Method_name {
		if got := MethodOf(&processorpb.MessageRequest{Method: processorpb.Method(n)}); got != name {
			t.Errorf("MethodOf(%s) = %s", name, got)
		}
	}
	if got := MethodOf(&processorpb.MessageRequest{MethodName: "invite"}); got != "invite" {
		t.Errorf("MethodOf(invite) = %s, want it as written", got)
	}
}

func TestHeaders(t *testing.T) {
	m := &sipmessagepb.SIPMessage{Extensions: []*sipmessagepb.Extension{
		{Name: "Supported", Value: "path, outbound"},
		{Name: "User-Agent", Value: "test"},
		{Name: "SUPPORTED", Value: "gruu"},
		nil,
	}}
	if got, ok := Header(m, "user-agent"); got != "test" || !ok {
		t.Errorf("Header(user-agent) = %q, %t, want test", got, ok)
	}
	if got, ok := Header(m, "Subject"); got != "" || ok {
		t.Errorf("Header(Subject) = %q, %t, want none", got, ok)
	}
	var all []string
	for value := range Headers(m, "Supported") {
		all = append(all, value)
	}
	if diff := cmp.Diff([]string{"path, outbound", "gruu"}, all); diff != "" {
		t.Errorf("Headers(Supported) (-want +got):\n%s", diff)
	}
	for value := range Headers(m, "Supported") {
		if value != "path, outbound" {
			t.Errorf("Headers goes on with %q after break", value)
		}
		break
	}
}
