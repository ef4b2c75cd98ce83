package connect

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/routr-fabric/routr/bus"
	locationpb "github.com/routr-fabric/routr/proto/location/v2beta1"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
	"github.com/routr-fabric/routr/services/processor"
)

// anonymousHost is the host in the From of a caller who wants to be anonymous (RFC 3323 4.1.1.3).
const anonymousHost = "anonymous.invalid"

// call is a request on its way to a user of a domain of ours.
type call struct {
	processor.Request
	aor     string
	agent   *agent // nil: a user that only a trusted peer knows
	trusted bool
}

// route decides for every request but REGISTER: who sends it, and where it goes.
//
// A request with a To tag comes here only if it bears no signed Route of ours, so its dialog is none that an EdgePort
// has record-routed. That of a trusted peer is treated as RFC 3261 16.5 treats every request, by its Request-URI, and
// where that leads nowhere the answer is 481, which tells the sender that the dialog is gone (12.2.1.2). A stranger gets
// the 481 in any case: whoever has seen the Call-ID and the tags of others could end or divert their calls.
func (s *Service) route(ctx context.Context, r processor.Request) {
	c := &call{Request: r, trusted: s.trusts(r)}
	switch {
	case r.Method == processorpb.Method_CANCEL, r.Method == processorpb.Method_ACK && !c.trusted:
		// Neither can be challenged (RFC 3261 22.1). The EdgePort has handled those that belong to a transaction.
		s.refuse(r, 481, "")
	case c.trusted:
		s.locate(ctx, c)
	default:
		s.admit(ctx, c)
	}
}

// admit authenticates a stranger as the agent of their From (RFC 3261 22.3). One whose From withholds who they are is
// any agent of the domain that they call.
func (s *Service) admit(ctx context.Context, c *call) {
	from := c.Message.GetFrom().GetAddress().GetUri()
	host, anonymous := from.GetHost(), strings.EqualFold(from.GetHost(), anonymousHost)
	if anonymous {
		host = c.Message.GetRequestUri().GetHost()
	}
	d := s.dir.domain(host)
	if d == nil {
		s.refuse(c.Request, 403, "From Is No User Of A Domain Served Here")
		return
	}
	s.digest.Load().Authenticate(ctx, c.Request, processor.AsProxy, d.host, d.secret, func(username string, refusal *processorpb.MessageResponse) {
		switch {
		case refusal != nil:
			s.challenge(c.Request, refusal)
		case !anonymous && !d.owns(username, from.GetUser()):
			s.refuse(c.Request, 403, "From Is Not The Authenticated User")
		case c.Message.GetTo().GetTag() != "":
			s.refuse(c.Request, 481, "")
		default:
			s.locate(ctx, c)
		}
	})
}

// locate looks for the bindings of the user whom a request is for (RFC 3261 16.5).
func (s *Service) locate(ctx context.Context, c *call) {
	uri := c.Message.GetRequestUri()
	d := s.dir.domain(uri.GetHost())
	switch {
	case uri.GetHost() == "":
		s.refuse(c.Request, 416, "") // tel:, urn: and the like
		return
	case d == nil:
		c.nowhere(s, 403, "Domain Is Not Served Here") // no open relay
		return
	case uri.User == "":
		c.nowhere(s, 404, "")
		return
	}
	c.agent, c.aor = d.agent(uri.User), d.aor(uri.User)
	if c.agent != nil && !c.agent.enabled {
		c.nowhere(s, 480, "")
		return
	}
	c.Call(ctx, s.find, &locationpb.FindRoutesRequest{CallId: callID(c.MessageRequest), Aor: c.aor},
		func(reply bus.Reply, err error) { s.found(c, reply, err) })
}

// nowhere refuses a request that cannot go on; in a dialog the status is 481.
func (c *call) nowhere(s *Service, status int, reason string) {
	if c.Message.GetTo().GetTag() != "" {
		status, reason = 481, ""
	}
	s.refuse(c.Request, status, reason)
}

// found sends the request to the bindings that the Location Service has found.
func (s *Service) found(c *call, reply bus.Reply, err error) {
	found, code, err := routesOf(reply, err)
	switch code {
	case "", bus.NotFound:
	case bus.Unavailable, bus.DeadlineExceeded:
		s.unavailable(c.Request)
		return
	case bus.InvalidArgument: // not an address-of-record
		c.nowhere(s, 404, "")
		return
	default:
		s.fail(c.Request, fmt.Errorf("find the bindings of %s: %w", c.aor, err))
		return
	}
	targets := makeTargets(found.GetRoutes(), c.Message.GetRequestUri().GetSecure(), c.EdgePortRef)
	switch {
	case len(targets) > 0:
		add, remove := s.alterations(c)
		s.counts.add(forwarded)
		c.Forward(targets, add, remove)
	case c.agent != nil || len(found.GetRoutes()) > 0:
		c.nowhere(s, 480, "")
	default:
		c.nowhere(s, 404, "")
	}
}

// routesOf reads the answer to a FindRoutesRequest; no routes are an answer too.
func routesOf(reply bus.Reply, err error) (*locationpb.FindRoutesResponse, bus.Code, error) {
	if err == nil {
		var found *locationpb.FindRoutesResponse
		if found, err = bus.Decode[locationpb.FindRoutesResponse](reply.Body); err == nil {
			return found, "", nil
		}
	}
	return nil, bus.CodeOf(err), err
}

// makeTargets is the target set for bindings. A sips: Request-URI goes to sips: contacts only (RFC 5630 5.3).
func makeTargets(routes []*locationpb.Route, secure bool, here string) []*processorpb.Target {
	if len(routes) == 0 {
		return nil
	}
	block := make([]struct { // one allocation for both
		target processorpb.Target
		hop    processorpb.NetInterface
	}, len(routes))
	targets := make([]*processorpb.Target, 0, len(routes))
	for i, route := range routes {
		text := route.ContactUri
		if text == "" {
			text = string(appendURI(nil, route))
		}
		contact, ok := processor.ParseURI(text)
		if !ok || secure && !contact.Secure {
			continue
		}
		t := &block[i].target
		t.Uri, t.Q, t.Flow, t.Path = requestURI(text), 1000, route.Flow, route.Path
		t.Instance = route.Instance
		if route.Q != nil {
			t.Q = *route.Q
		}
		if route.EdgePortRef != here {
			t.EdgePortRef, t.EdgePortAddrs = route.EdgePortRef, edgePortAddrs(route)
		}
		if hop := &block[i].hop; nextHop(hop, route, contact) {
			t.NextHop = hop
		}
		targets = append(targets, t)
	}
	return targets
}

// edgePortAddrs is where other EdgePorts reach the one of a binding by SIP: where it listens. An unspecified address says
// nothing to others; its external one stands for it, if it has one.
func edgePortAddrs(route *locationpb.Route) []*processorpb.NetInterface {
	unspecified := func(at *processorpb.NetInterface) bool {
		addr, err := netip.ParseAddr(trimBrackets(at.GetHost()))
		return err == nil && addr.IsUnspecified()
	}
	if !slices.ContainsFunc(route.ListeningPoints, unspecified) {
		return route.ListeningPoints
	}
	var addrs []*processorpb.NetInterface
	for _, at := range route.ListeningPoints {
		switch {
		case !unspecified(at):
			addrs = append(addrs, at)
		case len(route.ExternalAddrs) > 0:
			addrs = append(addrs, &processorpb.NetInterface{Host: route.ExternalAddrs[0], Port: at.Port, Transport: at.Transport})
		}
	}
	return addrs
}

// nextHop fills hop with where a binding is reached, if that is not where its contact or its Path says: nobody may have
// requests sent to a host that he did not register from. Without a flow that is where the REGISTER came from, if its
// client is elsewhere than its contact says; an EdgePort of Routr v2 names no flows. Beside a flow it is where the client
// is once the flow has ended: at its contact, or nowhere.
func nextHop(hop *processorpb.NetInterface, route *locationpb.Route, contact processor.URI) bool {
	switch {
	case route.Flow != "":
		transport, ok := streamOf(contact)
		hop.Host, hop.Port, hop.Transport = trimBrackets(contact.Host), int32(contact.Port), transport
		return ok && route.Dialable
	case route.Dialable: // at its contact, or its Path, as written
		return false
	case len(route.Path) > 0:
		pathHop(hop, route, contact)
		return true
	case !elsewhere(contact, route.Host):
		return false
	}
	port, err := strconv.ParseUint(route.Port, 10, 16)
	hop.Host, hop.Port, hop.Transport = route.Host, int32(port), route.Transport
	return err == nil
}

// elsewhere reports whether a contact leads to another host than the REGISTER came from, which a client behind a NAT does
// not know better, and one that names somebody else's host should not have its way. Where only the port differs there is
// no NAT, and the contact counts.
func elsewhere(contact processor.URI, source string) bool {
	host := contact.Host
	if maddr, ok := uriParam(contact, "maddr"); ok { // it is sent there (RFC 3261 19.1.1)
		host = maddr
	}
	return !strings.EqualFold(trimBrackets(host), trimBrackets(source))
}

// requestURI is a contact address as a Request-URI, where headers and the method parameter may not be (RFC 3261 19.1.1).
func requestURI(contact string) string {
	host := strings.LastIndexByte(contact, '@') + 1 // a user may hold ';' and '?'
	if i := strings.IndexByte(contact[host:], '?'); i >= 0 {
		contact = contact[:host+i]
	}
	i := strings.IndexByte(contact[host:], ';')
	if i < 0 || !strings.Contains(strings.ToLower(contact[host+i:]), ";method") {
		return contact
	}
	b := []byte(contact[:host+i])
	for p := range strings.SplitSeq(contact[host+i+1:], ";") {
		if name, _, _ := strings.Cut(p, "="); !strings.EqualFold(name, "method") {
			b = append(append(b, ';'), p...)
		}
	}
	return string(b)
}

func trimBrackets(host string) string {
	if len(host) > 1 && host[0] == '[' && host[len(host)-1] == ']' {
		return host[1 : len(host)-1]
	}
	return host
}

// alterations are the headers to remove and to add: credentials for us end here (RFC 3261 22.3), and what other parts of
// the system believe cannot come from a stranger.
func (s *Service) alterations(c *call) (add []*sipmessagepb.Extension, remove []string) {
	m := c.Message
	// The EdgePort reads the first Authorization into a field of its own. It answers a server, not a proxy, so another
	// that is for us may follow one that is not; it does no harm there.
	ours := [2]bool{s.dir.domain(m.GetAuthorization().GetRealm()) != nil, false}
	for _, e := range m.GetExtensions() {
		if i := credentialHeader(e.GetName()); i == proxyAuthorization {
			ours[i] = ours[i] || s.realmIsOurs(e.Value)
		} else if !c.trusted && isReserved(e.GetName()) {
			remove = append(remove, e.Name)
		}
	}
	for i, own := range ours {
		if !own {
			continue
		}
		remove = append(remove, credentialName(i))
		// Removal is by name, so credentials for servers behind us are put back.
		for _, e := range m.GetExtensions() {
			if credentialHeader(e.GetName()) == i && !s.realmIsOurs(e.Value) {
				add = append(add, e)
			}
		}
	}
	return add, remove
}

// realmIsOurs reports whether credentials are for a domain of ours.
func (s *Service) realmIsOurs(value string) bool {
	c, ok := processor.ParseCredentials(value)
	return ok && s.dir.domain(c.Realm) != nil
}

// The headers that carry credentials.
const (
	authorization = iota
	proxyAuthorization
)

// credentialHeader says which of the two name is; -1 for every other name.
func credentialHeader(name string) int {
	switch len(name) {
	case len("Authorization"):
		if strings.EqualFold(name, credentialName(authorization)) {
			return authorization
		}
	case len("Proxy-Authorization"):
		if strings.EqualFold(name, credentialName(proxyAuthorization)) {
			return proxyAuthorization
		}
	}
	return -1
}

func credentialName(i int) string {
	if i == authorization {
		return processor.AsServer.HeaderName()
	}
	return processor.AsProxy.HeaderName()
}

// isReserved reports whether a header is one that other parts of the system act upon, or an identity, which only trusted
// peers assert, and what is preferred to be asserted is for us alone (RFC 3325 5). Those of parts that are not there yet
// are among them, so that nobody depends on them by then.
func isReserved(name string) bool {
	if len(name) < 2 || name[0]|0x20 != 'x' && name[0]|0x20 != 'p' && name[0]|0x20 != 'r' {
		return false
	}
	for _, r := range [...]string{
		"X-Edgeport-Ref", "X-Gateway-Auth", "X-Call-Direction", "X-Request-Uri", "X-Connect-Token", "X-Session-Count", "X-Dod-Number", "X-Dod-Privacy",
		"P-Asserted-Identity", "P-Preferred-Identity", "Remote-Party-ID",
	} {
		if len(r) == len(name) && strings.EqualFold(r, name) {
			return true
		}
	}
	return false
}
