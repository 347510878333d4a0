package flow

import "callchain/nodes"

// Ack is ThingsBoard's "acknowledge".
var Ack = nodes.Define(nodes.Spec{
	Type: "acknowledge", Class: "org.thingsboard.rule.engine.flow.TbAckNode", Category: nodes.Flow,
	Summary:   "Marks a message as processed; it goes on all the same.",
	Relations: []string{nodes.Success, nodes.Failure}, Terminal: true, Example: `{}`,
}, func(nodes.EmptyConfig) (nodes.Node, error) { return ack{}, nil })

type ack struct{}

func (ack) Process(m nodes.Msg) nodes.Out {
	out := nodes.Emit(nodes.Success, m)
	out.Ack = true
	return out
}
