package sipconv

import (
	"bytes"
	"math"
	"net/netip"
	"strconv"
	"strings"

	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

// seconds reads delta-seconds (RFC 3261 25.1). More than an int32 holds is its maximum; more than 32 bits, or no
// number, is not ok.
func seconds(s string) (int32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return int32(min(n, math.MaxInt32)), err == nil
}

// uri fills u. A URI that is not sip: or sips:, or malformed, is its raw text alone.
func (r *reader) uri(u *sipmessagepb.SipURI, text []byte) {
	u.Raw = r.string(text)
	p, err := message.ParseURI(text)
	if err != nil || !p.SIP() {
		return
	}
	u.User, u.UserPassword = r.string(p.User), r.string(p.Password)
	u.Host, u.Port = r.string(p.HostText()), int32(p.Port)
	u.Secure = p.Secure()
	if len(p.Params) == 0 {
		return
	}
	for param := range p.All() {
		name, value := strings.ToLower(r.string(param.Name)), r.string(param.Value)
		switch name {
		case "transport":
			u.TransportParam = value
		case "maddr":
			u.MAddrParam = value
		case "method":
			u.MethodParam = value
		case "user":
			u.UserParam = value
		case "ttl":
			n, _ := strconv.ParseUint(value, 10, 8)
			u.TtlParam = int32(n)
		case "lr":
			u.LrParam = true
		case "bnc":
			u.BncParam = true
		default:
			if u.Parameters == nil {
				u.Parameters = make(map[string]string)
			}
			u.Parameters[name] = value
		}
	}
}

// address fills a with the value of a header, whose parameters are in the result.
func (r *reader) address(a *sipmessagepb.Address, u *sipmessagepb.SipURI, value []byte) message.NameAddr {
	n, err := message.ParseNameAddr(value)
	a.Uri = u
	switch {
	case err != nil:
		u.Raw = r.string(value)
		return message.NameAddr{}
	case n.Wildcard():
		a.Uri, a.Wildcard = nil, true
	default:
		a.DisplayName = unquote(r.string(n.Display))
		r.uri(u, n.URI)
	}
	return n
}

// unquote resolves quoted pairs.
func unquote(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b = append(b, s[i])
	}
	return string(b)
}

// parameters are those of a header by lower-case name, but for the ones that have a field of their own.
func (r *reader) parameters(n *message.NameAddr, own ...string) map[string]string {
	var m map[string]string
	if len(n.Params) == 0 {
		return nil
	}
next:
	for p := range n.All() {
		name := strings.ToLower(r.string(p.Name))
		for _, o := range own {
			if name == o {
				continue next
			}
		}
		if m == nil {
			m = make(map[string]string)
		}
		m[name] = unquote(r.string(p.Value))
	}
	return m
}

func (r *reader) fromTo(b *block) {
	v, _ := r.m.Get(message.KindFrom)
	n := r.address(&b.fromAddress, &b.fromURI, v)
	b.from.Address, b.from.Tag = &b.fromAddress, r.string(n.Tag)
	b.from.Parameters = r.parameters(&n, "tag")
	v, _ = r.m.Get(message.KindTo)
	n = r.address(&b.toAddress, &b.toURI, v)
	b.to.Address, b.to.Tag = &b.toAddress, r.string(n.Tag)
	b.to.Parameters = r.parameters(&n, "tag")
	b.message.From, b.message.To = &b.from, &b.to
}

// vias fills the Via list. The top one of a request is what transport makes of it (RFC 3261 18.2.1, RFC 3581 4).
func (r *reader) vias(b *block, sender string, port uint16) {
	list := b.vias[:0]
	for value := range r.m.Values(message.KindVia) {
		v := &b.via
		if len(list) > 0 {
			v = new(sipmessagepb.Via)
		}
		if len(list) == 0 {
			r.via(v, r.m.TopVia())
			if r.m.IsRequest() {
				v.Received, v.RPort = "", 0
				if v.RPortFlag {
					v.RPort = int32(port)
				}
				if v.RPortFlag || strings.Trim(v.Host, "[]") != sender {
					v.Received = sender
				}
			}
		} else if p, err := message.ParseVia(value.Text); err == nil {
			r.via(v, &p)
		}
		list = append(list, v)
	}
	b.message.Via = list
}

func (r *reader) via(v *sipmessagepb.Via, p *message.Via) {
	v.Host, v.Port = r.string(p.Host), int32(p.Port)
	if strings.IndexByte(v.Host, ':') >= 0 {
		v.Host = "[" + v.Host + "]"
	}
	v.Branch, v.Transport = r.string(p.Branch), r.string(p.Transport)
	v.RPortFlag, v.RPort = p.HasRPort, int32(p.RPort)
	v.Received, v.MAddr, v.Ttl = r.string(p.Received), r.string(p.Maddr), int32(p.TTL)
}

// contacts fills contact with the first Contact, and contacts with all of them if there are more.
func (r *reader) contacts(b *block) {
	msg := &b.message
	for value := range r.m.Values(message.KindContact) {
		c := &b.contact
		if msg.Contact != nil {
			c = new(contact)
		}
		addr := r.address(&c.address, &c.uri, value.Text)
		c.contact.Address, c.contact.Expires, c.contact.QValue = &c.address, -1, -1
		if v, ok := addr.Param("expires"); ok {
			if n, ok := seconds(r.string(v)); ok {
				c.contact.Expires = n
			}
		}
		if v, ok := addr.Param("q"); ok {
			if q, err := strconv.ParseFloat(r.string(v), 32); err == nil && q >= 0 && q <= 1 {
				c.contact.QValue = float32(q)
			}
		}
		c.contact.Parameters = r.parameters(&addr, "expires", "q")
		switch {
		case msg.Contact == nil:
			msg.Contact = &c.contact
		case msg.Contacts == nil:
			msg.Contacts = []*sipmessagepb.Contact{msg.Contact, &c.contact}
		default:
			msg.Contacts = append(msg.Contacts, &c.contact)
		}
	}
}

func (r *reader) routes(msg *sipmessagepb.SIPMessage) {
	type route struct {
		route   sipmessagepb.Route
		record  sipmessagepb.RecordRoute
		address sipmessagepb.Address
		uri     sipmessagepb.SipURI
	}
	for value := range r.m.Values(message.KindRoute) {
		x := new(route)
		n := r.address(&x.address, &x.uri, value.Text)
		x.route.Address, x.route.Parameters = &x.address, r.parameters(&n)
		msg.Route = append(msg.Route, &x.route)
	}
	for value := range r.m.Values(message.KindRecordRoute) {
		x := new(route)
		n := r.address(&x.address, &x.uri, value.Text)
		x.record.Address, x.record.Parameters = &x.address, r.parameters(&n)
		msg.RecordRoute = append(msg.RecordRoute, &x.record)
	}
}

// maxSplit is how many extensions the lists of a message are split into at most: a value costs a stranger two bytes,
// and us a hundred. Lists behind that stay whole.
const maxSplit = 512

// source is where an extension stands in the message.
type source struct {
	name   string // canonical, "" for a header that message does not know
	header int
	text   []byte
	value  message.Value
	listed bool // it is the one value of a list in value; else the whole header
}

// eachExtension runs f for every value that has no field, in the order of the message.
func eachExtension(m *message.Message, f func(s source)) {
	commas := 0
	for i := range m.Len() {
		k, _, text := m.Header(i)
		if hasField(k) {
			continue
		}
		if k == message.KindAuthorization || k == message.KindWWWAuthenticate {
			if first, _ := m.Find(k); first == i { // the field has it
				continue
			}
		}
		s := source{name: k.String(), header: i, text: text}
		if k.List() {
			commas += bytes.Count(text, []byte{','})
		}
		if !k.List() || commas > maxSplit {
			f(s)
			continue
		}
		s.listed = true
		for v := range m.ValuesOf(i) {
			s.text, s.value = v.Text, v
			f(s)
		}
	}
}

// hasField says whether SIPMessage has a field for all headers of that kind.
func hasField(k message.Kind) bool {
	switch k {
	case message.KindVia, message.KindFrom, message.KindTo, message.KindCallID, message.KindContact, message.KindContentLength,
		message.KindExpires, message.KindMaxForwards, message.KindRoute, message.KindRecordRoute:
		return true
	default:
		return false
	}
}

// extensions fills the list of headers that have no field.
func (r *reader) extensions(msg *sipmessagepb.SIPMessage) {
	headers, commas := 0, 0
	for i := range r.m.Len() {
		if k, _, text := r.m.Header(i); !hasField(k) {
			headers++
			if k.List() {
				commas += bytes.Count(text, []byte{','})
			}
		}
	}
	most := headers + min(commas, maxSplit)
	list := make([]sipmessagepb.Extension, most)
	msg.Extensions = make([]*sipmessagepb.Extension, 0, most)
	eachExtension(r.m, func(s source) {
		x := &list[len(msg.Extensions)]
		if x.Name = s.name; s.name == "" {
			_, name, _ := r.m.Header(s.header)
			x.Name = r.string(name)
		}
		x.Value = r.string(s.text)
		msg.Extensions = append(msg.Extensions, x)
	})
}

// hostOf is the address of a host without brackets, invalid for a name.
func hostOf(host string) netip.Addr {
	a, _ := netip.ParseAddr(strings.Trim(host, "[]"))
	return a.Unmap()
}
