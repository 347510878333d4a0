package thingsboard

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"callchain/chains"
	"callchain/nodes"

	"github.com/google/uuid"
)

// Definition is what a chain does. Names are made to differ, which ThingsBoard does not ask for. What is wrong is told with
// the node; a definition is given all the same, with all that could be read.
func (c Chain) Definition(file string, kinds nodes.Registry) (chains.Definition, chains.Problems) {
	r := reader{file: file, kinds: kinds, chain: c}
	return r.definition(), r.problems
}

// Compile makes a program of a chain. The error is chains.Problems: all mistakes, each with its node.
func (c Chain) Compile(file string, kinds nodes.Registry, id uuid.UUID, version int) (*chains.Program, error) {
	r := reader{file: file, kinds: kinds, chain: c}
	program, err := chains.Compile(r.definition(), kinds, id, version)
	also, ok := errors.AsType[chains.Problems](err)
	if err != nil && !ok {
		return nil, err
	}
	for _, p := range also {
		if slices.Contains(r.unread, p.Node) {
			continue // what is wrong with it is told
		}
		p.File = file
		if rest, found := strings.CutPrefix(p.Text, "config"); found {
			p.Text = "configuration" + rest // as it is called there
		}
		r.problems = append(r.problems, p)
	}
	if len(r.problems) > 0 {
		return nil, r.problems
	}
	return program, nil
}

// Ignored lists what a chain says that has no effect here: for those who move chains over.
func (c Chain) Ignored(file string, kinds nodes.Registry) chains.Problems {
	r := reader{file: file, kinds: kinds, chain: c}
	r.definition()
	return r.ignored
}

// reader makes a definition and collects what is wrong.
type reader struct {
	file     string
	kinds    nodes.Registry
	chain    Chain
	names    []string // of nodes, by place
	unread   []string // nodes whose type or configuration could not be read
	problems chains.Problems
	ignored  chains.Problems
}

func (r *reader) wrong(node, format string, args ...any) {
	r.problems = append(r.problems, chains.Problem{File: r.file, Node: node, Text: fmt.Sprintf(format, args...)})
}

func (r *reader) ignore(node, format string, args ...any) {
	r.ignored = append(r.ignored, chains.Problem{File: r.file, Node: node, Text: fmt.Sprintf(format, args...)})
}

func (r *reader) definition() chains.Definition {
	head, m := r.chain.Head, r.chain.Metadata
	d := chains.Definition{Name: head.Name, Description: description(head.AdditionalInfo), Foreign: true}
	if head.Type != "" && head.Type != Core {
		r.wrong("", "the chain's type is %q, but only %s chains run here", head.Type, Core)
	}
	if len(m.RuleChainConnections) > 0 {
		m.RuleChainConnections = slices.Clone(m.RuleChainConnections)
		m.Nodes, m.Connections = slices.Clone(m.Nodes), slices.Clone(m.Connections)
		m.convertConnections()
	}
	if len(m.Nodes) > chains.NodesMax {
		r.wrong("", "the chain has %d nodes, more than %d; move a part into a chain of its own", len(m.Nodes), chains.NodesMax)
		return d
	}
	r.names = distinct(m.Nodes)
	for i := range m.Nodes {
		d.Nodes = append(d.Nodes, r.node(&m.Nodes[i], r.names[i]))
	}
	switch i := m.FirstNodeIndex; {
	case i == nil || *i < 0:
	case *i >= len(m.Nodes):
		r.wrong("", "firstNodeIndex is %d, but there are %d nodes", *i, len(m.Nodes))
	default:
		d.First = r.names[*i]
	}
	for _, c := range m.Connections {
		r.connect(d.Nodes, c)
	}
	return d
}

// distinct are names that differ: an empty one becomes the class, a second one gets a number.
func distinct(list []Node) []string {
	out := make([]string, len(list))
	used := map[string]bool{}
	for i, n := range list {
		name := n.Name
		if strings.TrimSpace(name) == "" {
			name = short(n.Type)
		}
		for k, base := 2, name; used[name]; k++ {
			name = fmt.Sprintf("%s (%d)", base, k)
		}
		used[name], out[i] = true, name
	}
	return out
}

// short is a class without its packages.
func short(class string) string { return class[strings.LastIndexByte(class, '.')+1:] }

func (r *reader) node(n *Node, name string) chains.NodeDefinition {
	d := chains.NodeDefinition{Name: name, Type: n.Type, Description: description(n.AdditionalInfo)}
	if n.ID != nil {
		d.ID = n.ID.ID
	}
	if n.DebugSettings != nil {
		d.Debug.Until = n.DebugSettings.AllEnabledUntil
	}
	if n.QueueName != nil && *n.QueueName != "" {
		r.ignore(name, "queueName %q has no effect: there are no queues to choose", *n.QueueName)
	}
	kind, ok := KindOf(n.Type, r.kinds)
	if !ok {
		r.unread = append(r.unread, name)
		r.wrong(name, "type: %s", missingNode(n.Type))
		return d
	}
	d.Type = kind.Type
	config, ok := r.config(n, name, kind)
	if !ok {
		r.unread = append(r.unread, name)
		return d
	}
	if kind.Class == outputClass && name != n.Name && n.Name != "" {
		config["relation"] = n.Name // the name had to change, the way back must not
	}
	d.Config = config
	return d
}

// config brings a configuration up to date and leaves out what the node does not know.
func (r *reader) config(n *Node, name string, kind nodes.Kind) (map[string]any, bool) {
	out := map[string]any{}
	if raw := bytes.TrimSpace(n.Configuration); len(raw) > 0 && string(raw) != "null" {
		v, err := nodes.ParseJSON(raw)
		o, isObject := v.(map[string]any)
		if err != nil || !isObject {
			r.wrong(name, "configuration: it must be a JSON object")
			return nil, false
		}
		out = o
	}
	if n.ConfigurationVersion > kind.Version && kind.Class == n.Type {
		r.ignore(name, "configurationVersion %d is newer than %d, which is known here", n.ConfigurationVersion, kind.Version)
	}
	upgrade(n.Type, n.ConfigurationVersion, out)
	known := kind.Fields()
	for _, key := range sortedKeys(out) {
		if slices.ContainsFunc(known, func(f nodes.Field) bool { return f.Name == key }) {
			continue
		}
		if key != "version" { // of ThingsBoard's EmptyNodeConfiguration
			r.ignore(name, "configuration.%s has no effect", key)
		}
		delete(out, key)
	}
	return out, true
}

// connect adds a connection to the node that it leaves.
func (r *reader) connect(list []chains.NodeDefinition, c Connection) {
	switch {
	case c.FromIndex < 0 || c.FromIndex >= len(list) || c.ToIndex < 0 || c.ToIndex >= len(list):
		r.wrong("", "a connection %q leads from %d to %d, but there are %d nodes", c.Type, c.FromIndex, c.ToIndex, len(list))
		return
	case c.FromIndex == c.ToIndex:
		r.wrong(list[c.FromIndex].Name, "connection %q: it leads back into the node itself", c.Type)
		return
	case strings.TrimSpace(c.Type) == "":
		r.wrong(list[c.FromIndex].Name, "connection: it has no type")
		return
	}
	from, to := &list[c.FromIndex], list[c.ToIndex].Name
	if kind, ok := r.kinds.Lookup(from.Type); ok && !kind.Emits(c.Type) {
		r.ignore(from.Name, "connection %q: a node %q never emits along it", c.Type, kind.Type)
	}
	for i := range from.To {
		l := &from.To[i]
		if !strings.EqualFold(l.Relation, c.Type) {
			continue
		}
		if !slices.Contains(l.Nodes, to) {
			l.Nodes = append(l.Nodes, to)
		}
		return
	}
	from.To = append(from.To, chains.Link{Relation: c.Type, Nodes: []string{to}})
}
