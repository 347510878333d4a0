package enrich

import (
	"fmt"
	"maps"
	"strings"

	"callchain/nodes"
	"callchain/nodes/internal/template"
)

// OriginatorAttributes is ThingsBoard's "originator attributes".
var OriginatorAttributes = nodes.Define(nodes.Spec{
	Type: "originator attributes", Class: "org.thingsboard.rule.engine.metadata.TbGetAttributesNode", Category: nodes.Enrichment,
	Summary: "Adds attributes and latest time-series values of the originator to the message.",
	Doc: "Client attributes get the prefix `cs_`, shared ones `shared_`, server ones `ss_`, time-series values none. Names may hold " +
		"`${key}` (metadata) and `$[key]` (data). In metadata everything is text; in data values keep their JSON type.",
	Relations: []string{nodes.Success, nodes.Failure}, Version: 1,
	Example: `{"sharedAttributeNames": ["limit"], "latestTsKeyNames": ["temperature"], "tellFailureIfAbsent": false}`,
}, newOriginatorAttributes)

type attributesConfig struct {
	Client  []string `json:"clientAttributeNames" max:"100" default:"[]" doc:"Client attributes to add."`
	Shared  []string `json:"sharedAttributeNames" max:"100" default:"[]" doc:"Shared attributes to add."`
	Server  []string `json:"serverAttributeNames" max:"100" default:"[]" doc:"Server attributes to add."`
	Latest  []string `json:"latestTsKeyNames" max:"100" default:"[]" doc:"Time-series keys whose latest value is added."`
	Failing bool     `json:"tellFailureIfAbsent" default:"true" doc:"Go along Failure if one of the values does not exist."`
	WithTS  bool     `json:"getLatestValueWithTs" default:"false" doc:"Add time-series values as {\"ts\": …, \"value\": …}."`
	FetchTo string   `json:"fetchTo" default:"METADATA" enum:"METADATA|DATA" doc:"Where the values are put."`
}

type originatorAttributes struct {
	attributesConfig
	groups []group
}

// group is one list of names in the config.
type group struct {
	scope, prefix string
	names         []string
}

func newOriginatorAttributes(c attributesConfig) (nodes.Node, error) {
	return originatorAttributes{c, []group{
		{nodes.ClientScope, "cs_", c.Client},
		{nodes.SharedScope, "shared_", c.Shared},
		{nodes.ServerScope, "ss_", c.Server},
		{"", "", c.Latest},
	}}, nil
}

// wanted is a value to fetch and the name under which it is put into the message.
type wanted struct {
	key  nodes.Key
	name string
}

func (n originatorAttributes) wants(m nodes.Msg) []wanted {
	var out []wanted
	for _, g := range n.groups {
		for _, name := range g.names {
			filled := template.Fill(name, m)
			out = append(out, wanted{nodes.Key{Entity: m.Originator, Scope: g.scope, Name: filled}, g.prefix + filled})
		}
	}
	return out
}

func (n originatorAttributes) Process(m nodes.Msg) nodes.Out {
	wants := n.wants(m)
	if len(wants) == 0 {
		return nodes.Emit(nodes.Success, m)
	}
	var out nodes.Out
	for _, w := range wants {
		out.Reads = append(out.Reads, w.key)
	}
	return out
}

// ProcessWith adds the values. With tellFailureIfAbsent the message goes along Failure with those that were found.
func (n originatorAttributes) ProcessWith(m nodes.Msg, values nodes.Values) nodes.Out {
	found := map[string]any{}
	var absent []string
	for _, w := range n.wants(m) {
		v, ok := values[w.key]
		if !ok {
			absent = append(absent, place(w.key))
			continue
		}
		parsed, err := nodes.ParseJSON(v.JSON)
		if err != nil {
			return nodes.Fail(m, fmt.Sprintf("the stored value of %s: %v", place(w.key), err))
		}
		if n.WithTS && w.key.Scope == "" {
			parsed = map[string]any{"ts": v.TS, "value": parsed}
		}
		found[w.name] = parsed
	}
	out, err := n.put(m, found)
	switch {
	case err != nil:
		return nodes.Fail(m, err.Error())
	case n.Failing && len(absent) > 0:
		return nodes.Fail(out, "these values of the originator do not exist: "+strings.Join(absent, ", "))
	}
	return nodes.Emit(nodes.Success, out)
}

func place(k nodes.Key) string {
	if k.Scope == "" {
		return "time series " + k.Name
	}
	return k.Scope + " " + k.Name
}

func (n originatorAttributes) put(m nodes.Msg, found map[string]any) (nodes.Msg, error) {
	if n.FetchTo == "DATA" {
		was, err := m.Data.Object()
		if err != nil {
			return m, err
		}
		data := make(map[string]any, len(was)+len(found))
		maps.Copy(data, was)
		maps.Copy(data, found)
		return m.WithData(nodes.Parsed(data)), nil
	}
	md := make(nodes.Metadata, len(m.Metadata)+len(found))
	maps.Copy(md, m.Metadata)
	for name, v := range found {
		md[name] = template.Text(v)
	}
	m.Metadata = md
	return m, nil
}
