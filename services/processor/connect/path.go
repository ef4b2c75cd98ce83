package connect

import (
	"strings"

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
		return 421, ""
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
