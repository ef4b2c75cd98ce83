package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// What is said on the links, in the words of the scenarios of SIPp beside it.

const (
	callerSDP = "v=0\r\no=caller 2890844526 2890844526 IN IP4 127.77.0.1\r\ns=yardstick\r\nc=IN IP4 127.77.0.1\r\nt=0 0\r\n" +
		"m=audio 40000 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n" +
		"a=fmtp:101 0-15\r\na=sendrecv\r\n"
	calleeSDP = "v=0\r\no=callee 2890844526 2890844526 IN IP4 127.77.0.1\r\ns=yardstick\r\nc=IN IP4 127.77.0.1\r\nt=0 0\r\n" +
		"m=audio 40002 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n"
)

// via is the Via of a request that leaves on l.
func (l *link) via(i, cseq int, method string) string {
	sentBy, _, _ := strings.Cut(l.contact, ";")
	return fmt.Sprintf("SIP/2.0/%s %s;branch=z9hG4bK%d-%d%s", strings.ToUpper(l.transport), sentBy, i, cseq, method[:1])
}

// requestText is the request that op i of a run begins with.
func requestText(l *link, what string, i, user int) []byte {
	method, uri, to := "INVITE", fmt.Sprintf("sip:u%06d@example.com", user), ""
	from, more, body := "sip:caller@example.com", "", ""
	switch what {
	case "reg":
		to, uri, method = uri, "sip:example.com", "REGISTER"
		from = to
		more = fmt.Sprintf("Contact: <sip:u%06d@%s>\r\nExpires: 3600\r\nUser-Agent: yardstick\r\n", user, l.contact)
	case "message":
		method, more, body = "MESSAGE", "User-Agent: yardstick\r\nContent-Type: text/plain\r\n", "How far is it? A yard."
	case "options":
		method, uri, more = "OPTIONS", "sip:"+l.server, "User-Agent: yardstick\r\n"
	default:
		more = "Contact: <sip:caller@" + l.contact + ">\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE\r\n" +
			"Supported: timer, replaces\r\nUser-Agent: yardstick\r\nContent-Type: application/sdp\r\n"
		body = callerSDP
	}
	if to == "" {
		to = uri
	}
	return fmt.Appendf(nil, "%s %s SIP/2.0\r\nVia: %s\r\nMax-Forwards: 70\r\nFrom: \"Caller\" <%s>;tag=a%d\r\nTo: <%s>\r\n"+
		"Call-ID: %d-%s\r\nCSeq: 1 %s\r\n%sContent-Length: %d\r\n\r\n%s",
		method, uri, l.via(i, 1, method), from, i, to, i, what, method, more, len(body), body)
}

// answerText is a response to req.
func answerText(l *link, req []byte, status, body string) []byte {
	out := append(make([]byte, 0, len(req)+256), "SIP/2.0 "+status+"\r\n"...)
	for line := range bytes.SplitSeq(head(req), []byte("\r\n")) {
		name, rest, _ := bytes.Cut(line, []byte(":"))
		switch string(name) {
		case "To":
			out = append(out, line...)
			if !bytes.Contains(rest, []byte(";tag=")) {
				out = append(out, ";tag=b"...)
			}
			out = append(out, "\r\n"...)
		case "Via", "Record-Route", "From", "Call-ID", "CSeq":
			out = append(append(out, line...), "\r\n"...)
		}
	}
	out = fmt.Appendf(out, "Contact: <sip:callee@%s>\r\n", l.contact)
	if body != "" {
		out = append(out, "Content-Type: application/sdp\r\n"...)
	}
	return fmt.Appendf(out, "Content-Length: %d\r\n\r\n%s", len(body), body)
}

// inDialogText is a request of the caller, in the dialog that resp has made (RFC 3261 12.1.2).
func inDialogText(l *link, i int, resp []byte, method string, cseq int) []byte {
	var routes []string
	for line := range bytes.SplitSeq(head(resp), []byte("\r\n")) {
		if route, ok := bytes.CutPrefix(line, []byte("Record-Route: ")); ok {
			routes = append(routes, "Route: "+string(route)+"\r\n")
		}
	}
	slices.Reverse(routes)
	target := bytes.Trim(value(resp, "Contact"), "<>")
	return fmt.Appendf(nil, "%s %s SIP/2.0\r\nVia: %s\r\n%sMax-Forwards: 70\r\nFrom: %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %d %s\r\nContent-Length: 0\r\n\r\n",
		method, target, l.via(i, cseq, method), strings.Join(routes, ""), value(resp, "From"), value(resp, "To"), value(resp, "Call-ID"), cseq, method)
}

// head is the start line and the headers of a message.
func head(msg []byte) []byte {
	h, _, _ := bytes.Cut(msg, []byte("\r\n\r\n"))
	return h
}

// value is that of the first header of a name. The load and the server write them in full and with a space.
func value(msg []byte, name string) []byte {
	_, rest, _ := bytes.Cut(msg, []byte("\r\n"+name+": "))
	v, _, _ := bytes.Cut(rest, []byte("\r\n"))
	return v
}
