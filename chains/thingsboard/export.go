package thingsboard

import (
	"fmt"
	"maps"

	"callchain/chains"
	"callchain/nodes"

	"github.com/google/uuid"
)

// FromDefinition writes a definition in ThingsBoard's form: classes for types, configurations in full, a layout by rows. A node that
// ThingsBoard does not have keeps its own type, so that nothing is lost on the way there and back.
func FromDefinition(d chains.Definition, kinds nodes.Registry, id uuid.UUID) (Chain, error) {
	out := Chain{Head: Head{Name: d.Name, Type: Core}}
	var err error
	if out.Head.AdditionalInfo, err = nodes.AppendJSON(nil, map[string]any{"description": d.Description}); err != nil {
		return out, fmt.Errorf("writing the chain %q: %w", d.Name, err)
	}
	m := Metadata{RuleChainID: ChainID(id), Nodes: make([]Node, len(d.Nodes)), Connections: []Connection{}}
	index := make(map[string]int, len(d.Nodes))
	for i, n := range d.Nodes {
		index[n.Name] = i
	}
	places := layout(d, index)
	for i, n := range d.Nodes {
		if m.Nodes[i], err = exportNode(n, kinds, id, places[i]); err != nil {
			return out, fmt.Errorf("writing the node %q: %w", n.Name, err)
		}
		for _, l := range n.To {
			for _, to := range l.Nodes {
				m.Connections = append(m.Connections, Connection{FromIndex: i, ToIndex: index[to], Type: l.Relation})
			}
		}
	}
	if first, ok := firstOf(d, index); ok {
		m.FirstNodeIndex = &first
	}
	out.Metadata = m
	return out, nil
}

func firstOf(d chains.Definition, index map[string]int) (int, bool) {
	if d.First != "" {
		i, ok := index[d.First]
		return i, ok
	}
	return 0, !d.Foreign && len(d.Nodes) > 0
}

func exportNode(n chains.NodeDefinition, kinds nodes.Registry, chain uuid.UUID, at place) (Node, error) {
	out := Node{ID: NodeID(n.ID), RuleChainID: ChainID(chain), Type: n.Type, Name: n.Name}
	if n.ID == uuid.Nil {
		out.ID = NodeID(chains.NodeID(chain, n.Name))
	}
	info := map[string]any{"layoutX": at.x, "layoutY": at.y}
	if n.Description != "" {
		info["description"] = n.Description
	}
	config := n.Config
	if kind, ok := kinds.Lookup(n.Type); ok {
		config = filled(kind.Schema(), config)
		out.ConfigurationVersion, out.Type = kind.Version, ClassOf(kind)
		if relation, _ := config["relation"].(string); kind.Class == outputClass {
			if delete(config, "relation"); relation != "" {
				out.Name = relation
			}
		}
	}
	if config == nil {
		config = map[string]any{}
	}
	var err error
	if out.Configuration, err = nodes.AppendJSON(nil, config); err != nil {
		return out, err
	}
	out.AdditionalInfo, err = nodes.AppendJSON(nil, info)
	return out, err
}

// Preset is a configuration in which all is left out, with the defaults.
func Preset(k nodes.Kind) map[string]any { return filled(k.Schema(), nil) }

// filled is a config with the defaults of what it leaves out: ThingsBoard's web interface expects configurations in full.
func filled(schema, config map[string]any) map[string]any {
	out := map[string]any{}
	maps.Copy(out, config)
	properties, _ := schema["properties"].(map[string]any)
	for name, p := range properties {
		property, _ := p.(map[string]any)
		given, isObject := out[name].(map[string]any)
		switch _, nested := property["properties"]; {
		case nested && (isObject || out[name] == nil):
			out[name] = filled(property, given)
		case out[name] == nil && property["default"] != nil:
			out[name] = property["default"]
		}
	}
	return out
}

// place is where a node is drawn, in points.
type place struct{ x, y int }

// The grid of the layout.
const (
	layoutLeft, layoutTop     = 300, 150
	layoutWidth, layoutHeight = 270, 80
)

// layout draws nodes in columns, each right of those that lead to it.
func layout(d chains.Definition, index map[string]int) []place {
	column := make([]int, len(d.Nodes))
	for range d.Nodes { // a chain has no circles, so no way is longer
		moved := false
		for i, n := range d.Nodes {
			for _, l := range n.To {
				for _, to := range l.Nodes {
					if j := index[to]; column[j] <= column[i] && j != i {
						column[j], moved = column[i]+1, true
					}
				}
			}
		}
		if !moved {
			break
		}
	}
	out := make([]place, len(d.Nodes))
	rows := map[int]int{}
	for i := range d.Nodes {
		out[i] = place{layoutLeft + layoutWidth*column[i], layoutTop + layoutHeight*rows[column[i]]}
		rows[column[i]]++
	}
	return out
}
