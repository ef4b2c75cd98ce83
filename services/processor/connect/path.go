package connect

import (
	"strings"

	commonpb "github.com/routr-fabric/routr/proto/common/v2beta1"
	locationpb "github.com/routr-fabric/routr/proto/location/v2beta1"
	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	"github.com/routr-fabric/routr/services/processor"
)

// maxPath is how many hops a Path may have: as many Routes as an EdgePort takes in a request.
const maxPath = 16

// checkPath decides about the Path of a REGISTER (RFC 3327 5.3): status 0 takes it. A UA that does not know of Path would
// not notice one that a stranger has put in, and without its Path it could not be reached: it is told at once, not by
// calls that never come.
func (reg *registration) checkPath() (status int, reason string) {
	path := reg.headers.path
	switch {
	case len(path) == 0:
		return 0, ""
	case !reg.supports("path"):
		return 420, ""
	case len(path) > maxPath:
		return 400, "Path Is Too Long"
	}
	for _, value := range path {
		if _, ok := pathURI(value); !ok {
			return 400, "Path Is No SIP URI"
		}
	}
	return 0, ""
}

// leadsBack reports whether the first hop of a Path is at the address that the REGISTER came from, which is what the proxy
// before us writes there.
func leadsBack(path []string, from string) bool {
	u, ok := pathURI(path[0])
	return ok && sameAddr(u.Host, from) && !hasParam(u, "maddr")
}

// pathHop fills hop with the first hop of a Path that does not lead back to where the REGISTER came from: that address all
// the same, with the port and the transport of the Path. RFC 3327 7 leaves it to the registrar to trust a Path. Any client
// can write one, and ours is the name in which requests would go there.
func pathHop(hop *processorpb.NetInterface, route *locationpb.Route, contact processor.URI) {
	u, _ := pathURI(route.Path[0]) // checkPath has read it
	hop.Host, hop.Port, hop.Transport = route.Host, int32(u.Port), commonpb.Transport_UDP
	if t, ok := streamOf(u); ok {
		hop.Transport = t
	}
	if contact.Secure { // RFC 3261 16.6 step 7: so is every hop
		hop.Transport = commonpb.Transport_TLS
	}
}

// pathURI is the URI in a Path value, which is a name-addr (RFC 3327 4).
func pathURI(value string) (u processor.URI, ok bool) {
	if strings.HasPrefix(value, `"`) { // the display name may hold a '<'
		i := 1
		for i < len(value) && value[i] != '"' {
			if value[i] == '\\' {
				i++
			}
			i++
		}
		if i >= len(value) {
			return processor.URI{}, false
		}
		value = value[i+1:]
	}
	_, rest, _ := strings.Cut(value, "<")
	text, _, ok := strings.Cut(rest, ">")
	if !ok {
		return processor.URI{}, false
	}
	return processor.ParseURI(text)
}
