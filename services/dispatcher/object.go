package dispatcher

import (
	"strconv"
	"unicode/utf16"

	"github.com/dop251/goja"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// firstExtension is the lowest number of a field that published Routr v2 does not have. A script reads such a field
// like any other, but does not find it when it lists the keys: they are those of Routr v2.
const firstExtension = 100

// shape is how a script sees messages of one type: camelCase keys, enums by name, absent messages as null, empty lists
// and maps as [] and {}, 64-bit integers as strings, and for a oneof the key of the member that is set, as in
// message.messageType.
type shape struct {
	props []prop // as Routr v2 orders them: lists, maps, the rest, oneofs
	index map[string]int
}

type prop struct {
	key    string
	field  protoreflect.FieldDescriptor // nil: the marker of oneof
	oneof  protoreflect.OneofDescriptor // nil: field is in none
	shape  *shape                       // of a message, or of the messages in a list
	values map[protoreflect.EnumNumber]goja.Value
}

// shapes is the shapes made so far.
type shapes map[protoreflect.FullName]*shape

func newShape(d protoreflect.MessageDescriptor, known shapes) *shape {
	if s := known[d.FullName()]; s != nil {
		return s
	}
	s := &shape{index: make(map[string]int)}
	known[d.FullName()] = s
	add := func(p prop) {
		s.index[p.key] = len(s.props)
		s.props = append(s.props, p)
	}
	fields := d.Fields()
	for _, now := range []func(f protoreflect.FieldDescriptor) bool{
		func(f protoreflect.FieldDescriptor) bool { return f.IsList() },
		func(f protoreflect.FieldDescriptor) bool { return f.IsMap() },
		func(f protoreflect.FieldDescriptor) bool {
			return !f.IsList() && !f.IsMap() && f.ContainingOneof() == nil && f.Kind() != protoreflect.BytesKind
		},
		func(f protoreflect.FieldDescriptor) bool { return f.ContainingOneof() != nil },
	} {
		for i := range fields.Len() {
			if f := fields.Get(i); now(f) {
				add(newProp(f, known))
			}
		}
	}
	for i := range d.Oneofs().Len() {
		o := d.Oneofs().Get(i)
		add(prop{key: camelCase(o.Name()), oneof: o})
	}
	return s
}

func newProp(f protoreflect.FieldDescriptor, known shapes) prop {
	p := prop{key: f.JSONName(), field: f, oneof: f.ContainingOneof()}
	switch {
	case f.IsMap(): // of strings
	case f.Message() != nil:
		p.shape = newShape(f.Message(), known)
	case f.Enum() != nil:
		p.values = make(map[protoreflect.EnumNumber]goja.Value)
		for i := range f.Enum().Values().Len() {
			v := f.Enum().Values().Get(i)
			p.values[v.Number()] = goja.StringFromUTF16(utf16.Encode([]rune(string(v.Name())))) // of no engine, so that all may use it
		}
	}
	return p
}

func camelCase(n protoreflect.Name) string {
	var b []byte
	for i := 0; i < len(n); i++ {
		if c := n[i]; c == '_' && i+1 < len(n) {
			i++
			b = append(b, n[i]-'a'+'A')
		} else {
			b = append(b, c)
		}
	}
	return string(b)
}

// object is a message as a script sees it, made as far as the script looks. Scripts cannot change it. An object, and
// those of the messages in it, are used again for the next message.
type object struct {
	engine *goja.Runtime
	shape  *shape
	value  goja.Value // of the object itself
	msg    protoreflect.Message
	made   []goja.Value // what was asked for, by index of the shape
	subs   []*object    // the objects of fields that are messages; by index of the shape
}

func (s *shape) object(engine *goja.Runtime) *object {
	o := &object{engine: engine, shape: s, made: make([]goja.Value, len(s.props))}
	o.value = engine.NewDynamicObject(o)
	return o
}

// set gives o another message; nil: none, so that nothing keeps the former one alive.
func (o *object) set(m protoreflect.Message) {
	o.msg = m
	clear(o.made)
	for _, sub := range o.subs {
		if sub != nil && sub.msg != nil {
			sub.set(nil)
		}
	}
}

// Get implements goja.DynamicObject.
func (o *object) Get(key string) goja.Value {
	i, ok := o.shape.index[key]
	if !ok || o.msg == nil {
		return nil
	}
	if o.made[i] == nil {
		o.made[i] = o.make(i, &o.shape.props[i])
	}
	return o.made[i]
}

// make returns the value of the property i; nil for a member of a oneof that is not set.
func (o *object) make(i int, p *prop) goja.Value {
	switch f := p.field; {
	case f == nil:
		if set := o.msg.WhichOneof(p.oneof); set != nil {
			return o.engine.ToValue(set.JSONName())
		}
		return nil
	case p.oneof != nil && !o.msg.Has(f):
		return nil
	case f.IsList():
		list := o.msg.Get(f).List()
		items := make([]any, list.Len())
		for i := range items {
			items[i] = o.one(p, list.Get(i))
		}
		return o.engine.NewArray(items...)
	case f.IsMap():
		v := o.engine.NewObject()
		o.msg.Get(f).Map().Range(func(key protoreflect.MapKey, value protoreflect.Value) bool {
			// Defined, not set: "__proto__" is a key like any other.
			_ = v.DefineDataProperty(key.String(), o.engine.ToValue(value.String()), goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_TRUE)
			return true
		})
		return v
	case p.shape != nil && !o.msg.Has(f):
		return goja.Null()
	case p.shape != nil:
		if o.subs == nil {
			o.subs = make([]*object, len(o.shape.props))
		}
		if o.subs[i] == nil {
			o.subs[i] = p.shape.object(o.engine)
		}
		o.subs[i].set(o.msg.Get(f).Message())
		return o.subs[i].value
	default:
		return o.one(p, o.msg.Get(f))
	}
}

// one is the value of a scalar, or of an item of a list.
func (o *object) one(p *prop, v protoreflect.Value) goja.Value {
	switch v := v.Interface().(type) {
	case protoreflect.Message:
		item := p.shape.object(o.engine)
		item.set(v)
		return item.value
	case protoreflect.EnumNumber:
		if name, ok := p.values[v]; ok {
			return name
		}
		return o.engine.ToValue(int32(v))
	case int64:
		return o.engine.ToValue(strconv.FormatInt(v, 10))
	case uint64:
		return o.engine.ToValue(strconv.FormatUint(v, 10))
	default:
		return o.engine.ToValue(v)
	}
}

// Has implements goja.DynamicObject.
func (o *object) Has(key string) bool { return o.Get(key) != nil }

// Keys implements goja.DynamicObject.
func (o *object) Keys() []string {
	var keys []string
	for i := range o.shape.props {
		p := &o.shape.props[i]
		if (p.field == nil || p.field.Number() < firstExtension) && o.Has(p.key) {
			keys = append(keys, p.key)
		}
	}
	return keys
}

// Set implements goja.DynamicObject: nothing changes, which strict code hears of as a TypeError.
func (o *object) Set(string, goja.Value) bool { return false }

// Delete implements goja.DynamicObject, as Set.
func (o *object) Delete(string) bool { return false }
