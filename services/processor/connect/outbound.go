package connect

import (
	"net/netip"
	"strconv"
	"strings"

	commonpb "github.com/routr-fabric/routr/proto/common/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
	"github.com/routr-fabric/routr/services/processor"
)

// The registrar's part of RFC 5626: which REGISTERs ask for flows of their own, whether the first hop can keep one, and
// which contacts can be reached without.

// hop is what is known of the first hop of a REGISTER: the one that the UA has its connection to.
type hop int

const (
	plainHop   hop = iota // we are, over UDP, where we offer no keep-alive; or there is no telling
	keepingHop            // it keeps the flow to the UA: we do, over a connection, or the edge proxy with ;ob in its Path
	lackingHop            // a proxy that does not
)

// firstHop is RFC 5626 6: the lowest Path value is of the proxy next to the UA, and says by ;ob that it keeps flows.
func (reg *registration) firstHop() hop {
	if n := len(reg.headers.path); n > 0 {
		if u, ok := pathURI(reg.headers.path[n-1]); ok && hasParam(u, "ob") {
			return keepingHop
		}
	}
	switch {
	case len(reg.Message.GetVia()) > 1:
		return lackingHop
	case len(reg.headers.path) == 0 && reg.Flow != "" && reg.Sender.GetTransport() != commonpb.Transport_UDP:
		return keepingHop
	}
	return plainHop
}

// checkOutbound decides whether the contacts of reg are bound by RFC 5626, which reg.outbound then says. ok is false if
// reg has been refused.
func (s *Service) checkOutbound(reg *registration, contacts []*sipmessagepb.Contact) (ok bool) {
	asked, added := false, 0
	for _, c := range contacts {
		asked = asked || instanceOf(c) != "" && regIDOf(c) > 0
		if s.expires(reg, c) > 0 {
			added++
		}
	}
	if asked && (reg.headers.outbound || reg.supports("outbound")) {
		if added > 1 {
			s.refuse(reg.Request, 400, "One Contact With reg-id Is One Flow")
			return false
		}
		switch reg.firstHop() {
		case keepingHop:
			reg.outbound = true
		case lackingHop:
			s.refuse(reg.Request, 439, "")
			return false
		}
	}
	if reg.headers.outbound && !reg.outbound {
		s.refuse(reg.Request, 420, "", processor.NewHeader("Unsupported", "outbound"))
		return false
	}
	return true
}

// instanceOf is the +sip.instance of a contact, empty if there is none or none that can be written back between
// quotation marks.
func instanceOf(c *sipmessagepb.Contact) string {
	id := strings.Trim(c.GetParameters()["+sip.instance"], `"`)
	if strings.ContainsAny(id, "\"\\\r\n\x00") {
		return ""
	}
	return id
}

// regIDOf is the reg-id of a contact, 1 to 2^31-1; 0 if there is none. Without an instance it means nothing (RFC 5626 6).
func regIDOf(c *sipmessagepb.Contact) int32 {
	id, err := strconv.ParseUint(c.GetParameters()["reg-id"], 10, 31)
	if err != nil {
		return 0
	}
	return int32(id)
}

// dialable reports whether a UA that registered over a connection from that address can be reached without it: its
// contact is at the very address that the connection came from, so no NAT is between us, and over TCP or TLS, where it is
// soon known that nobody listens. Others have to be reached on their connections, or not at all.
func dialable(contact processor.URI, from string) bool {
	_, ok := streamOf(contact)
	return ok && sameAddr(contact.Host, from) && !hasParam(contact, "maddr")
}

// sameAddr reports whether two hosts are the same address; names never are.
func sameAddr(host, other string) bool {
	a, err := netip.ParseAddr(trimBrackets(host))
	if err != nil {
		return false
	}
	b, err := netip.ParseAddr(trimBrackets(other))
	return err == nil && a.Unmap() == b.Unmap()
}

// streamOf is the transport that a contact names, if it is TCP or TLS.
func streamOf(contact processor.URI) (t commonpb.Transport, ok bool) {
	name, _ := uriParam(contact, "transport")
	switch {
	case strings.EqualFold(name, "tls"), contact.Secure && (name == "" || strings.EqualFold(name, "tcp")):
		return commonpb.Transport_TLS, true
	case strings.EqualFold(name, "tcp"):
		return commonpb.Transport_TCP, true
	}
	return 0, false
}

// uriParam is a parameter of a URI; ok says whether it is there.
func uriParam(u processor.URI, name string) (value string, ok bool) {
	for p := range strings.SplitSeq(u.Params, ";") {
		n, v, _ := strings.Cut(p, "=")
		if strings.EqualFold(n, name) {
			return v, true
		}
	}
	return "", false
}

func hasParam(u processor.URI, name string) bool {
	_, ok := uriParam(u, name)
	return ok
}
