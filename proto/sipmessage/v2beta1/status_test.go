package sipmessagepb_test

import (
	"strings"
	"testing"

	sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1"
)

// classes are the response types that stand for any status of a class.
func classes() map[sipmessagepb.ResponseType]int {
	return map[sipmessagepb.ResponseType]int{
		sipmessagepb.ResponseType_SUCCESS:      200,
		sipmessagepb.ResponseType_REDIRECTION:  300,
		sipmessagepb.ResponseType_CLIENT_ERROR: 400,
		sipmessagepb.ResponseType_SERVER_ERROR: 500,
		sipmessagepb.ResponseType_GLOBAL_ERROR: 600,
	}
}

func TestEveryNamedTypeHasItsOwnCode(t *testing.T) {
	seen := map[int]sipmessagepb.ResponseType{}
	for n, name := range sipmessagepb.ResponseType_name {
		typ := sipmessagepb.ResponseType(n)
		code := sipmessagepb.Status(typ)
		if want, ok := classes()[typ]; ok {
			if code != want {
				t.Errorf("Status(%s) = %d, want %d", name, code, want)
			}
			continue
		}
		if typ == sipmessagepb.ResponseType_UNKNOWN {
			if code != 0 {
				t.Errorf("Status(UNKNOWN) = %d, want 0", code)
			}
			continue
		}
		if code < 100 || code > 699 {
			t.Errorf("Status(%s) = %d, want 100 to 699", name, code)
		}
		if other, taken := seen[code]; taken {
			t.Errorf("Status(%s) = Status(%s) = %d", name, other, code)
		}
		seen[code] = typ
		if got := sipmessagepb.TypeOf(code); got != typ {
			t.Errorf("TypeOf(%d) = %s, want %s", code, got, name)
		}
		// The phrase says what the name says, but for the two that RFC 3261 words in its own way.
		phrase := strings.NewReplacer(" ", "_", "-", "_", "/", "_").Replace(strings.ToUpper(sipmessagepb.Reason(code)))
		switch code {
		case 481, 504, 606:
		default:
			if phrase != name {
				t.Errorf("Reason(%d) = %q, want the words of %s", code, sipmessagepb.Reason(code), name)
			}
		}
	}
	if len(seen) != 52 {
		t.Errorf("%d codes have a name, want 52", len(seen))
	}
}

func TestTypeOf(t *testing.T) {
	for _, tt := range []struct {
		code   int
		want   sipmessagepb.ResponseType
		reason string
	}{
		{100, sipmessagepb.ResponseType_TRYING, "Trying"},
		{180, sipmessagepb.ResponseType_RINGING, "Ringing"},
		{199, sipmessagepb.ResponseType_SESSION_PROGRESS, "Early Dialog Terminated"},
		{200, sipmessagepb.ResponseType_OK, "OK"},
		{204, sipmessagepb.ResponseType_SUCCESS, "No Notification"},
		{299, sipmessagepb.ResponseType_SUCCESS, "OK"},
		{305, sipmessagepb.ResponseType_USE_PROXY, "Use Proxy"},
		{399, sipmessagepb.ResponseType_REDIRECTION, "Multiple Choices"},
		{401, sipmessagepb.ResponseType_UNAUTHORIZED, "Unauthorized"},
		{407, sipmessagepb.ResponseType_PROXY_AUTHENTICATION_REQUIRED, "Proxy Authentication Required"},
		{409, sipmessagepb.ResponseType_CLIENT_ERROR, "Bad Request"},
		{422, sipmessagepb.ResponseType_CLIENT_ERROR, "Session Interval Too Small"},
		{430, sipmessagepb.ResponseType_CLIENT_ERROR, "Flow Failed"},
		{481, sipmessagepb.ResponseType_CALL_OR_TRANSACTION_DOES_NOT_EXIST, "Call/Transaction Does Not Exist"},
		{504, sipmessagepb.ResponseType_SERVER_TIMEOUT, "Server Time-out"},
		{580, sipmessagepb.ResponseType_SERVER_ERROR, "Precondition Failure"},
		{606, sipmessagepb.ResponseType_SESSION_NOT_ACCEPTABLE, "Not Acceptable"},
		{608, sipmessagepb.ResponseType_GLOBAL_ERROR, "Rejected"},
		{0, sipmessagepb.ResponseType_UNKNOWN, ""},
		{99, sipmessagepb.ResponseType_UNKNOWN, ""},
		{700, sipmessagepb.ResponseType_UNKNOWN, ""},
		{-486, sipmessagepb.ResponseType_UNKNOWN, ""},
	} {
		if got := sipmessagepb.TypeOf(tt.code); got != tt.want {
			t.Errorf("TypeOf(%d) = %s, want %s", tt.code, got, tt.want)
		}
		if got := sipmessagepb.Reason(tt.code); got != tt.reason {
			t.Errorf("Reason(%d) = %q, want %q", tt.code, got, tt.reason)
		}
	}
}
