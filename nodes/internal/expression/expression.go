// Package expression compiles and evaluates the expressions of rule chains (expr-lang/expr) so that they are pure and end.
//
// An expression sees one message: msg (its data), metadata, type, originator and ts. Its clock is the message's Now; functions
// whose result depends on the order of a map, on the machine or on chance are replaced or gone. Every evaluation has a budget
// of values it may visit and of bytes of text it may make, so that no expression can hold up a partition.
package expression

import (
	"errors"
	"fmt"
	"strings"

	"callchain/nodes"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"
)

// The limits of an expression.
const (
	SourceMax = 8192    // bytes of source text
	nodesMax  = 1000    // nodes of the syntax tree
	stepsMax  = 100_000 // values that one evaluation visits or makes
	textMax   = 1 << 20 // bytes of text that one evaluation makes
)

// Language is the documentation of expressions for the pages of the nodes that take them.
const Language = "Expressions are written in [expr](https://expr-lang.org/docs/language-definition). They see `msg` (the data), " +
	"`metadata`, `type`, `originator.type`, `originator.id` and `ts` (milliseconds). A key that is missing gives `nil`; a member of `nil` is an " +
	"error unless it is asked for with `?.`; `??` gives a default. `now()` is the time at which the message was taken, in milliseconds; " +
	"`isoTime(ms)` and `parseTime(text)` convert from and to RFC 3339. `keys`, `values` and `toPairs` are sorted by key; `string` of a list or " +
	"object is its JSON. Not there: `date`, `duration`, `timezone`, `flatten`, `uniq`. Errors go to Failure."

// Expression is a compiled expression. It may be shared.
type Expression struct {
	program *vm.Program
	uses    uses
}

// uses tells what an expression looks at; only that is made ready for it.
type uses struct{ data, metadata, originator bool }

// Compile checks and compiles source. The error is one line and names the column.
func Compile(source string) (*Expression, error) {
	if strings.TrimSpace(source) == "" {
		return nil, errors.New("the expression is empty")
	}
	if len(source) > SourceMax {
		return nil, fmt.Errorf("the expression has %d bytes, more than %d", len(source), SourceMax)
	}
	rewrite := &rewriter{}
	program, err := expr.Compile(source, append(options(), expr.Patch(rewrite))...)
	if err != nil {
		return nil, oneLine(err)
	}
	rewrite.metadata = rewrite.wholeMetadata > 0
	return &Expression{program: program, uses: rewrite.uses}, nil
}

// oneLine leaves out the excerpt that expr adds to its messages.
func oneLine(err error) error {
	fe, ok := errors.AsType[*file.Error](err)
	if !ok {
		return err
	}
	message := plainWords.Replace(fe.Message)
	if is, ok := strings.CutPrefix(message, "interface conversion: any is "); ok {
		message = "a value is " + strings.Replace(is, ", not ", " where it must be ", 1)
	}
	if fe.Line > 1 {
		return fmt.Errorf("%s (line %d, column %d of the expression)", message, fe.Line, fe.Column+1)
	}
	return fmt.Errorf("%s (column %d of the expression)", message, fe.Column+1)
}

// plainWords turns the Go words of the machine into those of an expression's author.
var plainWords = strings.NewReplacer("<nil>", "nil", "map[string]interface {}", "object", "[]interface {}", "list",
	"interface {}", "any", "float64", "number", "int64", "number")

// Scope is what expressions see of one message. Several expressions of a node may share it; they then share its budget.
type Scope struct {
	Msg        any            `expr:"msg"`
	Metadata   map[string]any `expr:"metadata"`
	Type       string         `expr:"type"`
	Originator originator     `expr:"originator"`
	TS         int64          `expr:"ts"`
	Now        int64          `expr:"$now"`

	message nodes.Msg
	filled  uses
	steps   int
	text    int
	machine vm.VM
	stack   [8]any // of the machine, as long as it is enough
}

type originator struct {
	Type string `expr:"type"`
	ID   string `expr:"id"`
}

// NewScope is the Scope of m.
func NewScope(m nodes.Msg) *Scope {
	return &Scope{
		Type: m.Type, TS: m.TS, Now: m.Now / 1000, message: m, steps: stepsMax, text: textMax,
	}
}

// fill makes ready what the expression looks at.
func (s *Scope) fill(e *Expression) error {
	if e.uses.originator && !s.filled.originator {
		s.Originator, s.filled.originator = originator{s.message.Originator.Type, s.message.Originator.ID.String()}, true
	}
	if e.uses.data && !s.filled.data {
		v, err := s.message.Data.Value()
		if err != nil {
			return err
		}
		s.Msg, s.filled.data = v, true
	}
	if e.uses.metadata && !s.filled.metadata {
		s.Metadata, s.filled.metadata = make(map[string]any, len(s.message.Metadata)), true
		for k, v := range s.message.Metadata {
			s.Metadata[k] = v
		}
	}
	return nil
}

// Value evaluates the expression; the result has the shape of message data.
func (e *Expression) Value(s *Scope) (any, error) {
	v, err := e.run(s)
	if err != nil {
		return nil, err
	}
	if err := s.weigh(v, 0); err != nil {
		return nil, err
	}
	return nodes.Plain(v)
}

// Bool evaluates a condition.
func (e *Expression) Bool(s *Scope) (bool, error) {
	v, err := e.run(s)
	if err != nil {
		return false, err
	}
	b, ok := v.(bool)
	if !ok {
		return false, fmt.Errorf("the expression gives %s, not true or false", kindOf(v))
	}
	return b, nil
}

func (e *Expression) run(s *Scope) (any, error) {
	if err := s.fill(e); err != nil {
		return nil, err
	}
	s.machine.MemoryBudget = stepsMax
	if s.machine.Stack == nil {
		s.machine.Stack = s.stack[:0]
	}
	v, err := s.machine.Run(e.program, s)
	if err != nil {
		return nil, oneLine(err)
	}
	return v, nil
}

func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "nil"
	case string:
		return "text"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	return fmt.Sprintf("%v", v)
}

// rewriter puts the budget into the syntax tree and notes what the expression looks at.
type rewriter struct {
	uses
	wholeMetadata int // mentions of metadata other than for one key
}

// Visit is called for each node after its children.
func (r *rewriter) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.IdentifierNode:
		all := n.Value == "$env"
		r.data = r.data || all || n.Value == "msg"
		if all || n.Value == "metadata" {
			r.wholeMetadata++
		}
		r.originator = r.originator || all || n.Value == "originator"
	case *ast.MemberNode:
		r.member(node, n)
	case *ast.PredicateNode:
		n.Node = call("$step", n.Node)
	case *ast.ArrayNode, *ast.MapNode:
		ast.Patch(node, call("$weigh", *node))
	case *ast.BinaryNode:
		if n.Operator == "+" && !isNumber(n.Left) && !isNumber(n.Right) {
			ast.Patch(node, call("$add", n.Left, n.Right))
		}
	case *ast.CallNode:
		r.call(node, n)
	}
}

// member looks metadata.key up directly: the other way copies all metadata for one value.
func (r *rewriter) member(node *ast.Node, n *ast.MemberNode) {
	id, ok := n.Node.(*ast.IdentifierNode)
	if _, constant := n.Property.(*ast.StringNode); ok && constant && id.Value == "metadata" {
		r.wholeMetadata--
		ast.Patch(node, call("$metadata", n.Property))
	}
}

// call gives our own functions the scope, and now() its value.
func (r *rewriter) call(node *ast.Node, n *ast.CallNode) {
	id, ok := n.Callee.(*ast.IdentifierNode)
	switch {
	case !ok:
	case id.Value == "now" && len(n.Arguments) == 0:
		ast.Patch(node, &ast.IdentifierNode{Value: "$now"})
	case budgeted[id.Value]:
		ast.Patch(node, call("$"+id.Value, n.Arguments...))
	}
}

func call(name string, args ...ast.Node) *ast.CallNode {
	return &ast.CallNode{
		Callee:    &ast.IdentifierNode{Value: name},
		Arguments: append([]ast.Node{&ast.IdentifierNode{Value: "$env"}}, args...),
	}
}

func isNumber(n ast.Node) bool {
	switch n.(type) {
	case *ast.IntegerNode, *ast.FloatNode:
		return true
	}
	return false
}
