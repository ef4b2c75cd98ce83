package sipconv

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

// param is a URI parameter that SipURI has a field for.
type param struct {
	name, value string
	set         bool
}

// typedParams are all of them, in the order in which new ones are written.
func typedParams(u *sipmessagepb.SipURI) [7]param {
	ttl := ""
	if u.GetTtlParam() > 0 {
		ttl = strconv.Itoa(int(u.GetTtlParam()))
	}
	return [7]param{
		{"transport", u.GetTransportParam(), u.GetTransportParam() != ""},
		{"maddr", u.GetMAddrParam(), u.GetMAddrParam() != ""},
		{"method", u.GetMethodParam(), u.GetMethodParam() != ""},
		{"user", u.GetUserParam(), u.GetUserParam() != ""},
		{"ttl", ttl, ttl != ""},
		{"lr", "", u.GetLrParam()},
		{"bnc", "", u.GetBncParam()},
	}
}

// sameFields compares the fields that Routr v2 knows. 0 and -1 are both an absent integer.
func sameFields(a, b *sipmessagepb.SipURI) bool {
	return a.GetUser() == b.GetUser() && a.GetUserPassword() == b.GetUserPassword() && a.GetHost() == b.GetHost() &&
		max(0, a.GetPort()) == max(0, b.GetPort()) && a.GetSecure() == b.GetSecure() && typedParams(a) == typedParams(b)
}

// sameURI says whether a processor left the URI as it got it. One that does not know the extensions drops raw and
// parameters, which changes nothing.
func sameURI(old, got *sipmessagepb.SipURI) bool {
	if old == got {
		return true
	}
	return sameFields(old, got) &&
		(got.GetRaw() == "" || got.GetRaw() == old.GetRaw()) &&
		(len(got.GetParameters()) == 0 || maps.Equal(old.GetParameters(), got.GetParameters()))
}

// uriText is the URI got as it is to be written where old stood. A new raw text is taken as it is. Else the parts of
// the old text that the fields do not contradict stay: with another host the rest is another URI, and only the fields
// count.
func uriText(old, got *sipmessagepb.SipURI) ([]byte, error) {
	var b []byte
	if got.GetRaw() != "" && got.GetRaw() != old.GetRaw() && (got.GetHost() == "" || sameFields(old, got)) {
		b = []byte(got.Raw)
	} else {
		b = buildURI(old, got)
	}
	if _, err := message.ParseURI(b); err != nil {
		return nil, fmt.Errorf("write URI %.80q: not a URI", b)
	}
	return b, nil
}

func buildURI(old, got *sipmessagepb.SipURI) []byte {
	b := append(make([]byte, 0, 128), "sip"...)
	if got.GetSecure() {
		b = append(b, 's')
	}
	b = append(b, ':')
	if got.GetUser() != "" {
		b = append(b, got.User...)
		if got.UserPassword != "" {
			b = append(append(b, ':'), got.UserPassword...)
		}
		b = append(b, '@')
	}
	if host := got.GetHost(); strings.IndexByte(host, ':') >= 0 && host[0] != '[' {
		b = append(append(append(b, '['), host...), ']')
	} else {
		b = append(b, host...)
	}
	if got.GetPort() > 0 {
		b = strconv.AppendInt(append(b, ':'), int64(got.Port), 10)
	}
	was, is := typedParams(old), typedParams(got)
	parameters := got.GetParameters()
	var headers []byte
	if o, err := message.ParseURI([]byte(old.GetRaw())); err == nil && o.SIP() && old.GetHost() == got.GetHost() {
		if len(parameters) == 0 {
			parameters = old.GetParameters()
		}
		for p := range o.All() {
			name := strings.ToLower(string(p.Name))
			if i := slices.IndexFunc(is[:], func(t param) bool { return t.name == name }); i >= 0 {
				if was[i] == is[i] {
					b = append(b, p.Text...)
					is[i].set = false // it is written
				}
			} else if v, ok := parameters[name]; ok && v == old.GetParameters()[name] {
				b = append(b, p.Text...)
			}
		}
		headers = o.Headers
	} else {
		old = nil
	}
	for _, t := range is {
		if t.set {
			b = appendURIParam(b, t.name, t.value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		if v, ok := old.GetParameters()[name]; !ok || v != parameters[name] {
			b = appendURIParam(b, name, parameters[name])
		}
	}
	if len(headers) > 0 {
		b = append(append(b, '?'), headers...)
	}
	return b
}

func appendURIParam(b []byte, name, value string) []byte {
	b = append(append(b, ';'), name...)
	if value != "" {
		b = append(append(b, '='), value...)
	}
	return b
}

// edit is what becomes of the parameters of a header, by lower-case name: a new value, or none.
type edit map[string]*string

// diffParams is the difference of two maps of header parameters, nil if there is none. tag stays out of it.
func diffParams(old, got map[string]string) edit {
	if maps.Equal(old, got) {
		return nil
	}
	var e edit
	set := func(name string, value *string) {
		if name == "tag" {
			return
		}
		if e == nil {
			e = make(edit)
		}
		e[name] = value
	}
	for name := range old {
		if _, ok := got[name]; !ok {
			set(name, nil)
		}
	}
	for name, v := range got {
		if o, ok := old[name]; !ok || o != v {
			set(strings.ToLower(name), &v)
		}
	}
	return e
}

func sameAddress(old, got *sipmessagepb.Address) bool {
	return old == got || old.GetDisplayName() == got.GetDisplayName() && old.GetWildcard() == got.GetWildcard() &&
		sameURI(old.GetUri(), got.GetUri())
}

// addressText is the address got as it is to be written where text, which was read as old, stood; text may be nil. What
// did not change stays as it is.
func addressText(text []byte, old, got *sipmessagepb.Address, params edit) ([]byte, error) {
	if got.GetWildcard() {
		return []byte{'*'}, nil
	}
	n, err := message.ParseNameAddr(text)
	if err != nil {
		n, old = message.NameAddr{}, nil
	}
	uri := n.URI
	if old == nil || !sameURI(old.GetUri(), got.GetUri()) {
		if uri, err = uriText(old.GetUri(), got.GetUri()); err != nil {
			return nil, err
		}
	}
	var b []byte
	if old != nil && old.GetDisplayName() == got.GetDisplayName() && len(n.Display) > 0 {
		b = append(append(append(b, '"'), n.Display...), `" `...)
	} else if got.GetDisplayName() != "" {
		b = append(appendQuoted(b, got.GetDisplayName()), ' ')
	}
	b = append(append(append(b, '<'), uri...), '>')
	for p := range n.All() {
		if _, ok := params[strings.ToLower(string(p.Name))]; !ok {
			b = append(b, p.Text...)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(params)) {
		v := params[name]
		if v == nil || !message.IsToken(name) {
			continue
		}
		b = append(append(b, ';'), name...)
		if *v != "" {
			b = append(b, '=')
			if plainValue(*v) {
				b = append(b, *v...)
			} else {
				b = appendQuoted(b, *v)
			}
		}
	}
	return b, nil
}

// plainValue says whether a parameter value needs no quotes: a token, or a host (RFC 3261 25.1).
func plainValue(s string) bool {
	return message.IsToken(strings.NewReplacer("[", "", "]", "", ":", "").Replace(s))
}

// contactEdit is the difference between the parameters of two Contacts.
func contactEdit(old, got *sipmessagepb.Contact) edit {
	e := edit{}
	if len(got.GetParameters()) > 0 || old == nil { // who does not know the extension drops them
		maps.Copy(e, diffParams(old.GetParameters(), got.GetParameters()))
	}
	was, is := int32(-1), got.GetExpires()
	if old != nil {
		was = old.GetExpires()
	}
	if was != is && (was > 0 || is > 0) {
		if e["expires"] = nil; is >= 0 {
			v := strconv.Itoa(int(is))
			e["expires"] = &v
		}
	}
	wasQ, q := float32(-1), got.GetQValue()
	if old != nil {
		wasQ = old.GetQValue()
	}
	if wasQ != q && (wasQ > 0 || q > 0) {
		if e["q"] = nil; q >= 0 && q <= 1 {
			v := strconv.FormatFloat(float64(q), 'f', -1, 32)
			v = v[:min(len(v), len("0.000"))]
			e["q"] = &v
		}
	}
	if len(e) == 0 {
		return nil
	}
	return e
}
