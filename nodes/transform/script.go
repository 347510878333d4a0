package transform

import (
	"callchain/nodes"
	"callchain/nodes/script"
)

// Script is ThingsBoard's transformation "script".
var Script = script.Define(nodes.Spec{
	Type: "script transform", Class: "org.thingsboard.rule.engine.transform.TbTransformMsgNode", Category: nodes.Transform,
	Summary: "Gives a message other data, other metadata or another type, computed by a script; or makes several messages of it.",
	Doc: "The script gives an object `{msg, metadata, msgType}` or a list of up to 500 of them. What is left out stays as it came; metadata " +
		"values become texts, `null` takes a key away. " + script.Language,
	Relations: []string{nodes.Success, nodes.Failure},
	Example:   `{"scriptLang": "JS", "jsScript": "return {msg: {celsius: msg && msg.temperature}, metadata: metadata, msgType: msgType};"}`,
}, func(f script.Function) nodes.Node { return scriptTransform{f} })

type scriptTransform struct{ messages script.Function }

// Named lets failures tell the node's name.
func (n scriptTransform) Named(name string) nodes.Node {
	return scriptTransform{n.messages.Named(name)}
}

func (n scriptTransform) Process(m nodes.Msg) nodes.Out {
	messages, err := n.messages.Messages(m)
	if err != nil {
		return nodes.Fail(m, err.Error())
	}
	var out nodes.Out
	for _, made := range messages {
		out.Emits = append(out.Emits, nodes.Emission{Relation: nodes.Success, Msg: made})
	}
	return out
}
