// Package flow has the nodes that lead a message elsewhere: into another chain and back, into the future, or to its
// acknowledgement.
package flow

import (
	"callchain/nodes"

	"github.com/google/uuid"
)

// Chain is ThingsBoard's "rule chain".
var Chain = nodes.Define(nodes.Spec{
	Type: "rule chain", Class: "org.thingsboard.rule.engine.flow.TbRuleChainInputNode", Category: nodes.Flow,
	Summary: "Sends a message through another chain and goes on along the relation that its output node names.",
	Doc: "With `forwardMsgToDefaultRuleChain` the chain of the originator's profile is taken if it has one. A chain that calls itself, " +
		"directly or through others, goes along Failure.",
	Relations: []string{nodes.Failure}, Custom: true, Terminal: true, Version: 1,
	Example: `{"ruleChainId": "6f1a2f9e-6d0a-4d9e-9f0b-2f5f3f1c9a11"}`,
}, newChain)

type chainConfig struct {
	ID      uuid.UUID `json:"ruleChainId" required:"true" doc:"Id of the chain to enter."`
	Forward bool      `json:"forwardMsgToDefaultRuleChain" default:"false" doc:"Prefer the chain of the originator's profile."`
}

type chain struct{ chainConfig }

func newChain(c chainConfig) (nodes.Node, error) { return chain{c}, nil }

func (n chain) Process(m nodes.Msg) nodes.Out {
	return nodes.Out{Enter: &nodes.Enter{Chain: n.ID, Default: n.Forward, Msg: m}}
}

// Output is ThingsBoard's "output".
var Output = nodes.Define(nodes.Spec{
	Type: "output", Class: "org.thingsboard.rule.engine.flow.TbRuleChainOutputNode", Category: nodes.Flow,
	Summary: "Goes back to the chain that called this one, along the relation that the node's name is.",
	Doc: "In a chain that was not called by another the message ends here. Names of nodes differ within a chain, so a second way back along " +
		"the same relation names it in `relation`.",
	Terminal: true, Example: `{}`,
}, func(c outputConfig) (nodes.Node, error) { return output{c.Relation}, nil })

type outputConfig struct {
	Version  int64  `json:"version" default:"0" doc:"Accepted for ThingsBoard's sake; means nothing."`
	Relation string `json:"relation" max:"255" doc:"Relation to go back along; the node's name if it is left out."`
}

type output struct{ relation string }

// Named gives the node its name, which is the relation unless the config names another.
func (n output) Named(name string) nodes.Node {
	if n.relation != "" {
		return n
	}
	return output{name}
}

func (n output) Process(m nodes.Msg) nodes.Out { return nodes.Out{Leave: n.relation, Left: m} }
