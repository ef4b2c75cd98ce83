package processor

import (
	"sync/atomic"

	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
)

// OffenceKey is the key in MessageResponse.metadata by which a processor tells the EdgePort what it holds against the
// sender of a request. The EdgePort answers all the same; it may close its doors to a source that offends again and again,
// where it is sure of the source, which it never is over UDP. It is not sent to the client.
const OffenceKey = "routr-offence"

// The offences.
const (
	OffenceWrongCredentials = "wrong-credentials" //nolint:gosec // it is none: an unknown user or a wrong password, for a nonce of ours
	OffenceForgedNonce      = "forged-nonce"      // the same, for a nonce that we never made
)

// Offences are how many credentials were refused, by reason.
type Offences struct {
	WrongCredentials, ForgedNonce int64
	HeldBack                      int64 // too many were tried, so these were not looked at
}

// Offences are those that d has seen.
func (d *Digest) Offences() Offences {
	o := &d.offences
	return Offences{o.wrong.Load(), o.forged.Load(), o.heldBack.Load()}
}

type offences struct{ wrong, forged, heldBack atomic.Int64 }

// note counts what a challenge answers, and says it to the EdgePort. It says nothing of those who are held back: they may
// be right, and to treat them by that would tell a guesser.
func (o *offences) note(challenge *processorpb.MessageResponse, v verdict) {
	switch v {
	case wrong:
		o.wrong.Add(1)
		challenge.Metadata = map[string]string{OffenceKey: OffenceWrongCredentials}
	case forged:
		o.forged.Add(1)
		challenge.Metadata = map[string]string{OffenceKey: OffenceForgedNonce}
	case heldBack:
		o.heldBack.Add(1)
	}
}
