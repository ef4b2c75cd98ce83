package connect

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/routr-fabric/routr/bus"
	commonpb "github.com/routr-fabric/routr/proto/common/v2beta1"
	locationpb "github.com/routr-fabric/routr/proto/location/v2beta1"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
	"github.com/routr-fabric/routr/services/processor"
)

// What one REGISTER may ask for. Both are far above what a phone needs.
const (
	maxContacts    = 32   // Contact values
	maxBindingText = 4096 // bytes of contact URI, Path and instance of one binding
)

// registration is a REGISTER that may be done.
type registration struct {
	processor.Request
	headers registerHeaders
	aor     string
	agent   *agent // nil: a user that only a trusted peer knows
	trusted bool   // it came from a trusted peer

	outbound bool // its contact is a flow (RFC 5626), see checkOutbound
}

// registerHeaders are the headers of a REGISTER that have no field in SIPMessage.
type registerHeaders struct {
	unsupported []string // option tags of Require that we do not know
	outbound    bool     // Require has outbound
	path        []string
	supported   []string // values of Supported
	sessions    int32
}

// register is the registrar (RFC 3261 10.3).
func (s *Service) register(ctx context.Context, r processor.Request) {
	m := r.Message
	// Step 1. A user in the Request-URI, which 10.2 forbids, is not looked at.
	d := s.dir.domain(m.GetRequestUri().GetHost())
	if d == nil {
		s.refuse(r, 404, "")
		return
	}
	reg := &registration{Request: r, headers: readHeaders(m)}
	if len(reg.headers.unsupported) > 0 { // step 2
		s.refuse(r, 420, "", processor.NewHeader("Unsupported", strings.Join(reg.headers.unsupported, ", ")))
		return
	}
	if status, reason := reg.checkPath(); status == 420 {
		s.refuse(r, status, reason, processor.NewHeader("Unsupported", "path"))
		return
	} else if status != 0 {
		s.refuse(r, status, reason)
		return
	}
	if s.trusts(r) {
		s.authorize(ctx, reg, d, "")
		return
	}
	s.digest.Load().Authenticate(ctx, r, processor.AsServer, d.host, d.secret, func(username string, refusal *processorpb.MessageResponse) { // step 3
		if refusal != nil {
			s.challenge(r, refusal)
			return
		}
		s.authorize(ctx, reg, d, username)
	})
}

// authorize is steps 4 and 5 of RFC 3261 10.3: who registers for whom. Without a username it is a trusted peer.
func (s *Service) authorize(ctx context.Context, reg *registration, d *domain, username string) {
	to := reg.Message.GetTo().GetAddress().GetUri()
	if to.GetUser() == "" || s.dir.domain(to.GetHost()) != d { // step 5, as step 4 needs a user of the domain
		s.refuse(reg.Request, 404, "")
		return
	}
	reg.agent = d.agent(to.User)
	if username != "" { // step 4: strangers register for themselves
		from := reg.Message.GetFrom().GetAddress().GetUri()
		if !d.owns(username, to.User) || s.dir.domain(from.GetHost()) != d || d.agent(from.GetUser()) != reg.agent {
			s.refuse(reg.Request, 403, "")
			return
		}
	}
	if reg.agent != nil && !reg.agent.enabled {
		s.refuse(reg.Request, 403, "")
		return
	}
	reg.aor, reg.trusted = d.aor(to.User), username == ""
	s.bind(ctx, reg) // steps 6 to 8
}

// bind does what the Contacts of a REGISTER ask for.
func (s *Service) bind(ctx context.Context, reg *registration) {
	contacts := reg.Message.GetContacts()
	if len(contacts) == 0 {
		if reg.Message.GetContact() == nil {
			reg.Call(ctx, s.find, &locationpb.FindRoutesRequest{Aor: reg.aor},
				func(reply bus.Reply, err error) { s.queried(reg, reply, err) })
			return
		}
		contacts = []*sipmessagepb.Contact{reg.Message.Contact}
	}
	if len(contacts) > maxContacts {
		s.refuse(reg.Request, 403, "Too Many Contacts In One Request")
		return
	}
	b := new(struct { // one allocation for the usual case of one Contact
		add   locationpb.AddRouteRequest
		route locationpb.Route
	})
	add := &b.add
	add.Aor, add.MaxContacts = reg.aor, -1
	if reg.agent != nil {
		add.MaxContacts = reg.agent.maxContacts
	}
	if contacts[0].GetAddress().GetWildcard() { // step 6
		if len(contacts) > 1 || reg.Message.GetExpires() == nil || reg.Message.Expires.Expires != 0 {
			s.refuse(reg.Request, 400, "Contact: * Without Expires: 0 Or With Another Contact")
			return
		}
		add.RemoveAll, add.CallId, add.CSeq = true, callID(reg.MessageRequest), reg.Message.GetCSeq().GetNumber()
	} else if !s.addRoutes(reg, add, &b.route, contacts) {
		return
	}
	reg.Call(ctx, s.add, add, func(reply bus.Reply, err error) { s.bound(reg, reply, err) })
}

// addRoutes turns contacts into the routes of add, all or none (RFC 3261 10.3 step 7); first is for the first of them.
// ok is false if reg has been refused.
func (s *Service) addRoutes(reg *registration, add *locationpb.AddRouteRequest, first *locationpb.Route, contacts []*sipmessagepb.Contact) (ok bool) {
	if !s.checkOutbound(reg, contacts) {
		return false
	}
	now := time.Now().UnixMilli()
	for i, c := range contacts {
		expires := s.expires(reg, c)
		if expires > 0 && expires < int32(s.cfg.MinExpires) {
			s.refuse(reg.Request, 423, "", processor.NewHeader("Min-Expires", strconv.Itoa(s.cfg.MinExpires)))
			return false
		}
		route := first
		if i > 0 {
			route = new(locationpb.Route)
			add.Routes = append(add.Routes, route)
		}
		if !reg.fill(route, c) {
			s.refuse(reg.Request, 400, "Contact Is No SIP URI Or Too Long")
			return false
		}
		route.RegisteredOn, route.Expires = now, s.granted(reg, expires)
	}
	add.Route = first
	return true
}

// expires is how long c asks to be bound, in seconds: its parameter, else the Expires header, else the default. -1 is how
// an EdgePort says that there is no parameter, or none that is a number; 0 removes a binding.
func (s *Service) expires(reg *registration, c *sipmessagepb.Contact) int32 {
	if e := c.GetExpires(); e >= 0 {
		return e
	}
	if h := reg.Message.GetExpires(); h != nil && h.Expires >= 0 {
		return h.Expires
	}
	return int32(s.cfg.DefaultExpires)
}

// granted is expires within the limits.
func (s *Service) granted(reg *registration, expires int32) int32 {
	limit := int32(s.cfg.MaxExpires)
	if reg.agent != nil && reg.agent.maxExpires > 0 {
		limit = min(limit, reg.agent.maxExpires)
	}
	return min(expires, limit)
}

// fill makes route the binding of c; ok is false if c is no address that a request can be sent to.
func (reg *registration) fill(route *locationpb.Route, c *sipmessagepb.Contact) (ok bool) {
	text := processor.URIText(c.GetAddress().GetUri())
	u, ok := processor.ParseURI(text)
	if !ok {
		return false
	}
	sender := reg.GetSender()
	route.User = u.User
	route.Host, route.Port = sender.GetHost(), strconv.Itoa(int(sender.GetPort()))
	route.Transport = sender.GetTransport()
	route.ContactUri = text
	route.EdgePortRef = reg.EdgePortRef
	route.ListeningPoints = reg.ListeningPoints
	route.Localnets = reg.Localnets
	route.ExternalAddrs = reg.ExternalAddrs
	route.CallId = callID(reg.MessageRequest)
	route.CSeq = reg.Message.GetCSeq().GetNumber()
	route.SessionCount = reg.headers.sessions
	if q := c.GetQValue(); q >= 0 && q < 1 { // -1: absent
		thousandths := int32(math.Round(float64(q) * 1000))
		route.Q = &thousandths
	}
	size := len(text)
	if len(reg.headers.path) > 0 {
		// RFC 3327 5.3: it is reached by its Path, and what the next hop sent the REGISTER on is no flow to it.
		route.Path = reg.headers.path
		route.Dialable = reg.trusted || leadsBack(route.Path, route.Host)
		for _, p := range route.Path {
			size += len(p)
		}
	} else if sender.GetTransport() != commonpb.Transport_UDP || elsewhere(u, route.Host) {
		route.Flow = reg.Flow
	}
	route.Instance = instanceOf(c)
	size += len(route.Instance)
	if reg.outbound && route.Instance != "" {
		route.RegId = regIDOf(c)
	}
	if route.Flow != "" {
		route.Dialable = route.RegId == 0 && dialable(u, route.Host)
	}
	return size <= maxBindingText
}

// supports reports whether the UA has the option tag in Supported.
func (reg *registration) supports(tag string) bool {
	for _, value := range reg.headers.supported {
		for t := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(t), tag) {
				return true
			}
		}
	}
	return false
}

// readHeaders reads the headers of a REGISTER in one pass.
func readHeaders(m *sipmessagepb.SIPMessage) (h registerHeaders) {
	for _, e := range m.GetExtensions() {
		switch name := e.GetName(); len(name) {
		case len("Path"):
			if strings.EqualFold(name, "Path") {
				h.path = append(h.path, e.Value)
			}
		case len("Require"):
			if strings.EqualFold(name, "Require") {
				for tag := range strings.SplitSeq(e.Value, ",") {
					switch tag = strings.TrimSpace(tag); {
					case tag == "", strings.EqualFold(tag, "path"):
					case strings.EqualFold(tag, "outbound"):
						h.outbound = true
					default:
						h.unsupported = append(h.unsupported, tag)
					}
				}
			}
		case len("Supported"):
			if strings.EqualFold(name, "Supported") {
				h.supported = append(h.supported, e.Value)
			}
		case len("X-Session-Count"):
			if strings.EqualFold(name, "X-Session-Count") {
				if n, err := strconv.ParseInt(e.Value, 10, 32); err == nil && n >= 0 {
					h.sessions = int32(n)
				}
			}
		}
	}
	return h
}

// callID is the Call-ID of a request.
func callID(req *processorpb.MessageRequest) string {
	if id := req.GetMessage().GetCallId().GetCallId(); id != "" {
		return id
	}
	return req.GetRef()
}

// bound answers a REGISTER once the Location Service has acknowledged it, or not.
func (s *Service) bound(reg *registration, reply bus.Reply, err error) {
	if err == nil {
		var added *locationpb.AddRouteResponse
		if added, err = bus.Decode[locationpb.AddRouteResponse](reply.Body); err == nil {
			s.accept(reg, added.Routes)
			return
		}
	}
	var text *bus.Error
	switch bus.CodeOf(err) {
	case bus.InvalidArgument:
		reason := ""
		if errors.As(err, &text) {
			reason = text.Text
		}
		s.refuse(reg.Request, 403, reason)
	case bus.FailedPrecondition: // step 7: a CSeq that is not higher; nothing has changed
		s.refuse(reg.Request, 500, "CSeq Out Of Order")
	case bus.Unavailable, bus.DeadlineExceeded:
		s.unavailable(reg.Request)
	default:
		s.fail(reg.Request, fmt.Errorf("add the bindings of %s: %w", reg.aor, err))
	}
}

// queried answers a REGISTER that only asks.
func (s *Service) queried(reg *registration, reply bus.Reply, err error) {
	found, code, err := routesOf(reply, err)
	switch code {
	case "", bus.NotFound:
		s.accept(reg, found.GetRoutes())
	case bus.Unavailable, bus.DeadlineExceeded:
		s.unavailable(reg.Request)
	default:
		s.fail(reg.Request, fmt.Errorf("find the bindings of %s: %w", reg.aor, err))
	}
}

// accept is the 200 with every binding that there is (RFC 3261 10.3 step 8).
func (s *Service) accept(reg *registration, routes []*locationpb.Route) {
	now := time.Now()
	n := len(routes) + len(reg.headers.path) + len(s.serviceRoute) + 3
	block, headers := make([]sipmessagepb.Extension, n), make([]*sipmessagepb.Extension, 0, n)
	add := func(name, value string) {
		e := &block[len(headers)]
		e.Name, e.Value = name, value
		headers = append(headers, e)
	}
	var room [512]byte
	for _, route := range routes {
		if left := remaining(route, now); left > 0 {
			add("Contact", string(appendContact(room[:0], route, left)))
		}
	}
	for _, p := range reg.headers.path { // RFC 3327 5.3
		add("Path", p)
	}
	for _, r := range s.serviceRoute { // RFC 3608 6.3
		add("Service-Route", r)
	}
	if reg.outbound { // RFC 5626 6
		add("Require", "outbound")
		if len(reg.headers.path) == 0 { // else the flow, and so its timer, is the edge proxy's (5.4)
			add("Flow-Timer", s.flowTimer)
		}
	}
	add("Date", s.dateText(now))
	s.counts.add(registered)
	reg.Respond(200, "", headers...)
}

// remaining is how many seconds a binding lives, rounded up; 0 or less: it has expired.
func remaining(route *locationpb.Route, now time.Time) int64 {
	end := route.RegisteredOn + int64(route.Expires)*1000
	return (end - now.UnixMilli() + 999) / 1000
}

// appendContact writes the Contact value of a binding.
func appendContact(b []byte, route *locationpb.Route, expires int64) []byte {
	b = append(b, '<')
	b = appendURI(b, route)
	b = append(b, ">;expires="...)
	b = strconv.AppendInt(b, expires, 10)
	if q := route.GetQ(); route.Q != nil && q >= 0 && q < 1000 {
		b = append(b, ";q=0."...)
		b = append(b, byte('0'+q/100), byte('0'+q/10%10), byte('0'+q%10))
	}
	if route.Instance != "" {
		b = append(append(append(b, `;+sip.instance="`...), route.Instance...), '"')
	}
	if route.RegId > 0 {
		b = strconv.AppendInt(append(b, ";reg-id="...), int64(route.RegId), 10)
	}
	return b
}

// appendURI writes the contact address of a binding. One that a client of Routr v2 has made has only its parts.
func appendURI(b []byte, route *locationpb.Route) []byte {
	if route.ContactUri != "" {
		return append(b, route.ContactUri...)
	}
	b = append(b, "sip:"...)
	if route.User != "" {
		b = append(append(b, route.User...), '@')
	}
	b = append(b, route.Host...)
	if route.Port != "" {
		b = append(append(b, ':'), route.Port...)
	}
	if route.Transport != 0 {
		b = append(append(b, ";transport="...), strings.ToLower(route.Transport.String())...)
	}
	return b
}
