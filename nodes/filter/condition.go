package filter

import (
	"callchain/nodes"
	"callchain/nodes/internal/expression"
)

// Condition is the node "filter".
var Condition = nodes.Define(nodes.Spec{
	Type: "filter", Category: nodes.Filter,
	Summary:   "Tells whether a condition holds.",
	Doc:       expression.Language,
	Relations: []string{nodes.True, nodes.False, nodes.Failure},
	Example:   `{"condition": "msg?.temperature != nil && msg.temperature > 30"}`,
}, newCondition)

type conditionConfig struct {
	Condition string `json:"condition" required:"true" doc:"Expression that gives true or false."`
}

type condition struct{ holds *expression.Expression }

func newCondition(c conditionConfig) (nodes.Node, error) {
	e, err := expression.Compile(c.Condition)
	if err != nil {
		return nil, nodes.Wrong("condition", "%v", err)
	}
	return condition{e}, nil
}

func (n condition) Process(m nodes.Msg) nodes.Out {
	ok, err := n.holds.Bool(expression.NewScope(m))
	if err != nil {
		return nodes.Fail(m, err.Error())
	}
	return nodes.Emit(verdict(ok), m)
}
