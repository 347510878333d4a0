package chains

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// readYAML makes a tree of one YAML document. Anchors, aliases, merges and tags are refused: a small file could otherwise
// stand for a huge one.
func readYAML(data []byte) (*tree, *Problem) {
	if p := tooDeep(data); p != nil {
		return nil, p
	}
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, yamlProblem(err)
	}
	var body ast.Node
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil:
		case body != nil:
			return nil, problemAt(doc.Body, "a second document begins; a file holds one chain")
		default:
			body = doc.Body
		}
	}
	if body == nil {
		return nil, &Problem{Line: 1, Column: 1, Text: "the file is empty"}
	}
	return fromYAML(body, 0)
}

// tooDeep refuses nesting that would cost the parser more than the file is worth.
func tooDeep(data []byte) *Problem {
	depth, line, dashes := 0, 1, 0
	for i, c := range data {
		switch c {
		case '\n':
			line, dashes = line+1, 0
		case '[', '{':
			depth++
		case ']', '}':
			depth = max(depth-1, 0)
		case '-', '?':
			if i+1 < len(data) && (data[i+1] == ' ' || data[i+1] == '\t') {
				dashes++
			}
		}
		if depth > 4*depthMax || dashes > 4*depthMax {
			return &Problem{Line: line, Column: 1, Text: fmt.Sprintf("the file is nested deeper than %d levels", depthMax)}
		}
	}
	return nil
}

// yamlProblem takes position and text out of the parser's error, whose own form has an excerpt.
func yamlProblem(err error) *Problem {
	var withToken interface {
		GetToken() *token.Token
		GetMessage() string
	}
	if errors.As(err, &withToken) && withToken.GetToken() != nil {
		at := withToken.GetToken().Position
		return &Problem{Line: at.Line, Column: at.Column, Text: "not YAML: " + withToken.GetMessage()}
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	return &Problem{Line: 1, Column: 1, Text: "not YAML: " + first}
}

func problemAt(n ast.Node, text string) *Problem {
	at := yamlPosition(n)
	return &Problem{Line: at.line, Column: at.column, Text: text}
}

func yamlPosition(n ast.Node) position {
	t := n.GetToken()
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 && m.Start == t && t.Value != "{" {
		t = m.Values[0].Key.GetToken()
	}
	if v, ok := n.(*ast.MappingValueNode); ok {
		t = v.Key.GetToken()
	}
	if t == nil || t.Position == nil {
		return position{}
	}
	return position{t.Position.Line, t.Position.Column}
}

func fromYAML(n ast.Node, depth int) (*tree, *Problem) {
	if depth > depthMax {
		return nil, problemAt(n, fmt.Sprintf("the file is nested deeper than %d levels", depthMax))
	}
	at := yamlPosition(n)
	out := &tree{line: at.line, column: at.column}
	switch n := n.(type) {
	case *ast.MappingNode:
		return fromMapping(out, n.Values, depth)
	case *ast.MappingValueNode:
		return fromMapping(out, []*ast.MappingValueNode{n}, depth)
	case *ast.SequenceNode:
		out.kind = list
		for _, v := range n.Values {
			item, p := fromYAML(v, depth+1)
			if p != nil {
				return nil, p
			}
			out.items = append(out.items, item)
		}
		return out, nil
	}
	var p *Problem
	out.value, p = yamlScalar(n)
	return out, p
}

func fromMapping(out *tree, values []*ast.MappingValueNode, depth int) (*tree, *Problem) {
	out.kind = object
	for _, v := range values {
		key, p := yamlKey(v.Key)
		if p != nil {
			return nil, p
		}
		if out.get(key) != nil {
			return nil, problemAt(v.Key, fmt.Sprintf("%q stands here twice", key))
		}
		value, p := fromYAML(v.Value, depth+1)
		if p != nil {
			return nil, p
		}
		out.entries = append(out.entries, entry{key, yamlPosition(v.Key), value})
	}
	return out, nil
}

// yamlKey is a key as it is written: True is a relation, not a truth.
func yamlKey(k ast.MapKeyNode) (string, *Problem) {
	switch k := k.(type) {
	case *ast.StringNode:
		return k.Value, nil
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.NullNode:
		return k.GetToken().Value, nil
	}
	return "", problemAt(k, "a key must be a plain word")
}

func yamlScalar(n ast.Node) (any, *Problem) {
	switch n := n.(type) {
	case *ast.NullNode:
		return nil, nil
	case *ast.BoolNode:
		return n.Value, nil
	case *ast.StringNode:
		return n.Value, nil
	case *ast.LiteralNode:
		return n.Value.Value, nil
	case *ast.IntegerNode:
		switch v := n.Value.(type) {
		case int64:
			return v, nil
		case uint64:
			if v <= math.MaxInt64 {
				return int64(v), nil
			}
		}
		return nil, problemAt(n, "the number does not fit 63 bits")
	case *ast.FloatNode:
		if math.IsInf(n.Value, 0) || math.IsNaN(n.Value) {
			return nil, problemAt(n, "the number is out of range")
		}
		return n.Value, nil
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode, *ast.TagNode:
		return nil, problemAt(n, "anchors, aliases, merges and tags are not allowed; write the value out")
	}
	return nil, problemAt(n, "a value of this kind is not allowed")
}
