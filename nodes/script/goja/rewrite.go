package goja

import (
	"fmt"
	"maps"
	"math/big"
	"reflect"
	"slices"

	"callchain/nodes/script"

	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/file"
	"github.com/dop251/goja/token"
	"github.com/dop251/goja/unistring"
)

// The bounds of a script's form.
const (
	depthMax   = 800  // of the syntax tree
	holesMax   = 64   // placeholders in one text
	patternMax = 1000 // bytes of a regular expression
)

func unicodeName(s string) unistring.String { return unistring.NewFromString(s) }

// rewriter walks the syntax tree of a script: it refuses what scripts may not do, bounds additions, declares what the script only assigns,
// and notes which arguments are used.
type rewriter struct {
	lang  script.Lang
	file  *file.File
	uses  arguments
	scope []*scope
	names map[unistring.String]bool // all that the script declares anywhere
	calls []*ast.CallExpression     // of what may be TBEL's functions
	depth int
	err   error
}

// scope are the names that a function declares, blocks within it included, and those that it assigns.
type scope struct{ declared, assigned map[unistring.String]bool }

func (r *rewriter) rewrite(f *ast.FunctionLiteral) error {
	r.names = map[unistring.String]bool{}
	r.enter(f)
	r.walk(reflect.ValueOf(f.Body))
	r.leave(f)
	for _, c := range r.calls {
		if id, ok := c.Callee.(*ast.Identifier); ok && !r.names[id.Name] {
			c.Callee = &ast.DotExpression{Left: &ast.Identifier{Name: unicodeName(tbelName), Idx: id.Idx}, Identifier: *id}
		}
	}
	return r.err
}

func (r *rewriter) refuse(at file.Idx, format string, args ...any) {
	if r.err != nil {
		return
	}
	p := r.file.Position(int(at) - r.file.Base())
	r.err = &script.SyntaxError{Line: max(p.Line-1, 1), Column: max(p.Column, 1), Text: fmt.Sprintf(format, args...)}
}

// walk visits all nodes below v, children first. The list of a function's declarations is left out: it repeats what its body has.
func (r *rewriter) walk(v reflect.Value) {
	if r.err != nil {
		return
	}
	switch v.Kind() {
	case reflect.Interface:
		if v.IsNil() {
			return
		}
		r.walk(v.Elem())
		if e, ok := v.Interface().(ast.Expression); ok && r.err == nil {
			if changed := r.replace(e); changed != e {
				v.Set(reflect.ValueOf(changed))
			}
		}
	case reflect.Pointer:
		if !v.IsNil() && v.Elem().Kind() == reflect.Struct {
			r.node(v)
		}
	case reflect.Slice:
		for i := range v.Len() {
			r.walk(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; name != "DeclarationList" && name != "File" {
				r.walk(v.Field(i))
			}
		}
	}
}

// node visits one node and what is below it.
func (r *rewriter) node(v reflect.Value) {
	n, isNode := v.Interface().(ast.Node)
	if !isNode {
		r.walk(v.Elem())
		return
	}
	if r.depth++; r.depth > depthMax {
		r.err = &script.SyntaxError{Line: 1, Column: 1, Text: fmt.Sprintf("the script is nested deeper than %d levels", depthMax)}
		return
	}
	r.check(n)
	own := r.enter(n)
	r.walk(v.Elem())
	if own {
		r.leave(n)
	}
	r.depth--
}

// check refuses what scripts may not do, and notes names.
func (r *rewriter) check(n ast.Node) {
	const waits = "a script cannot wait: async and await are not there"
	switch n := n.(type) {
	case *ast.FunctionLiteral:
		if n.Async {
			r.refuse(n.Idx0(), waits)
		}
	case *ast.ArrowFunctionLiteral:
		if n.Async {
			r.refuse(n.Idx0(), waits)
		}
	case *ast.AwaitExpression:
		r.refuse(n.Idx0(), waits)
	case *ast.WithStatement:
		r.refuse(n.Idx0(), "the statement with is not there; name the object each time")
	case *ast.NumberLiteral:
		if _, is := n.Value.(*big.Int); is {
			r.refuse(n.Idx, "numbers that end in n (BigInt) are not there")
		}
	case *ast.RegExpLiteral:
		if len(n.Pattern) > patternMax {
			r.refuse(n.Idx, "the regular expression has %d bytes, more than %d", len(n.Pattern), patternMax)
		}
	case *ast.TemplateLiteral:
		if len(n.Expressions) > holesMax {
			r.refuse(n.OpenQuote, "the text has %d placeholders, more than %d", len(n.Expressions), holesMax)
		}
	case *ast.Identifier:
		r.name(n)
	case *ast.PropertyShort:
		r.name(&n.Name)
	case *ast.DotExpression:
		r.member(n)
	case *ast.CallExpression: // the method of an argument sees all of it
		if dot, is := n.Callee.(*ast.DotExpression); is {
			r.whole(dot.Left)
		}
	}
	r.declare(n)
}

func (r *rewriter) name(n *ast.Identifier) {
	switch n.Name {
	case "eval", "Function":
		r.refuse(n.Idx, "%s is not there: a script cannot make scripts", n.Name)
	case "require", "importScripts":
		r.refuse(n.Idx, "%s is not there: a script consists of itself", n.Name)
	case "msg":
		r.uses.msg.mentions++
	case "metadata":
		r.uses.metadata.mentions++
	case "arguments":
		r.uses.msg.mentions++
		r.uses.metadata.mentions++
	}
}

// argument is the use of msg or metadata; nil for all else.
func (r *rewriter) argument(e ast.Expression) *use {
	if id, is := e.(*ast.Identifier); is {
		switch id.Name {
		case "msg":
			return &r.uses.msg
		case "metadata":
			return &r.uses.metadata
		}
	}
	return nil
}

// member notes that one member of an argument is looked at.
func (r *rewriter) member(n *ast.DotExpression) {
	if u := r.argument(n.Left); u != nil {
		u.members = append(u.members, n.Identifier.Name.String())
	}
}

// whole notes that all of an argument is looked at, though a member is named.
func (r *rewriter) whole(e ast.Expression) {
	if u := r.argument(e); u != nil {
		u.mentions++
	}
}

// declare notes the names that n declares or assigns.
func (r *rewriter) declare(n ast.Node) {
	if len(r.scope) == 0 {
		return
	}
	s := r.scope[len(r.scope)-1]
	switch n := n.(type) {
	case *ast.Binding:
		targets(n.Target, s.declared)
	case *ast.ForDeclaration:
		targets(n.Target, s.declared)
	case *ast.CatchStatement:
		targets(n.Parameter, s.declared)
	case *ast.FunctionDeclaration:
		targets(n.Function.Name, s.declared)
	case *ast.ClassDeclaration:
		targets(n.Class.Name, s.declared)
	case *ast.AssignExpression:
		targets(n.Left, s.assigned)
	case *ast.UnaryExpression:
		if n.Operator == token.INCREMENT || n.Operator == token.DECREMENT {
			targets(n.Operand, s.assigned)
		}
	case *ast.ForIntoExpression:
		targets(n.Expression, s.assigned)
	}
}

// targets adds the names that are bound by a name or a pattern.
func targets(e ast.Expression, to map[unistring.String]bool) {
	switch e := e.(type) {
	case *ast.Identifier:
		if e != nil {
			to[e.Name] = true
		}
	case *ast.ArrayPattern:
		for _, item := range e.Elements {
			targets(item, to)
		}
		targets(e.Rest, to)
	case *ast.ObjectPattern:
		for _, p := range e.Properties {
			switch p := p.(type) {
			case *ast.PropertyShort:
				to[p.Name.Name] = true
			case *ast.PropertyKeyed:
				targets(p.Value, to)
			}
		}
		targets(e.Rest, to)
	case *ast.AssignExpression:
		targets(e.Left, to)
	case *ast.Binding:
		targets(e.Target, to)
	}
}

// enter begins the scope of a function.
func (r *rewriter) enter(n ast.Node) bool {
	var parameters *ast.ParameterList
	s := &scope{declared: map[unistring.String]bool{}, assigned: map[unistring.String]bool{}}
	switch n := n.(type) {
	case *ast.FunctionLiteral:
		parameters = n.ParameterList
		targets(n.Name, s.declared)
	case *ast.ArrowFunctionLiteral:
		parameters = n.ParameterList
	default:
		return false
	}
	for _, b := range parameters.List {
		targets(b.Target, s.declared)
	}
	targets(parameters.Rest, s.declared)
	r.scope = append(r.scope, s)
	return true
}

// leave ends it. What a function assigns and does not declare is a matter of the one around it; the script itself declares the rest, as the
// global variables that it means would outlive the run.
func (r *rewriter) leave(n ast.Node) {
	last := len(r.scope) - 1
	s := r.scope[last]
	r.scope = r.scope[:last]
	maps.Copy(r.names, s.declared)
	var rest []unistring.String
	for name := range s.assigned {
		if !s.declared[name] {
			rest = append(rest, name)
		}
	}
	slices.Sort(rest)
	if last > 0 {
		for _, name := range rest {
			r.scope[last-1].assigned[name] = true
		}
		return
	}
	f, ok := n.(*ast.FunctionLiteral)
	if !ok || len(rest) == 0 {
		return
	}
	d := &ast.VariableDeclaration{Var: f.Body.LeftBrace}
	for _, name := range rest {
		d.List = append(d.List, &ast.Binding{Target: &ast.Identifier{Name: name, Idx: f.Body.LeftBrace}})
	}
	f.DeclarationList = append(f.DeclarationList, d)
}

// replace gives what stands for an expression in the compiled script.
func (r *rewriter) replace(e ast.Expression) ast.Expression {
	switch e := e.(type) {
	case *ast.BinaryExpression:
		if e.Operator == token.PLUS && !small(e.Left) && !small(e.Right) {
			e.Right = call(limitName, e.Right)
		}
	case *ast.AssignExpression:
		if e.Operator == token.PLUS && !small(e.Right) {
			e.Right = call(limitName, e.Right)
		}
	case *ast.TemplateLiteral:
		if e.Tag == nil {
			for i, x := range e.Expressions {
				if !small(x) {
					e.Expressions[i] = call(limitTextName, x)
				}
			}
		}
	case *ast.CallExpression:
		return r.method(e)
	}
	return e
}

// method lets TBEL call the methods of Java's collections and texts, which JavaScript does not have.
func (r *rewriter) method(e *ast.CallExpression) ast.Expression {
	if r.lang != script.TBEL {
		return e
	}
	if id, ok := e.Callee.(*ast.Identifier); ok && tbelFunctions[id.Name.String()] {
		r.calls = append(r.calls, e)
	}
	dot, ok := e.Callee.(*ast.DotExpression)
	if !ok || !javaMethods[dot.Identifier.Name.String()] {
		return e
	}
	name := dot.Identifier.Name
	args := []ast.Expression{dot.Left, &ast.StringLiteral{Idx: dot.Identifier.Idx, Literal: `""`, Value: name}}
	return call(javaName, append(args, e.ArgumentList...)...)
}

func call(name string, args ...ast.Expression) *ast.CallExpression {
	at := args[0].Idx0()
	return &ast.CallExpression{
		Callee: &ast.Identifier{Name: unicodeName(name), Idx: at}, LeftParenthesis: at, ArgumentList: args, RightParenthesis: args[len(args)-1].Idx1(),
	}
}

// small tells that an expression cannot give a long text.
func small(e ast.Expression) bool {
	switch e := e.(type) {
	case *ast.StringLiteral, *ast.NumberLiteral, *ast.BooleanLiteral, *ast.NullLiteral:
		return true
	case *ast.UnaryExpression:
		return true // a number, a boolean, undefined or the name of a type
	case *ast.BinaryExpression:
		switch e.Operator {
		case token.PLUS:
			return small(e.Left) && small(e.Right)
		case token.LOGICAL_AND, token.LOGICAL_OR, token.COALESCE:
			return false
		default:
			return true // a number or a boolean
		}
	}
	return false
}
