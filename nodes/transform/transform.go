// Package transform has the nodes that change a message.
package transform

import (
	"fmt"
	"maps"
	"slices"

	"callchain/nodes"
	"callchain/nodes/internal/expression"
	"callchain/nodes/internal/template"
)

// Transform is the node "transform".
var Transform = nodes.Define(nodes.Spec{
	Type: "transform", Category: nodes.Transform,
	Summary: "Gives a message other data, other metadata or another type, computed by expressions.",
	Doc: "All expressions see the message as it came. What is left out stays. A metadata value that is no text is written as JSON; " +
		"`nil` removes the key. " + expression.Language,
	Relations: []string{nodes.Success, nodes.Failure},
	Example:   `{"msg": "{\"celsius\": msg?.temperature}", "metadata": {"unit": "\"C\""}}`,
}, newTransform)

type transformConfig struct {
	Msg      string            `json:"msg" doc:"Expression that gives the new data."`
	Metadata map[string]string `json:"metadata" max:"50" doc:"Metadata keys and the expressions that give their values."`
	Type     string            `json:"type" doc:"Expression that gives the new message type; a fixed one stands in quotes within the quotes."`
}

type transform struct {
	data     *expression.Expression // nil: stays
	typ      *expression.Expression // nil: stays
	metadata []entry
}

type entry struct {
	key   string
	value *expression.Expression
}

func newTransform(c transformConfig) (nodes.Node, error) {
	var n transform
	var err error
	if n.data, err = optional("msg", c.Msg); err != nil {
		return nil, err
	}
	if n.typ, err = optional("type", c.Type); err != nil {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(c.Metadata)) {
		e, err := expression.Compile(c.Metadata[key])
		if err != nil {
			return nil, &nodes.ConfigError{Problems: []nodes.Problem{{Path: []string{"metadata", key}, Text: err.Error()}}}
		}
		n.metadata = append(n.metadata, entry{key, e})
	}
	if n.data == nil && n.typ == nil && n.metadata == nil {
		return nil, fmt.Errorf(`changes nothing; give at least one of "msg", "metadata" and "type"`)
	}
	return n, nil
}

func optional(field, source string) (*expression.Expression, error) {
	if source == "" {
		return nil, nil
	}
	e, err := expression.Compile(source)
	if err != nil {
		return nil, nodes.Wrong(field, "%v", err)
	}
	return e, nil
}

func (n transform) Process(m nodes.Msg) nodes.Out {
	scope, out := expression.NewScope(m), m
	if n.data != nil {
		v, err := n.data.Value(scope)
		if err != nil {
			return nodes.Fail(m, "msg: "+err.Error())
		}
		out.Data = nodes.Parsed(v)
	}
	if n.typ != nil {
		v, err := n.typ.Value(scope)
		text, ok := v.(string)
		switch {
		case err != nil:
			return nodes.Fail(m, "type: "+err.Error())
		case !ok || text == "":
			return nodes.Fail(m, fmt.Sprintf("type: the expression gives %v, which is no message type", v))
		}
		out.Type = text
	}
	if len(n.metadata) > 0 {
		changed, err := n.changeMetadata(scope, m.Metadata)
		if err != nil {
			return nodes.Fail(m, err.Error())
		}
		out.Metadata = changed
	}
	return nodes.Emit(nodes.Success, out)
}

func (n transform) changeMetadata(scope *expression.Scope, was nodes.Metadata) (nodes.Metadata, error) {
	out := make(nodes.Metadata, len(was)+len(n.metadata))
	maps.Copy(out, was)
	for _, e := range n.metadata {
		v, err := e.value.Value(scope)
		if err != nil {
			return nil, fmt.Errorf("metadata.%s: %w", e.key, err)
		}
		if v == nil {
			delete(out, e.key)
			continue
		}
		out[e.key] = template.Text(v)
	}
	return out, nil
}
