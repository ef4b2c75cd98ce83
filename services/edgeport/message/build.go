package message

import (
	"strconv"

	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
)

// Field is a header field to be written.
type Field struct{ Name, Value string }

// Response is what a response has that its request does not tell.
type Response struct {
	Status  int     // 100 to 699
	Reason  string  // empty: that of RFC 3261 21
	ToTag   string  // set unless the request has one or Status is 100; empty: none
	TopVia  []byte  // the first value of Via, as AppendVia writes it; nil: as it came
	Headers []Field // behind those that are copied from the request; names have to be tokens
	Body    []byte  // its Content-Type is in Headers
}

// AppendResponse writes the response to a request by RFC 3261 8.2.6: it copies Via, From, To, Call-ID and CSeq, and
// Timestamp into a 100. The request has passed Parse, or is Answerable.
func AppendResponse(dst []byte, req *Message, r *Response) []byte {
	dst = append(dst, "SIP/2.0 "...)
	dst = strconv.AppendInt(dst, int64(r.Status), 10)
	dst = append(dst, ' ')
	reason := r.Reason
	if reason == "" {
		reason = sipmessagepb.Reason(r.Status)
	}
	dst = appendValue(dst, reason)
	dst = append(dst, "\r\n"...)
	dst = appendVias(dst, req, r.TopVia)
	dst = appendCopy(dst, req, KindFrom, "")
	tag := ""
	if len(req.ToTag()) == 0 && r.Status != 100 {
		tag = r.ToTag
	}
	dst = appendCopy(dst, req, KindTo, tag)
	dst = appendCopy(dst, req, KindCallID, "")
	dst = appendCopy(dst, req, KindCSeq, "")
	if r.Status == 100 {
		dst = appendCopy(dst, req, KindTimestamp, "")
	}
	for _, h := range r.Headers {
		if IsToken(h.Name) {
			dst = append(append(dst, h.Name...), ": "...)
			dst = appendValue(dst, h.Value)
			dst = append(dst, "\r\n"...)
		}
	}
	return appendBody(dst, r.Body)
}

// appendVias copies every Via, the first value of the first one replaced by top.
func appendVias(dst []byte, req *Message, top []byte) []byte {
	for i := range req.headers {
		h := &req.headers[i]
		if h.kind != KindVia {
			continue
		}
		dst = append(dst, "Via: "...)
		from := h.value
		if top != nil {
			dst = append(dst, top...)
			from, top = req.viaText.to, nil
		}
		dst = append(dst, req.data[from:h.valueEnd]...)
		dst = append(dst, "\r\n"...)
	}
	return dst
}

func appendCopy(dst []byte, m *Message, k Kind, tag string) []byte {
	v, ok := m.Get(k)
	if !ok {
		return dst
	}
	dst = append(append(dst, k.String()...), ": "...)
	dst = append(dst, v...)
	if tag != "" {
		dst = append(append(dst, ";tag="...), tag...)
	}
	return append(dst, "\r\n"...)
}

func appendBody(dst, body []byte) []byte {
	dst = append(dst, "Content-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(body)), 10)
	dst = append(dst, "\r\n\r\n"...)
	return append(dst, body...)
}

// AppendAnswerable writes of a request what AppendResponse takes from it, as a request: a response to the one is a response
// to the other.
func AppendAnswerable(dst []byte, req *Message) []byte {
	dst = append(dst, req.data[:req.uri.to]...)
	dst = append(dst, " SIP/2.0\r\n"...)
	dst = appendVias(dst, req, nil)
	for _, k := range []Kind{KindFrom, KindTo, KindCallID, KindCSeq, KindTimestamp} {
		dst = appendCopy(dst, req, k, "")
	}
	return appendBody(dst, nil)
}

// AppendAck writes the ACK to a final response other than 2xx (RFC 3261 17.1.1.3). invite is the INVITE as it was
// sent to where the response came from.
func AppendAck(dst []byte, invite, resp *Message) []byte {
	return appendHopByHop(dst, "ACK", invite, resp)
}

// AppendCancel writes the CANCEL of an INVITE as it was sent (RFC 3261 9.1).
func AppendCancel(dst []byte, invite *Message) []byte {
	return appendHopByHop(dst, "CANCEL", invite, invite)
}

// appendHopByHop writes a request that goes the way of invite as far as the next hop: the same Request-URI, top Via
// and Route, To of the message to.
func appendHopByHop(dst []byte, method string, invite, to *Message) []byte {
	dst = append(append(dst, method...), ' ')
	dst = append(dst, invite.RequestURI()...)
	dst = append(dst, " SIP/2.0\r\nVia: "...)
	dst = append(dst, invite.text(invite.viaText)...)
	dst = append(dst, "\r\nMax-Forwards: 70\r\n"...)
	for i := range invite.headers {
		if h := &invite.headers[i]; h.kind == KindRoute {
			dst = append(dst, "Route: "...)
			dst = append(dst, invite.data[h.value:h.valueEnd]...)
			dst = append(dst, "\r\n"...)
		}
	}
	dst = appendCopy(dst, invite, KindFrom, "")
	dst = appendCopy(dst, to, KindTo, "")
	dst = appendCopy(dst, invite, KindCallID, "")
	dst = append(dst, "CSeq: "...)
	dst = strconv.AppendUint(dst, uint64(invite.cseq), 10)
	dst = append(append(dst, ' '), method...)
	dst = append(dst, "\r\n"...)
	return appendBody(dst, nil)
}
