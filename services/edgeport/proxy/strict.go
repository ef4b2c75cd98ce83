package proxy

import (
	"bytes"

	"github.com/routr-fabric/routr/services/edgeport/message"
	"github.com/routr-fabric/routr/services/edgeport/transport"
)

// received is what RFC 3261 16.4 does with a Request-URI before anything else looks at the request: m itself in nearly
// all cases, else a message of its own, which shares nothing with m.
//
// A strict router (RFC 2543) sends a request of a dialog to our Record-Route value, as the Request-URI, with where it is
// to go as the last Route. A client with an outbound proxy of that time puts our address into maddr.
func (p *Proxy) received(flow transport.Flow, m *message.Message) *message.Message {
	text := m.RequestURI()
	isToken := len(m.ToTag()) > 0 && bytes.IndexByte(text, '@') >= len("sip:")+tokenEncoding.EncodedLen(macSize)
	if !isToken && bytes.IndexByte(text, ';') < 0 {
		return m
	}
	uri, err := message.ParseURI(text)
	if err != nil || !uri.SIP() {
		return m
	}
	if isToken && p.isUs(flow, &uri) {
		if _, ok := p.readToken(uri.User, m.CallID()); ok {
			return p.edited(m, loosen)
		}
	}
	if p.isMaddrOf(flow, &uri) {
		return p.edited(m, func(e *message.Edit, m *message.Message) bool {
			e.SetRequestURI(withoutMaddr(&uri))
			return true
		})
	}
	return m
}

// edited is m with a patch, or m if there is none.
func (p *Proxy) edited(m *message.Message, patch func(e *message.Edit, m *message.Message) bool) *message.Message {
	s := p.scratch.Get().(*scratch)
	defer p.scratch.Put(s)
	s.edit.Reset(m)
	if !patch(&s.edit, m) {
		return m
	}
	changed := new(message.Message)
	if changed.Parse(s.edit.Append(nil), message.DefaultLimits()) != nil {
		return m
	}
	return changed
}

// loosen makes of what a strict router sent what a loose one would have sent: the last Route becomes the Request-URI,
// which becomes the first Route, where its token is read like any other.
func loosen(e *message.Edit, m *message.Message) bool {
	var last message.Value
	for v := range m.Values(message.KindRoute) {
		last = v
	}
	target, err := message.ParseNameAddr(last.Text)
	if err != nil {
		return false // no Route at all, or not to be understood
	}
	e.InsertTop(message.KindRoute, bracketed(m.RequestURI()))
	e.RemoveValue(last)
	e.SetRequestURI(requestURI(target.URI))
	return true
}

// isMaddrOf says whether the maddr of a Request-URI is an address of ours, and the request came to the port and by the
// transport that stand there.
func (p *Proxy) isMaddrOf(flow transport.Flow, uri *message.URI) bool {
	maddr, ok := uri.Param("maddr")
	if !ok {
		return false
	}
	protocol := transport.UDP // RFC 3261 19.1.2
	if name, ok := uri.Param("transport"); ok {
		if protocol, ok = transport.ParseProtocol(string(name)); !ok {
			return false
		}
	}
	if uri.Secure() {
		protocol = secured(protocol)
	}
	port := uri.Port
	if port == 0 {
		port = defaultPort(protocol)
	}
	return protocol == flow.Protocol() && port == flow.Local().Port() && p.isUs(flow, &message.URI{Host: maddr, Port: port})
}

// withoutMaddr is a Request-URI without maddr, port and transport.
func withoutMaddr(uri *message.URI) []byte {
	address := uri.Text[:len(uri.Text)-len(uri.Params)]
	if uri.Port != 0 {
		address = address[:bytes.LastIndexByte(address, ':')]
	}
	text := bytes.Clone(address)
	for param := range uri.All() {
		if !bytes.EqualFold(param.Name, []byte("maddr")) && !bytes.EqualFold(param.Name, []byte("transport")) {
			text = append(text, param.Text...)
		}
	}
	return text
}

// isLoose says whether a Route value names a loose router. What cannot be read is none of ours to rewrite.
func isLoose(route []byte) bool {
	name, err := message.ParseNameAddr(route)
	if err != nil {
		return true
	}
	uri, err := message.ParseURI(name.URI)
	if err != nil {
		return true
	}
	_, lr := uri.Param("lr")
	return lr
}

// tighten rewrites the copy in s.buf for a next hop that is a strict router (RFC 3261 16.6 step 6): the first Route
// becomes the Request-URI, which becomes the last Route. It is called for a copy that may have such a Route.
func tighten(s *scratch) {
	m := new(message.Message)
	if m.Parse(s.buf, message.OwnLimits()) != nil {
		return
	}
	for first := range m.Values(message.KindRoute) {
		if isLoose(first.Text) {
			return
		}
		name, _ := message.ParseNameAddr(first.Text) // isLoose has read it
		s.edit.Reset(m)
		s.edit.SetRequestURI(requestURI(name.URI))
		s.edit.RemoveValue(first)
		s.edit.AppendHeader(message.KindRoute.String(), bracketed(m.RequestURI()))
		s.text = s.edit.Append(s.text[:0])
		s.buf, s.text = s.text, s.buf // which m was read from
		return
	}
}

func bracketed(uri []byte) []byte {
	return append(append(append(make([]byte, 0, len(uri)+2), '<'), uri...), '>')
}

// requestURI is a contact or a Route as a Request-URI: without headers and the parameter method, which RFC 3261 19.1.1
// does not allow there (16.6 step 2).
func requestURI(contact []byte) []byte {
	uri, err := message.ParseURI(contact)
	if err != nil || !uri.SIP() {
		return contact
	}
	if uri.Headers != nil {
		contact = contact[:len(contact)-len(uri.Headers)-1]
	}
	if _, ok := uri.Param("method"); !ok {
		return contact
	}
	text := bytes.Clone(contact[:len(contact)-len(uri.Params)])
	for param := range uri.All() {
		if !bytes.EqualFold(param.Name, []byte("method")) {
			text = append(text, param.Text...)
		}
	}
	return text
}
