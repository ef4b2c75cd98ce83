package bus_test

import (
	"strings"
	"testing"

	"github.com/routr-fabric/routr/bus"
)

// The names on the bus are a contract with other versions, taps and permissions.
func TestSubjects(t *testing.T) {
	tests := []struct{ got, want string }{
		{bus.SubjectAll, "routr.v1.>"},
		{bus.SubjectDispatch("INVITE"), "routr.v1.dispatch.INVITE"},
		{bus.SubjectDispatch(bus.Every), "routr.v1.dispatch.*"},
		{bus.SubjectDispatch("invite"), "routr.v1.dispatch.invite"},
		{bus.SubjectDispatch("X.Y*"), "routr.v1.dispatch.X=2EY=2A"},
		{bus.SubjectDispatch(""), "routr.v1.dispatch.="},
		{bus.SubjectResponse("INVITE"), "routr.v1.response.INVITE"},
		{bus.SubjectProcess("connect", "REGISTER"), "routr.v1.process.connect.REGISTER"},
		{bus.SubjectProcess("connect.>", bus.Every), "routr.v1.process.connect=2E=3E.*"},
		{bus.SubjectMiddleware("rtp engine", "BYE"), "routr.v1.middleware.rtp=20engine.BYE"},
		{bus.SubjectLocation(bus.LocationAdd), "routr.v1.location.add"},
		{bus.SubjectLocation(bus.LocationFind), "routr.v1.location.find"},
		{bus.SubjectLocation(bus.LocationRemove), "routr.v1.location.remove"},
		{bus.SubjectFlowClosed("edge.1"), "routr.v1.flow.closed.edge=2E1"},
		{bus.SubjectFlowClosed(bus.Every), "routr.v1.flow.closed.*"},
		{bus.SubjectNonce("0a1b2c3d"), "routr.v1.nonce.0a1b2c3d"},
		{bus.SubjectControl("tap"), "routr.v1.control.tap"},
		{bus.SubjectDrain("edge.1"), "routr.v1.control.drain.edge=2E1"},
		{bus.SubjectReply("edgeport-1", "id"), "routr.v1.reply.edgeport-1.id"},
		{bus.QueueDispatcher, "dispatcher"},
		{bus.QueueLocation, "location"},
		{bus.QueueControl, "control"},
		{bus.QueueNonce, "nonce"},
		{bus.BucketBindings, "routr_bindings"},
		{bus.BucketKeys, "routr_keys"},
		{bus.BucketResources, "routr_resources"},
		{bus.BucketBans, "routr_bans"},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("subject = %q, want %q", tt.got, tt.want)
		}
	}
}

func TestToken(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", "="},
		{"=", "=3D"},
		{"abc-XYZ_09", "abc-XYZ_09"},
		{"a.b", "a=2Eb"},
		{">", "=3E"},
		{"*", "=2A"},
		{"**", "=2A=2A"},
		{"a b\t\r\n", "a=20b=09=0D=0A"},
		{"ä", "=C3=A4"},
		{"\x00\xff", "=00=FF"},
		{bus.Every, "*"},
	}
	for _, tt := range tests {
		if got := bus.Token(tt.in); got != tt.want {
			t.Errorf("Token(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

// Token is one token whatever it is given, and no two inputs share one.
func FuzzToken(f *testing.F) {
	for _, s := range []string{"INVITE", "", "=", "==", "=2E", ".", "a.b", "*", "**", ">", " ", "\r\n", "ä", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := bus.Token(s)
		if s == bus.Every {
			return
		}
		if got == "" || strings.ContainsAny(got, ".*> \t\r\n\x00") {
			t.Errorf("Token(%q) = %q, want one token", s, got)
		}
		back, ok := decodeToken(got)
		if !ok || back != s {
			t.Errorf("Token(%q) = %q, which reads back as %q", s, got, back)
		}
	})
}

// decodeToken is the inverse of Token: that there is one proves that Token is injective.
func decodeToken(s string) (string, bool) {
	if s == "=" {
		return "", true
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '=' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		hi, lo := strings.IndexByte("0123456789ABCDEF", s[i+1]), strings.IndexByte("0123456789ABCDEF", s[i+2])
		if hi < 0 || lo < 0 {
			return "", false
		}
		b.WriteByte(byte(hi<<4 | lo))
		i += 2
	}
	return b.String(), true
}
