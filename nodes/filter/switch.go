package filter

import (
	"fmt"

	"callchain/nodes"
	"callchain/nodes/internal/expression"
)

// Switch is the node "switch".
var Switch = nodes.Define(nodes.Spec{
	Type: "switch", Category: nodes.Filter,
	Summary:   "Routes a message along the relation, or all relations, that an expression names.",
	Doc:       "An empty list ends the way of the message here. " + expression.Language,
	Relations: []string{nodes.Failure}, Custom: true,
	Example: `{"relation": "msg?.temperature == nil ? \"unknown\" : msg.temperature > 30 ? [\"hot\", \"alarm\"] : \"cold\""}`,
}, newSwitch)

type switchConfig struct {
	Relation string `json:"relation" required:"true" doc:"Expression that gives the name of a relation or a list of them."`
}

type relationSwitch struct{ relation *expression.Expression }

// relationsMax bounds how many ways one message may go at once.
const relationsMax = 50

func newSwitch(c switchConfig) (nodes.Node, error) {
	e, err := expression.Compile(c.Relation)
	if err != nil {
		return nil, nodes.Wrong("relation", "%v", err)
	}
	return relationSwitch{e}, nil
}

func (n relationSwitch) Process(m nodes.Msg) nodes.Out {
	v, err := n.relation.Value(expression.NewScope(m))
	if err != nil {
		return nodes.Fail(m, err.Error())
	}
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	if len(list) > relationsMax {
		return nodes.Fail(m, fmt.Sprintf("the expression names %d relations, more than %d", len(list), relationsMax))
	}
	var out nodes.Out
	for _, item := range list {
		relation, ok := item.(string)
		if !ok || relation == "" {
			return nodes.Fail(m, fmt.Sprintf("the expression gives %v, which is no name of a relation", item))
		}
		out.Emits = append(out.Emits, nodes.Emission{Relation: relation, Msg: m})
	}
	return out
}
