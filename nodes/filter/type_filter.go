package filter

import (
	"slices"

	"callchain/nodes"
)

// TypeFilter is ThingsBoard's "message type filter".
var TypeFilter = nodes.Define(nodes.Spec{
	Type: "message type filter", Class: "org.thingsboard.rule.engine.filter.TbMsgTypeFilterNode", Category: nodes.Filter,
	Summary:   "Tells whether the type of a message is in a list.",
	Relations: []string{nodes.True, nodes.False, nodes.Failure},
	Example:   `{"messageTypes": ["POST_TELEMETRY_REQUEST", "MY_TYPE"]}`,
}, func(c typeFilterConfig) (nodes.Node, error) { return typeFilter{c.MessageTypes}, nil })

type typeFilterConfig struct {
	MessageTypes []string `json:"messageTypes" min:"1" max:"100" default:"[\"POST_ATTRIBUTES_REQUEST\",\"POST_TELEMETRY_REQUEST\",\"TO_SERVER_RPC_REQUEST\"]" doc:"Message types that go along True; custom ones are allowed."`
}

type typeFilter struct{ types []string }

func (n typeFilter) Process(m nodes.Msg) nodes.Out {
	return nodes.Emit(verdict(slices.Contains(n.types, m.Type)), m)
}

func verdict(ok bool) string {
	if ok {
		return nodes.True
	}
	return nodes.False
}
