package filter

import (
	"callchain/nodes"
	"callchain/nodes/script"
)

// Script is ThingsBoard's filter "script".
var Script = script.Define(nodes.Spec{
	Type: "script filter", Class: "org.thingsboard.rule.engine.filter.TbJsFilterNode", Category: nodes.Filter,
	Summary:   "Tells whether a script gives true.",
	Doc:       "The script must give `true` or `false`; anything else fails. " + script.Language,
	Relations: []string{nodes.True, nodes.False, nodes.Failure},
	Example:   `{"scriptLang": "JS", "jsScript": "return msg != null && msg.temperature > 20;"}`,
}, func(f script.Function) nodes.Node { return scriptFilter{f} })

type scriptFilter struct{ holds script.Function }

// Named lets failures tell the node's name.
func (n scriptFilter) Named(name string) nodes.Node { return scriptFilter{n.holds.Named(name)} }

func (n scriptFilter) Process(m nodes.Msg) nodes.Out {
	ok, err := n.holds.Bool(m)
	if err != nil {
		return nodes.Fail(m, err.Error())
	}
	return nodes.Emit(verdict(ok), m)
}

// ScriptSwitch is ThingsBoard's filter "switch".
var ScriptSwitch = script.Define(nodes.Spec{
	Type: "script switch", Class: "org.thingsboard.rule.engine.filter.TbJsSwitchNode", Category: nodes.Filter,
	Summary:   "Routes a message along the relation, or all relations, that a script names.",
	Doc:       "The script gives a text or a list of texts. What it names twice counts once; an empty list ends the way of the message here. " + script.Language,
	Relations: []string{nodes.Failure}, Custom: true,
	Example: `{"scriptLang": "JS", "jsScript": "return msgType == 'POST_TELEMETRY_REQUEST' ? ['store', 'check'] : 'rest';"}`,
}, func(f script.Function) nodes.Node { return scriptSwitch{f} })

type scriptSwitch struct{ relations script.Function }

// Named lets failures tell the node's name.
func (n scriptSwitch) Named(name string) nodes.Node { return scriptSwitch{n.relations.Named(name)} }

func (n scriptSwitch) Process(m nodes.Msg) nodes.Out {
	relations, err := n.relations.Relations(m)
	if err != nil {
		return nodes.Fail(m, err.Error())
	}
	var out nodes.Out
	for _, relation := range relations {
		out.Emits = append(out.Emits, nodes.Emission{Relation: relation, Msg: m})
	}
	return out
}
