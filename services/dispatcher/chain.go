package dispatcher

import (
	"context"
	"maps"

	"github.com/routr-fabric/routr/bus"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
)

// exchange is one message on its way through middlewares and the processor. Each step begins when the one before has
// answered, on the goroutine that brought the answer.
//
// A middleware answers with nothing (an empty MessageResponse), with the message as it shall go on, or, to a request,
// with a response, which ends the chain. Metadata of every step is added to what the next ones and the EdgePort see.
type exchange struct {
	service  *Service
	request  *bus.Request
	route    *route
	steps    []step // still to come
	interest string

	message  *processorpb.MessageRequest // what the next step gets; belongs to the bus, so that it is replaced, never changed
	changed  bool                        // message.Message is no longer what the EdgePort sent
	metadata map[string]string           // of the middlewares
	answer   *processorpb.MessageResponse
	body     bus.Body // of answer, while it is what the processor sent
	rebuilt  bool     // answer differs from body
}

// next calls the next step, or answers the request when there is none.
func (x *exchange) next(ctx context.Context) {
	if len(x.steps) == 0 {
		x.finish()
		return
	}
	at := &x.steps[0]
	x.steps = x.steps[1:]
	x.service.conn.Call(ctx, at.subject, bus.Value(x.message), x.request.Deadline, func(reply bus.Reply, err error) {
		var answer *processorpb.MessageResponse
		if err == nil {
			if answer, err = bus.Decode[processorpb.MessageResponse](reply.Body); err != nil {
				err = bus.Errorf(bus.Internal, "answered with what is no MessageResponse: %v", err)
			}
		}
		if err == nil && !at.processor && len(answer.Targets)+len(answer.AddHeaders)+len(answer.RemoveHeaders) > 0 {
			err = bus.Errorf(bus.Internal, "answered with targets or headers, want a message, a response or nothing from a middleware")
		}
		switch {
		case err != nil:
			x.service.fail(x.request, x.route, at, err)
		case at.processor:
			x.processed(answer, reply.Body)
			x.next(ctx)
		case isResponse(answer.Message) && !isResponse(x.message.Message):
			x.service.answer(x.request, reply.Body, x.interest)
		default:
			x.seen(answer)
			x.next(ctx)
		}
	})
}

// processed takes the answer of the processor.
func (x *exchange) processed(answer *processorpb.MessageResponse, body bus.Body) {
	x.answer, x.body = answer, body
	if len(x.metadata) > 0 {
		x.rebuild().Metadata = merged(x.metadata, answer.Metadata)
	}
	if answer.Message == nil && x.changed {
		// Targets alone say that the request goes on as the EdgePort sent it, and a middleware has said otherwise.
		x.rebuild().Message = x.message.Message
	}
	if len(x.steps) > 0 {
		x.pass(answer.Message, answer.Metadata)
	}
}

// seen takes the answer of a middleware that lets the message go on.
func (x *exchange) seen(answer *processorpb.MessageResponse) {
	if answer.Message == nil && len(answer.Metadata) == 0 {
		return
	}
	x.pass(answer.Message, answer.Metadata)
	x.metadata = merged(x.metadata, answer.Metadata)
	x.changed = x.changed || answer.Message != nil
	if x.answer != nil { // behind the processor
		a := x.rebuild()
		a.Metadata = merged(a.Metadata, answer.Metadata)
		if answer.Message != nil {
			a.Message = answer.Message
		}
	}
}

// pass makes the message that the next step gets: a nil message stays what it was.
func (x *exchange) pass(message *sipmessagepb.SIPMessage, metadata map[string]string) {
	if message == nil && len(metadata) == 0 {
		return
	}
	m := x.message
	if message == nil {
		message = m.Message
	}
	x.message = &processorpb.MessageRequest{
		Ref: m.Ref, EdgePortRef: m.EdgePortRef, Method: m.Method, Sender: m.Sender, ListeningPoints: m.ListeningPoints,
		ExternalAddrs: m.ExternalAddrs, Localnets: m.Localnets, Message: message, Metadata: merged(m.Metadata, metadata),
		MethodName: m.MethodName, Flow: m.Flow,
	}
}

// rebuild returns the answer as one that may be changed.
func (x *exchange) rebuild() *processorpb.MessageResponse {
	if !x.rebuilt {
		a := x.answer
		x.answer = &processorpb.MessageResponse{
			Sender: a.Sender, Message: a.Message, Metadata: a.Metadata,
			Targets: a.Targets, AddHeaders: a.AddHeaders, RemoveHeaders: a.RemoveHeaders,
		}
		x.rebuilt = true
	}
	return x.answer
}

func (x *exchange) finish() {
	switch {
	case x.answer == nil: // the processor does not want to see this one
		a := &processorpb.MessageResponse{Metadata: x.metadata}
		if x.changed {
			a.Message = x.message.Message
		}
		x.body = bus.Value(a)
	case x.rebuilt:
		x.body = bus.Value(x.answer)
	}
	x.service.answer(x.request, x.body, x.interest)
}

// merged is a and b; b wins. Neither is changed.
func merged(a, b map[string]string) map[string]string {
	if len(b) == 0 {
		return a
	}
	m := make(map[string]string, len(a)+len(b))
	maps.Copy(m, a)
	maps.Copy(m, b)
	return m
}

func isResponse(m *sipmessagepb.SIPMessage) bool {
	if m == nil {
		return false
	}
	_, typed := m.MessageType.(*sipmessagepb.SIPMessage_ResponseType)
	return typed || m.StatusCode != 0
}
