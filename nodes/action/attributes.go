package action

import (
	"bytes"
	"maps"
	"slices"

	"callchain/nodes"
)

// SaveAttributes is ThingsBoard's "save attributes".
var SaveAttributes = nodes.Define(nodes.Spec{
	Type: "save attributes", Class: "org.thingsboard.rule.engine.telemetry.TbMsgAttributesNode", Category: nodes.Action,
	Summary: "Stores the data of a POST_ATTRIBUTES_REQUEST message as attributes of the originator.",
	Doc: "Metadata `scope` overrides the scope. Shared attributes are also sent to the device if `notifyDevice` is set, or unless metadata " +
		"`notifyDevice` is `false`, as in ThingsBoard. Keys whose value is null are left out.",
	Relations: []string{nodes.Success, nodes.Failure}, Terminal: true, Version: 3,
	Example: `{"scope": "CLIENT_SCOPE", "updateAttributesOnlyOnValueChange": true}`,
}, newSaveAttributes)

type attributesConfig struct {
	Processing   processing `json:"processingSettings" doc:"ThingsBoard's processing settings."`
	Scope        string     `json:"scope" default:"SERVER_SCOPE" enum:"SERVER_SCOPE|SHARED_SCOPE|CLIENT_SCOPE" doc:"Scope of the attributes."`
	NotifyDevice bool       `json:"notifyDevice" default:"false" doc:"Send changed shared attributes to the device, whatever metadata notifyDevice says."`
	Announce     bool       `json:"sendAttributesUpdatedNotification" default:"false" doc:"Not available: true is refused."`
	OnlyChanged  bool       `json:"updateAttributesOnlyOnValueChange" default:"true" doc:"Leave attributes alone whose value stays the same."`
}

type saveAttributes struct{ attributesConfig }

func newSaveAttributes(c attributesConfig) (nodes.Node, error) {
	if c.Announce {
		return nil, nodes.Wrong("sendAttributesUpdatedNotification",
			"true is not available: connect the node's Success to what is to happen after the change")
	}
	return saveAttributes{c}, nil
}

func (n saveAttributes) Process(m nodes.Msg) nodes.Out {
	writes, failure := n.writes(m)
	if failure != "" {
		return nodes.Fail(m, failure)
	}
	if n.OnlyChanged && len(writes) > 0 {
		var out nodes.Out
		for _, w := range writes {
			out.Reads = append(out.Reads, w.Key)
		}
		return out
	}
	out := nodes.Emit(nodes.Success, m)
	out.Writes = writes
	return out
}

// ProcessWith stores those attributes whose value changed.
func (n saveAttributes) ProcessWith(m nodes.Msg, values nodes.Values) nodes.Out {
	writes, failure := n.writes(m)
	if failure != "" {
		return nodes.Fail(m, failure)
	}
	out := nodes.Emit(nodes.Success, m)
	for _, w := range writes {
		if was, ok := values[w.Key]; !ok || !bytes.Equal(was.JSON, w.Value.JSON) {
			out.Writes = append(out.Writes, w)
		}
	}
	return out
}

func (n saveAttributes) writes(m nodes.Msg) (writes []nodes.Write, failure string) {
	if m.Type != nodes.PostAttributes {
		return nil, "Unsupported msg type: " + m.Type
	}
	data, err := m.Data.Object()
	if err != nil {
		return nil, err.Error()
	}
	scope := n.Scope
	if given := m.Metadata["scope"]; given != "" {
		scope = given
	}
	if scope != nodes.ServerScope && scope != nodes.SharedScope && scope != nodes.ClientScope {
		return nil, "metadata scope is " + scope + ", which is no scope of attributes"
	}
	notify := scope == nodes.SharedScope && (n.NotifyDevice || m.Metadata["notifyDevice"] == "" || m.Metadata["notifyDevice"] == "true")
	for _, name := range slices.Sorted(maps.Keys(data)) {
		if data[name] == nil {
			continue
		}
		text, err := nodes.AppendJSON(nil, data[name])
		if err != nil {
			return nil, err.Error()
		}
		writes = append(writes, nodes.Write{
			Key:   nodes.Key{Entity: m.Originator, Scope: scope, Name: name},
			Value: nodes.Value{JSON: text, TS: m.Now / 1000}, Notify: notify,
		})
	}
	return writes, ""
}
