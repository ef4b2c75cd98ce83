package dispatcher

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/dop251/goja"
	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/parser"
	"github.com/dop251/goja/token"

	processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
)

// matcher is a matchFunc. One that looks at nothing but the method is answered in Go, when the routes are made; any
// other one is a script.
type matcher struct {
	static func(method string) bool // nil: ask script
	script *script
}

// newMatcher reads a matchFunc: an expression of JavaScript whose value is a function. The empty one matches all.
func newMatcher(source string) (matcher, error) {
	if source == "" {
		return matcher{static: always(true)}, nil
	}
	wrapped := "(" + source + "\n)" // the line break ends a comment behind the function
	program, err := parser.ParseFile(nil, "matchFunc", wrapped, 0, parser.WithDisableSourceMaps)
	if err != nil {
		return matcher{}, fmt.Errorf("is no JavaScript: %w", firstError(err))
	}
	statement, ok := program.Body[0].(*ast.ExpressionStatement)
	if !ok || len(program.Body) != 1 {
		return matcher{}, errors.New("is more than one expression, want one function such as req => true")
	}
	if f := recognise(statement.Expression); f != nil {
		return matcher{static: f}, nil
	}
	simple, err := inspect(statement.Expression)
	if err != nil {
		return matcher{}, err
	}
	compiled, err := goja.CompileAST(program, false)
	if err != nil {
		return matcher{}, fmt.Errorf("is no JavaScript: %w", err)
	}
	s, err := newScript(compiled, !simple)
	return matcher{script: s}, err
}

func firstError(err error) error {
	if list, ok := errors.AsType[parser.ErrorList](err); ok && len(list) > 0 {
		return list[0]
	}
	return err
}

// jsMethod is req.method of a request: the name that the contract has for the method.
func jsMethod(method string) string {
	if _, known := processorpb.Method_value[method]; known {
		return method
	}
	return processorpb.Method_UNKNOWN.String()
}

func always(v bool) func(string) bool { return func(string) bool { return v } }

// recognise returns a Go function for a matchFunc of one parameter that consists of req.method, string literals, ===,
// includes, || and true or false alone; nil for any other.
func recognise(e ast.Expression) func(method string) bool {
	var params *ast.ParameterList
	var body ast.Expression
	switch f := e.(type) {
	case *ast.ArrowFunctionLiteral:
		params = f.ParameterList
		switch b := f.Body.(type) {
		case *ast.ExpressionBody:
			body = b.Expression
		case *ast.BlockStatement:
			body = onlyReturn(b)
		}
		if f.Async {
			return nil
		}
	case *ast.FunctionLiteral:
		params, body = f.ParameterList, onlyReturn(f.Body)
		if f.Async || f.Generator {
			return nil
		}
	}
	if body == nil || params.Rest != nil || len(params.List) > 1 {
		return nil
	}
	param := ""
	if len(params.List) == 1 {
		id, ok := params.List[0].Target.(*ast.Identifier)
		if !ok || params.List[0].Initializer != nil {
			return nil
		}
		param = string(id.Name)
	}
	return predicate(body, param)
}

func onlyReturn(b *ast.BlockStatement) ast.Expression {
	if len(b.List) == 1 {
		if r, ok := b.List[0].(*ast.ReturnStatement); ok {
			return r.Argument
		}
	}
	return nil
}

func predicate(e ast.Expression, param string) func(method string) bool {
	switch e := e.(type) {
	case *ast.BooleanLiteral:
		return always(e.Value)
	case *ast.BinaryExpression:
		switch e.Operator {
		case token.LOGICAL_OR:
			left, right := predicate(e.Left, param), predicate(e.Right, param)
			if left == nil || right == nil {
				return nil
			}
			return func(m string) bool { return left(m) || right(m) }
		case token.STRICT_EQUAL, token.EQUAL:
			literal := e.Right
			if !isMethodOf(e.Left, param) {
				if literal = e.Left; !isMethodOf(e.Right, param) {
					return nil
				}
			}
			if s, ok := literal.(*ast.StringLiteral); ok {
				want := s.Value.String()
				return func(m string) bool { return jsMethod(m) == want }
			}
		}
	case *ast.CallExpression:
		callee, ok := e.Callee.(*ast.DotExpression)
		if !ok || callee.Identifier.Name != "includes" || len(e.ArgumentList) != 1 || !isMethodOf(e.ArgumentList[0], param) {
			return nil
		}
		array, ok := callee.Left.(*ast.ArrayLiteral)
		if !ok {
			return nil
		}
		var list []string
		for _, item := range array.Value {
			s, ok := item.(*ast.StringLiteral)
			if !ok {
				return nil
			}
			list = append(list, s.Value.String())
		}
		return func(m string) bool { return slices.Contains(list, jsMethod(m)) }
	}
	return nil
}

// isMethodOf reports whether e is param.method.
func isMethodOf(e ast.Expression, param string) bool {
	dot, ok := e.(*ast.DotExpression)
	if !ok || dot.Identifier.Name != "method" {
		return false
	}
	id, ok := dot.Left.(*ast.Identifier)
	return ok && string(id.Name) == param
}

// inspect refuses what cannot work or cannot be stopped, and reports whether the function is so simple – no call, no
// loop, no function inside – that it needs no time limit.
func inspect(root ast.Expression) (simple bool, err error) {
	simple = true
	walk(reflect.ValueOf(root), func(n any) {
		var wrong error
		switch n := n.(type) {
		case *ast.RegExpLiteral:
			wrong = checkRegExp(n.Pattern, n.Flags)
		case *ast.ArrowFunctionLiteral:
			simple = simple && n == root
			wrong = checkAsync(n.Async)
		case *ast.FunctionLiteral:
			simple = simple && n == root
			wrong = checkAsync(n.Async || n.Generator)
		case *ast.ExpressionBody, *ast.BlockStatement, *ast.ReturnStatement, *ast.ParameterList, *ast.Binding,
			*ast.Identifier, *ast.DotExpression, *ast.BracketExpression, *ast.OptionalChain, *ast.Optional,
			*ast.BooleanLiteral, *ast.StringLiteral, *ast.NullLiteral, *ast.NumberLiteral,
			*ast.BinaryExpression, *ast.UnaryExpression, *ast.ConditionalExpression:
		case ast.Node:
			simple = false
		}
		if err == nil {
			err = wrong
		}
	})
	return simple, err
}

// checkAsync refuses a function whose value is a promise or an iterator: that is always true.
func checkAsync(is bool) error {
	if is {
		return errors.New("is async or a generator, which would match everything; want a plain function")
	}
	return nil
}

// checkRegExp refuses patterns that goja runs on an engine that backtracks, which cannot be interrupted: 26 characters
// from a stranger would stop the dispatcher for seconds.
func checkRegExp(pattern, flags string) error {
	const want = "want one without look-around, back-references and counts above 1000"
	re2, err := parser.TransformRegExp(pattern, strings.Contains(flags, "s"), strings.Contains(flags, "u"))
	if err == nil {
		_, err = regexp.Compile(re2)
	}
	if err != nil {
		return fmt.Errorf("the regular expression /%s/ cannot be run in bounded time, %s: %w", pattern, want, err)
	}
	return nil
}

// walk calls visit for v and everything below it that a pointer leads to.
func walk(v reflect.Value, visit func(any)) {
	switch v.Kind() {
	case reflect.Interface:
		walk(v.Elem(), visit)
	case reflect.Pointer:
		if !v.IsNil() {
			visit(v.Interface())
			walk(v.Elem(), visit)
		}
	case reflect.Slice:
		for i := range v.Len() {
			walk(v.Index(i), visit)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				walk(v.Field(i), visit)
			}
		}
	}
}
