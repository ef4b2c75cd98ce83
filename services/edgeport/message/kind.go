package message

// Kind is a header that this package knows by name, in its full or its compact form.
type Kind uint8

// The headers of RFC 3261 20 and of the extensions in use. KindOther is every other one.
const (
	KindOther Kind = iota
	KindVia
	KindFrom
	KindTo
	KindCallID
	KindCSeq
	KindContact
	KindMaxForwards
	KindRoute
	KindRecordRoute
	KindContentLength
	KindContentType
	KindExpires
	KindAuthorization
	KindProxyAuthorization
	KindWWWAuthenticate
	KindProxyAuthenticate
	KindRequire
	KindProxyRequire
	KindSupported
	KindUnsupported
	KindPath
	KindServiceRoute
	KindTimestamp
	KindAccept
	KindAcceptContact
	KindAcceptEncoding
	KindAcceptLanguage
	KindAlertInfo
	KindAllow
	KindAllowEvents
	KindCallInfo
	KindContentEncoding
	KindContentLanguage
	KindDate
	KindDiversion
	KindErrorInfo
	KindEvent
	KindHistoryInfo
	KindIdentity
	KindInReplyTo
	KindMaxBreadth
	KindMinExpires
	KindPAssertedIdentity
	KindPPreferredIdentity
	KindPrivacy
	KindRAck
	KindReason
	KindReferredBy
	KindReferTo
	KindRejectContact
	KindReplaces
	KindRequestDisposition
	KindRetryAfter
	KindRSeq
	KindServer
	KindSessionExpires
	KindSubject
	KindSubscriptionState
	KindUserAgent
	KindWarning
	numKinds // at most 64: Message.seen has a bit for each
)

// String is the full name, in the spelling of its RFC; "" for KindOther.
func (k Kind) String() string {
	if k >= numKinds {
		return ""
	}
	return kinds[k].name
}

// List says whether a header of this kind holds a list of values that commas separate, so that several headers of it
// mean the same as one (RFC 3261 7.3.1). The four that carry credentials and challenges repeat, but are no lists.
func (k Kind) List() bool { return k < numKinds && kinds[k].list }

// kinds is a constant table.
var kinds = [numKinds]struct {
	name string
	list bool
	once bool // twice in a message makes it malformed: a receiver could not know which one counts
}{
	KindVia:                {"Via", true, false},
	KindFrom:               {"From", false, true},
	KindTo:                 {"To", false, true},
	KindCallID:             {"Call-ID", false, true},
	KindCSeq:               {"CSeq", false, true},
	KindContact:            {"Contact", true, false},
	KindMaxForwards:        {"Max-Forwards", false, true},
	KindRoute:              {"Route", true, false},
	KindRecordRoute:        {"Record-Route", true, false},
	KindContentLength:      {"Content-Length", false, true},
	KindContentType:        {"Content-Type", false, true},
	KindExpires:            {"Expires", false, true},
	KindAuthorization:      {"Authorization", false, false},
	KindProxyAuthorization: {"Proxy-Authorization", false, false},
	KindWWWAuthenticate:    {"WWW-Authenticate", false, false},
	KindProxyAuthenticate:  {"Proxy-Authenticate", false, false},
	KindRequire:            {"Require", true, false},
	KindProxyRequire:       {"Proxy-Require", true, false},
	KindSupported:          {"Supported", true, false},
	KindUnsupported:        {"Unsupported", true, false},
	KindPath:               {"Path", true, false},
	KindServiceRoute:       {"Service-Route", true, false},
	KindTimestamp:          {"Timestamp", false, true},
	KindAccept:             {"Accept", true, false},
	KindAcceptContact:      {"Accept-Contact", true, false},
	KindAcceptEncoding:     {"Accept-Encoding", true, false},
	KindAcceptLanguage:     {"Accept-Language", true, false},
	KindAlertInfo:          {"Alert-Info", true, false},
	KindAllow:              {"Allow", true, false},
	KindAllowEvents:        {"Allow-Events", true, false},
	KindCallInfo:           {"Call-Info", true, false},
	KindContentEncoding:    {"Content-Encoding", true, false},
	KindContentLanguage:    {"Content-Language", true, false},
	KindDate:               {"Date", false, false},
	KindDiversion:          {"Diversion", true, false},
	KindErrorInfo:          {"Error-Info", true, false},
	KindEvent:              {"Event", false, true},
	KindHistoryInfo:        {"History-Info", true, false},
	KindIdentity:           {"Identity", false, false},
	KindInReplyTo:          {"In-Reply-To", true, false},
	KindMaxBreadth:         {"Max-Breadth", false, true},
	KindMinExpires:         {"Min-Expires", false, true},
	KindPAssertedIdentity:  {"P-Asserted-Identity", true, false},
	KindPPreferredIdentity: {"P-Preferred-Identity", true, false},
	KindPrivacy:            {"Privacy", false, false},
	KindRAck:               {"RAck", false, true},
	KindReason:             {"Reason", true, false},
	KindReferredBy:         {"Referred-By", false, true},
	KindReferTo:            {"Refer-To", false, true},
	KindRejectContact:      {"Reject-Contact", true, false},
	KindReplaces:           {"Replaces", false, true},
	KindRequestDisposition: {"Request-Disposition", true, false},
	KindRetryAfter:         {"Retry-After", false, false},
	KindRSeq:               {"RSeq", false, true},
	KindServer:             {"Server", false, false},
	KindSessionExpires:     {"Session-Expires", false, true},
	KindSubject:            {"Subject", false, false},
	KindSubscriptionState:  {"Subscription-State", false, false},
	KindUserAgent:          {"User-Agent", false, false},
	KindWarning:            {"Warning", true, false},
}

// onceKinds has the bits of the kinds that may stand in a message once.
var onceKinds = func() (bits uint64) {
	for k, v := range kinds {
		if v.once {
			bits |= 1 << k
		}
	}
	return bits
}()

// KindOf is the kind of header that has this name, full or compact, in any case.
func KindOf(name string) Kind {
	k, _ := kindOf([]byte(name))
	return k
}

// longestKind is the length of the longest name below.
const longestKind = len("p-preferred-identity")

// kindOf finds the kind of a header by its name; false if the name is no token.
func kindOf(name []byte) (Kind, bool) {
	if len(name) > longestKind {
		return KindOther, all(name, isToken)
	}
	var space [longestKind]byte
	low := space[:len(name)]
	for i, c := range name {
		if low[i] = lower[c]; low[i] == 0 {
			return KindOther, false
		}
	}
	switch string(low) {
	case "via", "v":
		return KindVia, true
	case "from", "f":
		return KindFrom, true
	case "to", "t":
		return KindTo, true
	case "call-id", "i":
		return KindCallID, true
	case "cseq":
		return KindCSeq, true
	case "contact", "m":
		return KindContact, true
	case "max-forwards":
		return KindMaxForwards, true
	case "route":
		return KindRoute, true
	case "record-route":
		return KindRecordRoute, true
	case "content-length", "l":
		return KindContentLength, true
	case "content-type", "c":
		return KindContentType, true
	case "expires":
		return KindExpires, true
	case "authorization":
		return KindAuthorization, true
	case "proxy-authorization":
		return KindProxyAuthorization, true
	case "www-authenticate":
		return KindWWWAuthenticate, true
	case "proxy-authenticate":
		return KindProxyAuthenticate, true
	case "require":
		return KindRequire, true
	case "proxy-require":
		return KindProxyRequire, true
	case "supported", "k":
		return KindSupported, true
	case "unsupported":
		return KindUnsupported, true
	case "path":
		return KindPath, true
	case "service-route":
		return KindServiceRoute, true
	case "timestamp":
		return KindTimestamp, true
	case "accept":
		return KindAccept, true
	case "accept-contact", "a":
		return KindAcceptContact, true
	case "accept-encoding":
		return KindAcceptEncoding, true
	case "accept-language":
		return KindAcceptLanguage, true
	case "alert-info":
		return KindAlertInfo, true
	case "allow":
		return KindAllow, true
	case "allow-events", "u":
		return KindAllowEvents, true
	case "call-info":
		return KindCallInfo, true
	case "content-encoding", "e":
		return KindContentEncoding, true
	case "content-language":
		return KindContentLanguage, true
	case "date":
		return KindDate, true
	case "diversion":
		return KindDiversion, true
	case "error-info":
		return KindErrorInfo, true
	case "event", "o":
		return KindEvent, true
	case "history-info":
		return KindHistoryInfo, true
	case "identity", "y":
		return KindIdentity, true
	case "in-reply-to":
		return KindInReplyTo, true
	case "max-breadth":
		return KindMaxBreadth, true
	case "min-expires":
		return KindMinExpires, true
	case "p-asserted-identity":
		return KindPAssertedIdentity, true
	case "p-preferred-identity":
		return KindPPreferredIdentity, true
	case "privacy":
		return KindPrivacy, true
	case "rack":
		return KindRAck, true
	case "reason":
		return KindReason, true
	case "referred-by", "b":
		return KindReferredBy, true
	case "refer-to", "r":
		return KindReferTo, true
	case "reject-contact", "j":
		return KindRejectContact, true
	case "replaces":
		return KindReplaces, true
	case "request-disposition", "d":
		return KindRequestDisposition, true
	case "retry-after":
		return KindRetryAfter, true
	case "rseq":
		return KindRSeq, true
	case "server":
		return KindServer, true
	case "session-expires", "x":
		return KindSessionExpires, true
	case "subject", "s":
		return KindSubject, true
	case "subscription-state":
		return KindSubscriptionState, true
	case "user-agent":
		return KindUserAgent, true
	case "warning":
		return KindWarning, true
	default:
		return KindOther, len(name) > 0
	}
}
