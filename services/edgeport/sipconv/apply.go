package sipconv

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
	"github.com/routr-fabric/routr/services/edgeport/message"
)

// maxCompare bounds the pairs of extensions that Apply compares, when a processor returns them in another order.
const maxCompare = 1 << 16

// Apply adds to e, which is on m, what a processor changed: sent is what Request made of m, got the answer to it. With
// a full message it is the difference between the two messages; what did not change keeps its bytes, whatever the
// contract cannot carry of it. With targets it is remove_headers and add_headers, behind those of the message that a
// middleware may have changed.
//
// What the EdgePort owns is not for a processor to change: Via (a Routr v2 processor pushes and pops it),
// Content-Length, Call-ID, CSeq, the tags, and a Record-Route that leads to ourselves. An absent body or From changes
// nothing, as a Routr v2 processor means it; a body goes if content_length is 0 beside it. The status and the reason of
// a response stay.
//
// Apply does all that can be done. The error says what could not.
func Apply(e *message.Edit, m *message.Message, sent *processorpb.MessageRequest, got *processorpb.MessageResponse) error {
	a := applier{e: e, m: m, old: sent.GetMessage(), got: got.GetMessage()}
	if a.got.GetMessageType() != nil && a.got != a.old {
		a.message(sent)
	}
	for _, name := range got.GetRemoveHeaders() {
		a.remove(name)
	}
	for _, h := range got.GetAddHeaders() {
		a.add(h)
	}
	return errors.Join(a.errs...)
}

// applier turns differences into patches.
type applier struct {
	e        *message.Edit
	m        *message.Message
	old, got *sipmessagepb.SIPMessage
	errs     []error
}

// message patches what differs between the message sent and the one that came back.
func (a *applier) message(sent *processorpb.MessageRequest) {
	if uri := a.got.GetRequestUri(); uri != nil && a.m.IsRequest() && !sameURI(a.old.GetRequestUri(), uri) {
		text, err := uriText(a.old.GetRequestUri(), uri)
		if a.check(err) {
			a.e.SetRequestURI(text)
		}
	}
	if n := a.got.GetMaxForwards(); n != nil && n.MaxForwards >= 0 && n.MaxForwards <= 255 &&
		(a.old.GetMaxForwards() == nil || n.MaxForwards != a.old.MaxForwards.MaxForwards) {
		a.e.SetMaxForwards(int(n.MaxForwards))
	}
	routes(a, message.KindRoute, a.old.GetRoute(), a.got.GetRoute(), func(*sipmessagepb.SipURI) bool { return false })
	routes(a, message.KindRecordRoute, a.old.GetRecordRoute(), a.got.GetRecordRoute(), ourselves(sent))
	if f, o := a.got.GetFrom(), a.old.GetFrom(); f.GetAddress() != nil {
		a.address(message.KindFrom, o.GetAddress(), f.Address, diffParams(o.GetParameters(), f.GetParameters()))
	}
	if t, o := a.got.GetTo(), a.old.GetTo(); t.GetAddress() != nil {
		a.address(message.KindTo, o.GetAddress(), t.Address, diffParams(o.GetParameters(), t.GetParameters()))
	}
	a.contacts()
	a.fields()
	a.extensions()
	a.body()
}

// check keeps an error.
func (a *applier) check(err error) bool {
	if err != nil {
		a.errs = append(a.errs, err)
	}
	return err == nil
}

// owned says whether a header is the EdgePort's.
func owned(name string) bool {
	switch message.KindOf(name) {
	case message.KindVia, message.KindFrom, message.KindTo, message.KindCallID, message.KindCSeq, message.KindMaxForwards,
		message.KindContentLength:
		return true
	default:
		return false
	}
}

// mayChange complains about a header that a processor cannot add or remove by its name.
func (a *applier) mayChange(name string) bool {
	switch {
	case owned(name):
		return a.check(fmt.Errorf("change header %s: it is the EdgePort's", name))
	case !message.IsToken(name):
		return a.check(fmt.Errorf("change header %.80q: the name is no token", name))
	default:
		return true
	}
}

// remove removes all headers of that name.
func (a *applier) remove(name string) {
	if !a.mayChange(name) {
		return
	}
	k := message.KindOf(name)
	for i := range a.m.Len() {
		kind, written, _ := a.m.Header(i)
		if k != message.KindOther && kind == k || k == message.KindOther && strings.EqualFold(string(written), name) {
			a.e.RemoveHeader(i)
		}
	}
}

func (a *applier) add(x *sipmessagepb.Extension) {
	if message.KindOf(x.GetName()) == message.KindMaxBreadth { // every copy gets one, and two make it malformed
		a.check(fmt.Errorf("add header %s: it is the EdgePort's", x.Name))
	} else if a.mayChange(x.GetName()) {
		a.e.AppendHeader(x.Name, []byte(x.Value))
	}
}

// address patches the one header of that kind.
func (a *applier) address(k message.Kind, old, got *sipmessagepb.Address, params edit) {
	i, ok := a.m.Find(k)
	if !ok || params == nil && sameAddress(old, got) {
		return
	}
	_, _, text := a.m.Header(i)
	if text, err := addressText(text, old, got, params); a.check(err) {
		a.e.SetHeader(i, text)
	}
}

// ourselves tells the URIs that lead to this EdgePort, as a Routr v2 processor writes them into a Record-Route. The
// EdgePort record-routes by itself, with a token without which a request would not find back into its dialog.
func ourselves(sent *processorpb.MessageRequest) func(*sipmessagepb.SipURI) bool {
	return func(u *sipmessagepb.SipURI) bool {
		host := strings.Trim(u.GetHost(), "[]")
		is := func(s string) bool {
			s, _, _ = strings.Cut(s, "/")
			return strings.EqualFold(host, s) || hostOf(s).IsValid() && hostOf(s) == hostOf(host)
		}
		if !slices.ContainsFunc(sent.GetExternalAddrs(), is) && !slices.ContainsFunc(sent.GetLocalnets(), is) &&
			!slices.ContainsFunc(sent.GetListeningPoints(), func(p *processorpb.NetInterface) bool { return is(p.GetHost()) }) {
			return false
		}
		return slices.ContainsFunc(sent.GetListeningPoints(), func(p *processorpb.NetInterface) bool {
			return p.GetPort() == u.GetPort() || u.GetPort() <= 0 && (p.GetPort() == 5060 || p.GetPort() == 5061)
		})
	}
}

// hop is a Route or a Record-Route.
type hop interface {
	comparable
	GetAddress() *sipmessagepb.Address
	GetParameters() map[string]string
}

// routes patches a list. What both lists end with stays; the values before it are replaced by the new ones.
func routes[T hop](a *applier, k message.Kind, old, got []T, drop func(*sipmessagepb.SipURI) bool) {
	same := func(x, y T) bool {
		return x == y || sameAddress(x.GetAddress(), y.GetAddress()) && diffParams(x.GetParameters(), y.GetParameters()) == nil
	}
	for len(old) > 0 && len(got) > 0 && same(old[len(old)-1], got[len(got)-1]) {
		old, got = old[:len(old)-1], got[:len(got)-1]
	}
	var texts [][]byte
	for v := range a.m.Values(k) {
		if len(texts) == len(old) {
			break
		}
		texts = append(texts, v.Text)
		a.e.RemoveValue(v)
	}
	for _, r := range slices.Backward(got) {
		if r.GetAddress() == nil || drop(r.GetAddress().GetUri()) {
			continue
		}
		var text []byte
		if i := slices.IndexFunc(old, func(o T) bool { return same(o, r) }); i >= 0 && i < len(texts) {
			text = texts[i]
		} else {
			var err error
			if text, err = addressText(nil, nil, r.GetAddress(), diffParams(nil, r.GetParameters())); !a.check(err) {
				continue
			}
		}
		a.e.InsertTop(k, text)
	}
}

func sameContact(old, got *sipmessagepb.Contact) bool {
	return old == got || contactEdit(old, got) == nil && sameAddress(old.GetAddress(), got.GetAddress())
}

// contacts patches Contact. A processor that does not know the list of all of them changes the first one alone.
func (a *applier) contacts() {
	old, got := a.old.GetContacts(), a.got.GetContacts()
	if len(old) == 0 && a.old.GetContact() != nil {
		old = []*sipmessagepb.Contact{a.old.Contact}
	}
	if first := a.got.GetContact(); first != nil {
		switch {
		case len(got) == 0:
			got = append([]*sipmessagepb.Contact{first}, old[min(1, len(old)):]...)
		case len(old) > 0 && sameContact(old[0], got[0]) && !sameContact(old[0], first):
			got = append([]*sipmessagepb.Contact{first}, got[1:]...)
		}
	}
	i := 0
	for v := range a.m.Values(message.KindContact) {
		if i >= len(old) {
			return
		}
		if i >= len(got) {
			a.e.RemoveValue(v)
			i++
			continue
		}
		if !sameContact(old[i], got[i]) {
			text, err := addressText(v.Text, old[i].GetAddress(), got[i].GetAddress(), contactEdit(old[i], got[i]))
			if a.check(err) {
				a.e.ReplaceValue(v, text)
			}
		}
		i++
	}
	for ; i < len(got); i++ {
		if text, err := addressText(nil, nil, got[i].GetAddress(), contactEdit(nil, got[i])); a.check(err) {
			a.e.AppendHeader(message.KindContact.String(), text)
		}
	}
}

// fields patches the headers of one number or one challenge.
func (a *applier) fields() {
	x := a.got.GetExpires()
	if x.GetExpires() < 0 {
		x = nil
	}
	a.field(message.KindExpires, a.old.GetExpires() != nil, x != nil, a.old.GetExpires().GetExpires() == x.GetExpires(),
		func() []byte { return strconv.AppendInt(nil, int64(x.Expires), 10) })
	old, got := a.old.GetAuthorization(), a.got.GetAuthorization()
	a.field(message.KindAuthorization, old != nil, got != nil, old == got || bytes.Equal(credentialsText(old), credentialsText(got)),
		func() []byte { return credentialsText(got) })
	was, is := a.old.GetWwwAuthenticate(), a.got.GetWwwAuthenticate()
	a.field(message.KindWWWAuthenticate, was != nil, is != nil, was == is || bytes.Equal(challengeText(was), challengeText(is)),
		func() []byte { return challengeText(is) })
}

func (a *applier) field(k message.Kind, was, is, same bool, text func() []byte) {
	i, ok := a.m.Find(k)
	switch {
	case was && !is && ok:
		a.e.RemoveHeader(i)
	case was && is && ok && !same:
		a.e.SetHeader(i, text())
	case !was && is && ok: // it was malformed
		a.e.SetHeader(i, text())
	case !was && is:
		a.e.AppendHeader(k.String(), text())
	}
}

func sameExtension(a, b *sipmessagepb.Extension) bool {
	return a == b || a.GetValue() == b.GetValue() && strings.EqualFold(a.GetName(), b.GetName())
}

// extensions patches the headers that have no field. One that comes back under its name with another value is changed
// in its place; else it is gone, and new ones go to the end.
func (a *applier) extensions() {
	old, got := a.old.GetExtensions(), a.got.GetExtensions()
	from := 0
	for from < len(old) && from < len(got) && sameExtension(old[from], got[from]) {
		from++
	}
	to := len(old)
	old, got = old[from:], got[from:]
	for len(old) > 0 && len(got) > 0 && sameExtension(old[len(old)-1], got[len(got)-1]) {
		old, got = old[:len(old)-1], got[:len(got)-1]
		to--
	}
	if len(old) == 0 && len(got) == 0 {
		return
	}
	if len(old)*len(got) > maxCompare {
		a.check(fmt.Errorf("compare extensions: %d of %d differ, want at most %d pairs", len(got), len(old), maxCompare))
		return
	}
	used := make([]bool, len(got))
	match := func(f func(x *sipmessagepb.Extension) bool) *sipmessagepb.Extension {
		for j, x := range got {
			if !used[j] && f(x) {
				used[j] = true
				return x
			}
		}
		return nil
	}
	result := make([]*sipmessagepb.Extension, len(old))
	for i, o := range old {
		result[i] = match(func(x *sipmessagepb.Extension) bool { return sameExtension(o, x) })
	}
	for i, o := range old {
		if result[i] == nil {
			result[i] = match(func(x *sipmessagepb.Extension) bool { return strings.EqualFold(o.GetName(), x.GetName()) })
		}
	}
	i := 0
	eachExtension(a.m, func(s source) {
		if i >= from && i < to {
			a.extension(s, old[i-from], result[i-from])
		}
		i++
	})
	for j, x := range got {
		if !used[j] {
			a.add(x)
		}
	}
}

// extension makes of the value at s, which was read as old, what came back for it; nil: nothing did.
func (a *applier) extension(s source, old, got *sipmessagepb.Extension) {
	switch {
	case got != nil && sameExtension(old, got) || !a.mayChange(old.GetName()):
	case got == nil && s.listed:
		a.e.RemoveValue(s.value)
	case got == nil:
		a.e.RemoveHeader(s.header)
	case s.listed:
		a.e.ReplaceValue(s.value, []byte(got.Value))
	default:
		a.e.SetHeader(s.header, []byte(got.Value))
	}
}

func (a *applier) body() {
	body := a.got.GetRawBody()
	if len(body) == 0 {
		body = []byte(a.got.GetBody())
	}
	length := a.got.GetContentLength()
	switch {
	case len(body) > 0 && !bytes.Equal(body, a.m.Body()):
		a.e.SetBody(body)
	case len(body) == 0 && len(a.m.Body()) > 0 && length != nil && length.ContentLength == 0:
		a.e.SetBody(nil)
	}
}
