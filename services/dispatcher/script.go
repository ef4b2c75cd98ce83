package dispatcher

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dop251/goja"

	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
)

const (
	scriptLimit = 5 * time.Millisecond   // for one request
	loadLimit   = 100 * time.Millisecond // to evaluate the function itself, which is once for an engine
	scriptStack = 256                    // calls inside each other
)

// errScriptLimit is why a script was stopped.
var errScriptLimit = errors.New("took longer than " + scriptLimit.String())

// fence takes away what a script could use to make code or patterns from text of a stranger, or to allocate by a
// number of his, in native code that cannot be interrupted. There is nothing to take away for I/O: the engine has
// none. A matchFunc is the operator's; the fence is against the messages it is given.
const fence = `(() => {
	for (const name of ["eval", "Function", "RegExp", "Proxy", "Reflect", "Promise", "ArrayBuffer", "SharedArrayBuffer",
		"DataView", "Int8Array", "Uint8Array", "Uint8ClampedArray", "Int16Array", "Uint16Array", "Int32Array", "Uint32Array",
		"Float32Array", "Float64Array", "BigInt64Array", "BigUint64Array", "BigInt"]) {
		delete globalThis[name];
	}
	delete Object.getPrototypeOf(() => 0).constructor;
	const regexp = Object.getPrototypeOf(/x/);
	delete regexp.constructor;
	delete regexp.compile;
	for (const name of ["repeat", "padStart", "padEnd"]) {
		delete String.prototype[name];
	}
	const has = Object.prototype.isPrototypeOf;
	for (const name of ["match", "matchAll", "search"]) {
		const native = String.prototype[name];
		String.prototype[name] = function (pattern) {
			if (!has.call(regexp, pattern)) {
				throw new TypeError(name + " wants a regular expression, as /x/");
			}
			return native.call(this, pattern);
		};
	}
})()`

// script is a matchFunc in JavaScript. It is safe for concurrent use.
type script struct {
	program *goja.Program
	fence   *goja.Program
	limited bool          // may run long, so that it is given the limit
	limit   time.Duration // scriptLimit
	shape   *shape
	idle    sync.Pool // of *machine
}

// machine is an engine that has a script loaded. One goroutine at a time uses it.
type machine struct {
	engine  *goja.Runtime
	match   goja.Callable
	request *object     // what match gets; always the same, with the message of the moment
	timer   *time.Timer // interrupts the engine
}

// newScript loads program, whose value must be a function.
func newScript(program *goja.Program, limited bool) (*script, error) {
	f, err := goja.Compile("fence", fence, true)
	if err != nil {
		return nil, err
	}
	s := &script{program: program, fence: f, limited: limited, limit: scriptLimit}
	s.shape = newShape((&processorpb.MessageRequest{}).ProtoReflect().Descriptor(), make(shapes))
	m, err := s.load()
	if err != nil {
		return nil, err
	}
	s.idle.Put(m)
	return s, nil
}

func (s *script) load() (*machine, error) {
	m := &machine{engine: goja.New()}
	m.engine.SetMaxCallStackSize(scriptStack)
	if _, err := m.engine.RunProgram(s.fence); err != nil {
		return nil, err
	}
	m.timer = time.AfterFunc(loadLimit, func() { m.engine.Interrupt("limit") })
	v, err := m.engine.RunProgram(s.program)
	if !m.timer.Stop() {
		return nil, errors.New("cannot be evaluated in " + loadLimit.String())
	}
	if err != nil {
		return nil, fmt.Errorf("cannot be evaluated: %w", err)
	}
	ok := false
	if m.match, ok = goja.AssertFunction(v); !ok {
		return nil, fmt.Errorf("is %v, want a function such as req => true", v)
	}
	m.request = s.shape.object(m.engine)
	return m, nil
}

// run says whether the script matches req. An error means that it threw, or was stopped. A script that takes longer
// than the limit is asked once more, since a pause of the process looks the same as a loop. What a script keeps in
// variables of its own is lost at any time, as there are several engines.
func (s *script) run(req *processorpb.MessageRequest) (match bool, err error) {
	for range 2 {
		if match, err = s.once(req); !errors.Is(err, errScriptLimit) {
			break
		}
	}
	return match, err
}

func (s *script) once(req *processorpb.MessageRequest) (bool, error) {
	m, ok := s.idle.Get().(*machine)
	if !ok {
		var err error
		if m, err = s.load(); err != nil {
			return false, err
		}
	}
	m.request.set(req.ProtoReflect())
	if s.limited {
		m.timer.Reset(s.limit)
	}
	v, err := m.match(goja.Undefined(), m.request.value)
	match := err == nil && v.ToBoolean()
	m.request.set(nil)
	if !s.limited || m.timer.Stop() { // else the interrupt would hit the next request
		s.idle.Put(m)
	}
	switch err.(type) { // goja returns these two as they are
	case *goja.InterruptedError:
		return false, errScriptLimit
	case *goja.StackOverflowError:
		return false, fmt.Errorf("has more than %d calls inside each other", scriptStack)
	}
	return match, err
}
