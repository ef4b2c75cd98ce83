package bus

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
)

// Body is the payload of a request or a reply: a message handed over inside this process, or the bytes that NATS
// carried. A message that was given to a Body belongs to the bus: neither side changes it any more, as the other side,
// and taps, may read the same value.
type Body struct {
	msg  proto.Message
	data []byte
}

// Value is a Body that holds m; it is encoded only if it leaves the process.
func Value(m proto.Message) Body { return Body{msg: m} }

// Raw is a Body of encoded bytes, which must not change afterwards.
func Raw(data []byte) Body { return Body{data: data} }

// Bytes returns the encoded payload. It encodes a value anew each time it is called.
func (b Body) Bytes() ([]byte, error) {
	if b.msg == nil {
		return b.data, nil
	}
	return b.encode(nil)
}

// encode encodes a value into buf, which it overwrites, or into a bigger buffer.
func (b Body) encode(buf []byte) ([]byte, error) {
	m, ok := b.msg.(interface {
		SizeVT() int
		MarshalToSizedBufferVT([]byte) (int, error)
	})
	if !ok {
		return proto.MarshalOptions{}.MarshalAppend(buf[:0], b.msg)
	}
	size := m.SizeVT()
	buf = slices.Grow(buf[:0], size)[:size]
	_, err := m.MarshalToSizedBufferVT(buf)
	return buf, err
}

// Decode returns the message in b: the very value where it was handed over in process, else one decoded from the
// bytes, which may share memory with them. An error has the code InvalidArgument.
//
//	req, err := bus.Decode[processorpb.MessageRequest](r.Body)
func Decode[T any, M interface {
	*T
	proto.Message
}](b Body) (M, error) {
	if b.msg != nil {
		if m, ok := b.msg.(M); ok {
			return m, nil
		}
		return nil, &Error{Code: InvalidArgument, Text: fmt.Sprintf("body is a %T, want a %T", b.msg, M(nil))}
	}
	m := M(new(T))
	var err error
	if u, ok := any(m).(interface{ UnmarshalVTUnsafe([]byte) error }); ok {
		err = u.UnmarshalVTUnsafe(b.data)
	} else {
		err = proto.Unmarshal(b.data, m)
	}
	if err != nil {
		return nil, &Error{Code: InvalidArgument, Text: fmt.Sprintf("decode %s: %v", m.ProtoReflect().Descriptor().Name(), err)}
	}
	return m, nil
}
