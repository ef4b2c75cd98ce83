package e2e_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	locationpb "github.com/routr-fabric/routr/proto/location/v2beta1"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
)

// TestTap subscribes to everything with a NATS client, as anyone may, and finds each decision about a registration and
// a call, asked and answered, in messages that decode.
func TestTap(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			s := mode.start(t)
			caller, callee := s.phone(t, "udp"), s.phone(t, "udp")
			tap := newTap(t, s)
			call(t, caller, callee)

			aor := "sip:" + callee.user + "@" + domain
			tap.sees(t, "dispatch.REGISTER", &processorpb.MessageRequest{}, &processorpb.MessageResponse{})
			tap.sees(t, "process.connect.REGISTER", &processorpb.MessageRequest{}, &processorpb.MessageResponse{})
			add := tap.sees(t, "location.add", &locationpb.AddRouteRequest{}, &locationpb.AddRouteResponse{})
			if got := add.(*locationpb.AddRouteRequest).GetAor(); got != aor {
				t.Errorf("location.add has aor %q, want %q", got, aor)
			}
			dispatch := tap.sees(t, "dispatch.INVITE", &processorpb.MessageRequest{}, &processorpb.MessageResponse{}).(*processorpb.MessageRequest)
			if got := dispatch.GetMethod(); got != processorpb.Method_INVITE {
				t.Errorf("dispatch.INVITE has method %v, want INVITE", got)
			}
			if got := dispatch.GetSender().GetHost(); got != caller.host {
				t.Errorf("dispatch.INVITE has sender %q, want %q", got, caller.host)
			}
			if got := dispatch.GetEdgePortRef(); got != "edgeport-01" {
				t.Errorf("dispatch.INVITE has edge_port_ref %q, want edgeport-01", got)
			}
			tap.sees(t, "process.connect.INVITE", &processorpb.MessageRequest{}, &processorpb.MessageResponse{})
			find := tap.sees(t, "location.find", &locationpb.FindRoutesRequest{}, &locationpb.FindRoutesResponse{})
			if got := find.(*locationpb.FindRoutesRequest).GetAor(); got != aor {
				t.Errorf("location.find has aor %q, want %q", got, aor)
			}
			// What belongs to a dialog, or to a transaction, the EdgePort decides alone.
			tap.rest(t)
			for subject := range tap.requests {
				for _, method := range []string{"ACK", "BYE"} {
					if strings.HasSuffix(subject, "."+method) {
						t.Errorf("%s crossed the bus", subject)
					}
				}
			}
		})
	}
}

// tap is what a subscriber to all subjects has seen.
type tap struct {
	conn         *nats.Conn
	subscription *nats.Subscription
	requests     map[string]*nats.Msg // the last of each subject that wants a reply
	replies      map[string]*nats.Msg // by the subject that a request names for its reply
}

const subjects = "routr.v1."

func newTap(t *testing.T, s *system) *tap {
	t.Helper()
	conn, err := nats.Connect(s.nats)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	subscription, err := conn.SubscribeSync(subjects + ">")
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	return &tap{conn: conn, subscription: subscription, requests: make(map[string]*nats.Msg), replies: make(map[string]*nats.Msg)}
}

// sees waits for a request on subject and its reply, decodes both, and returns the request.
func (p *tap) sees(t *testing.T, subject string, request, reply proto.Message) proto.Message {
	t.Helper()
	for {
		if asked := p.requests[subject]; asked != nil && p.replies[asked.Reply] != nil {
			decode(t, asked, request)
			decode(t, p.replies[asked.Reply], reply)
			return request
		}
		if err := p.take(5 * time.Second); err != nil {
			t.Fatalf("no request with a reply on %s%s was seen: %v", subjects, subject, err)
		}
	}
}

// rest takes all that has reached the NATS server by now.
func (p *tap) rest(t *testing.T) {
	t.Helper()
	if err := p.conn.Flush(); err != nil {
		t.Fatal(err)
	}
	for {
		waiting, _, err := p.subscription.Pending()
		if err != nil {
			t.Fatal(err)
		}
		if waiting == 0 {
			return
		}
		if err := p.take(time.Second); err != nil {
			t.Fatal(err)
		}
	}
}

// take takes the next message.
func (p *tap) take(limit time.Duration) error {
	m, err := p.subscription.NextMsg(limit)
	if err != nil {
		return err
	}
	if m.Reply != "" {
		p.requests[strings.TrimPrefix(m.Subject, subjects)] = m
	} else {
		p.replies[m.Subject] = m
	}
	return nil
}

// decode decodes m, of which it must understand everything.
func decode(t *testing.T, m *nats.Msg, into proto.Message) {
	t.Helper()
	if err := proto.Unmarshal(m.Data, into); err != nil {
		t.Fatalf("decode %s as %T: %v", m.Subject, into, err)
	}
	if unknown := into.ProtoReflect().GetUnknown(); len(unknown) > 0 {
		t.Errorf("%s is a %T with %d unknown bytes", m.Subject, into, len(unknown))
	}
}
