package goja

import (
	"errors"
	"slices"
	"strings"
	"sync"

	"callchain/nodes/script"

	js "github.com/dop251/goja"
	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/file"
	"github.com/dop251/goja/parser"
)

// The wrapper of a script. The outer function is given what the compiler puts into the script; the names here are replaced by ones that
// no script can write. The script begins on a line of its own, so that columns are right.
const (
	wrapBefore = "(function(limit, limitText, java, tbel) { return function(msg, metadata, msgType) {\n"
	wrapAfter  = "\n}})"
)

// The names that compiled scripts use and written ones cannot.
const (
	limitName     = "\x00limit"
	limitTextName = "\x00limitText"
	javaName      = "\x00java"
	tbelName      = "\x00tbel"
)

// compiled is a script.Script.
type compiled struct {
	engine   *Engine
	program  *js.Program
	lang     script.Lang
	msg      wanted
	metadata wanted

	mu       sync.Mutex
	excesses [excessesMax]int64 // µs since 1970, the newest last
	until    int64              // suspended until then
}

// arguments tells what a script looks at of its arguments; the rest is not made ready.
type arguments struct{ msg, metadata use }

// use is how a script uses an argument: how often it is mentioned, and the members that mentions are for.
type use struct {
	mentions int
	members  []string
}

// wanted is what is made ready of an argument: nothing, some members, or all.
type wanted struct {
	some bool
	all  bool
	only []string // sorted, if not all
}

func (u use) wanted() wanted {
	if len(u.members) < u.mentions {
		return wanted{some: true, all: true}
	}
	slices.Sort(u.members)
	return wanted{some: u.mentions > 0, only: slices.Compact(u.members)}
}

// fileName stands in positions of the script's own code.
const fileName = "script"

// Compile implements script.Engine.
func (e *Engine) Compile(lang script.Lang, body string) (script.Script, error) {
	if lang == script.TBEL {
		body = strings.ReplaceAll(body, "\r\n", "\n")
	}
	parsed, err := parser.ParseFile(nil, fileName, wrapBefore+body+wrapAfter, 0, parser.WithDisableSourceMaps)
	if err != nil {
		return nil, syntaxError(lang, body, err)
	}
	r := rewriter{lang: lang, file: parsed.File}
	inner, ok := unwrap(parsed, len(wrapBefore)+len(body))
	if !ok {
		return nil, &script.SyntaxError{Line: 1, Column: 1, Text: "the script closes more brackets than it opens"}
	}
	if err := r.rewrite(inner); err != nil {
		return nil, err
	}
	program, err := js.CompileAST(parsed, false)
	if err != nil {
		return nil, syntaxError(lang, body, err)
	}
	return &compiled{engine: e, program: program, lang: lang, msg: r.uses.msg.wanted(), metadata: r.uses.metadata.wanted()}, nil
}

// unwrap finds the script's function and renames the parameters of the one around it. It fails if the script ended its function early
// and began something else.
func unwrap(p *ast.Program, end int) (*ast.FunctionLiteral, bool) {
	if len(p.Body) != 1 {
		return nil, false
	}
	statement, ok := p.Body[0].(*ast.ExpressionStatement)
	if !ok {
		return nil, false
	}
	outer, ok := statement.Expression.(*ast.FunctionLiteral)
	if !ok || len(outer.Body.List) != 1 {
		return nil, false
	}
	back, ok := outer.Body.List[0].(*ast.ReturnStatement)
	if !ok {
		return nil, false
	}
	inner, ok := back.Argument.(*ast.FunctionLiteral)
	if !ok || int(inner.Body.RightBrace) != end+2 {
		return nil, false
	}
	for i, name := range []string{limitName, limitTextName, javaName, tbelName} {
		id, ok := outer.ParameterList.List[i].Target.(*ast.Identifier)
		if !ok {
			return nil, false
		}
		id.Name = unicodeName(name)
	}
	return inner, true
}

// syntaxError is the first mistake, by its place in the script.
func syntaxError(lang script.Lang, body string, err error) error {
	at, text := file.Position{Line: 2, Column: 1}, err.Error()
	if list, ok := errors.AsType[parser.ErrorList](err); ok && len(list) > 0 {
		at, text = list[0].Position, list[0].Message
	}
	if ce, ok := errors.AsType[*js.CompilerSyntaxError](err); ok {
		text = ce.Message
		if ce.File != nil {
			at = ce.File.Position(ce.Offset)
		}
	}
	lines := strings.Split(body, "\n")
	out := &script.SyntaxError{Line: min(max(at.Line-1, 1), len(lines)), Column: max(at.Column, 1), Text: plainSyntax(text)}
	if at.Line-1 > len(lines) {
		out.Column, out.Text = len(lines[len(lines)-1])+1, "brackets, braces or quotes do not match: something is not closed, or is closed twice"
	}
	if lang == script.TBEL {
		if line, column, mend := onlyTBEL(lines, out.Line); mend != "" {
			out.Line, out.Column, out.Text = line, column, mend
		}
	}
	return out
}

// plainSyntax leaves out the parser's own prefix.
func plainSyntax(text string) string {
	return strings.TrimPrefix(text, "SyntaxError: ")
}
