package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/routr-fabric/routr/bus"
	locationpb "github.com/routr-fabric/routr/proto/location/v2beta1"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
)

// tap prints what crosses the bus: a line with time and subject, and the message as JSON.
func tap(c *call) error {
	url := c.flags.String("nats", env("NATS_URL", "nats://127.0.0.1:4222"), "`URL` of the bus")
	short := c.flags.Bool("short", false, "print the subjects without the messages")
	if err := c.parse(0, 1); err != nil {
		return err
	}
	subject := bus.SubjectAll
	if c.flags.NArg() == 1 {
		subject = c.flags.Arg(0)
	}
	ctx, cancel := context.WithTimeout(c.ctx, 5*time.Second)
	defer cancel()
	conn, err := bus.Connect(ctx, bus.Config{URL: *url, Name: "tap"})
	if err != nil {
		return err
	}
	defer conn.Close()
	p := printer{c: c, short: *short, replies: map[string]func() proto.Message{}}
	if err := conn.Tap(c.ctx, subject, p.print); err != nil {
		return err
	}
	fmt.Fprintf(c.stderr, "tapping %s at %s; Ctrl-C stops\n", subject, *url)
	<-c.ctx.Done()
	return nil
}

// printer prints messages. A reply says nothing of its type: that is remembered from its request.
type printer struct {
	c       *call
	short   bool
	mu      sync.Mutex
	replies map[string]func() proto.Message // by reply subject
}

// maxReplies is how many requests without a reply are remembered.
const maxReplies = 10000

func (p *printer) print(m bus.Tapped) {
	p.mu.Lock()
	defer p.mu.Unlock()
	request, reply := types(m.Subject)
	if newReply, ok := p.replies[m.Subject]; ok {
		delete(p.replies, m.Subject)
		request = newReply
	}
	if m.Reply != "" && reply != nil && len(p.replies) < maxReplies {
		p.replies[m.Reply] = reply
	}
	line := time.Now().Format("15:04:05.000") + " " + m.Subject
	if m.Reply != "" {
		line += " -> " + m.Reply
	}
	if m.Code != "" {
		line += fmt.Sprintf("  %s %q", m.Code, m.Error)
	}
	fmt.Fprintln(p.c.stdout, line)
	if p.short || len(m.Data) == 0 {
		return
	}
	fmt.Fprintln(p.c.stdout, "   ", text(request, m.Data))
}

// text is a message as JSON; what is not protobuf of ours, an event for example, is printed as it is.
func text(newMessage func() proto.Message, data []byte) string {
	if newMessage == nil {
		return strings.ToValidUTF8(string(data), "?")
	}
	m := newMessage()
	if err := proto.Unmarshal(data, m); err != nil {
		return fmt.Sprintf("%d bytes that are not what this subject carries: %v", len(data), err)
	}
	json, err := protojson.Marshal(m)
	if err != nil {
		return err.Error()
	}
	return string(json)
}

// types are what a subject carries, and what its reply does.
func types(subject string) (request, reply func() proto.Message) {
	message := func() proto.Message { return new(processorpb.MessageRequest) }
	answer := func() proto.Message { return new(processorpb.MessageResponse) }
	for _, s := range []string{bus.SubjectDispatch(bus.Every), bus.SubjectResponse(bus.Every), bus.SubjectProcess(bus.Every, bus.Every), bus.SubjectMiddleware(bus.Every, bus.Every)} {
		if strings.HasPrefix(subject, s[:strings.IndexByte(s, '*')]) {
			return message, answer
		}
	}
	switch subject {
	case bus.SubjectLocation(bus.LocationAdd):
		return func() proto.Message { return new(locationpb.AddRouteRequest) }, func() proto.Message { return new(locationpb.AddRouteResponse) }
	case bus.SubjectLocation(bus.LocationFind):
		return func() proto.Message { return new(locationpb.FindRoutesRequest) }, func() proto.Message { return new(locationpb.FindRoutesResponse) }
	case bus.SubjectLocation(bus.LocationRemove):
		return func() proto.Message { return new(locationpb.RemoveRoutesRequest) }, nil
	}
	return nil, nil
}
