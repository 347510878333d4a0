package chains

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"callchain/nodes"

	"github.com/google/uuid"
)

// Compile checks a definition and makes a program of it. The error is Problems: all mistakes, each with its place and mend.
func Compile(d Definition, kinds nodes.Registry, id uuid.UUID, version int) (*Program, error) {
	c := compiler{d: d, kinds: kinds, index: map[string]int{}, program: &Program{ID: id, Version: version, Name: d.Name, Root: d.Root}}
	return c.compile(nil)
}

// compile leaves out what only follows from the mistakes that are already known.
func (c *compiler) compile(known Problems) (*Program, error) {
	d := c.d
	if len(known) == 0 {
		c.head()
	}
	if len(d.Nodes) > 0 && len(d.Nodes) <= NodesMax {
		c.names()
		for i := range d.Nodes {
			c.build(i)
		}
		c.links()
		c.checkFirst()
		if len(known) == 0 {
			c.checkCycles()
		}
		if len(known) == 0 && !d.Foreign {
			c.checkShape()
		}
	}
	c.problems = append(known, slices.DeleteFunc(c.problems, known.cover)...)
	if err := c.problems.orNil(); err != nil {
		return nil, err
	}
	c.program.byName = c.index
	return c.program, nil
}

// Lint reads and checks a definition and tells all mistakes of both; nil means that there are none.
func Lint(file string, data []byte, kinds nodes.Registry) Problems {
	d, err := Parse(file, data)
	known, _ := errors.AsType[Problems](err)
	if d.src == nil {
		return known
	}
	c := compiler{d: d, kinds: kinds, index: map[string]int{}, program: &Program{}}
	_, err = c.compile(known)
	problems, _ := errors.AsType[Problems](err)
	return problems
}

// cover tells whether a mistake is about a node or line of which one is known already.
func (ps Problems) cover(p Problem) bool {
	return slices.ContainsFunc(ps, func(k Problem) bool { return k.Line == p.Line || k.Node == p.Node && k.Node != "" })
}

type compiler struct {
	d        Definition
	kinds    nodes.Registry
	index    map[string]int // of nodes by name
	program  *Program
	specs    []nodes.Kind // of nodes; Type is empty if it is unknown
	edges    [][]int
	problems Problems
}

func (c *compiler) add(at position, node, format string, args ...any) {
	c.problems = append(c.problems, Problem{File: c.d.file, Line: at.line, Column: at.column, Node: node, Text: fmt.Sprintf(format, args...)})
}

func (c *compiler) head() {
	top := c.d.src.position()
	switch n := utf8.RuneCountInString(c.d.Name); {
	case strings.TrimSpace(c.d.Name) == "":
		c.add(top, "", `the chain has no name; begin with "name: …"`)
	case n > nameMax:
		c.add(c.d.src.get("name").position(), "", "the name has %d characters, more than %d", n, nameMax)
	}
	switch n := len(c.d.Nodes); {
	case n == 0 && c.d.Foreign:
		c.program.first = nowhere
	case n == 0:
		c.add(top, "", `the chain has no nodes; list at least one under "nodes"`)
	case n > NodesMax:
		c.add(c.d.src.get("nodes").position(), "", "the chain has %d nodes, more than %d; move a part into a chain of its own", n, NodesMax)
	}
}

func (c *compiler) names() {
	for i, n := range c.d.Nodes {
		at := n.src.get("name").position()
		if at == (position{}) {
			at = n.src.position()
		}
		switch size := utf8.RuneCountInString(n.Name); {
		case strings.TrimSpace(n.Name) == "":
			c.add(at, "", "the node has no name; others refer to it by name")
			continue
		case size > nameMax:
			c.add(at, n.Name[:20], "the name has %d characters, more than %d", size, nameMax)
		}
		if first, twice := c.index[n.Name]; twice {
			c.add(at, n.Name, "another node has this name%s; names must differ", c.line(first))
			continue
		}
		c.index[n.Name] = i
	}
}

func (c *compiler) line(i int) string {
	if at := c.d.Nodes[i].src.position(); at.line > 0 {
		return fmt.Sprintf(" (line %d)", at.line)
	}
	return ""
}

// build makes the node itself.
func (c *compiler) build(i int) {
	n := c.d.Nodes[i]
	id := n.ID
	if id == uuid.Nil {
		id = NodeID(c.program.ID, n.Name)
	}
	c.program.nodes = append(c.program.nodes, step{name: n.Name, id: id, debug: n.Debug})
	kind, ok := c.kinds.Lookup(n.Type)
	c.specs = append(c.specs, kind)
	if !ok {
		c.unknownType(n)
		return
	}
	built, err := kind.New(n.Config)
	if err != nil {
		c.wrongConfig(n, err)
		return
	}
	if named, ok := built.(nodes.Named); ok {
		built = named.Named(n.Name)
	}
	c.program.nodes[i].node = built
}

func (c *compiler) unknownType(n NodeDefinition) {
	at := n.src.get("type").position()
	if at == (position{}) {
		at = n.src.position()
	}
	types := c.kinds.Types()
	kind, byClass := c.kinds.LookupClass(n.Type)
	switch near := nodes.Nearest(n.Type, types); {
	case n.Type == "":
		c.add(at, n.Name, "the node has no type; there are: %s", strings.Join(types, ", "))
	case byClass:
		c.add(at, n.Name, "%q is ThingsBoard's class; write %q", n.Type, kind.Type)
	case near != "":
		c.add(at, n.Name, "there is no node type %q; did you mean %q?", n.Type, near)
	default:
		c.add(at, n.Name, "there is no node type %q; there are: %s", n.Type, strings.Join(types, ", "))
	}
}

func (c *compiler) wrongConfig(n NodeDefinition, err error) {
	ce, ok := errors.AsType[*nodes.ConfigError](err)
	if !ok {
		c.add(n.src.position(), n.Name, "config: %v", err)
		return
	}
	config := n.src.get("config")
	for _, p := range ce.Problems {
		at := config.find(p.Path)
		if config == nil || config.kind != object {
			at = n.src.position()
		}
		c.add(at, n.Name, "%s: %s", strings.Join(append([]string{"config"}, p.Path...), "."), p.Text)
	}
}

// links resolves the names of targets and checks that the kinds emit along the relations.
func (c *compiler) links() {
	c.edges = make([][]int, len(c.d.Nodes))
	for i, n := range c.d.Nodes {
		to := n.src.get("to")
		for j, l := range n.To {
			at := to.find([]string{l.Relation})
			if slices.ContainsFunc(n.To[:j], func(o Link) bool { return strings.EqualFold(o.Relation, l.Relation) }) {
				c.add(at, n.Name, "the relation %q stands here twice; list all its targets in one place", l.Relation)
			}
			c.relation(n, l.Relation, c.specs[i], at)
			w := way{relation: l.Relation, targets: c.targets(n, l)}
			c.program.nodes[i].to = append(c.program.nodes[i].to, w)
			c.edges[i] = append(c.edges[i], w.targets...)
		}
	}
}

func (c *compiler) relation(n NodeDefinition, relation string, kind nodes.Kind, at position) {
	if c.d.Foreign || kind.Type == "" || kind.Emits(relation) {
		return
	}
	if len(kind.Relations) == 0 {
		c.add(at, n.Name, "%s emits nothing, so nothing can be behind it", kind.Type)
		return
	}
	mend := "there are: " + strings.Join(kind.Relations, ", ")
	if near := nodes.Nearest(relation, kind.Relations); near != "" {
		mend = fmt.Sprintf("did you mean %q?", near)
	}
	c.add(at, n.Name, "%s never emits along %q; %s", kind.Type, relation, mend)
}

func (c *compiler) targets(n NodeDefinition, l Link) []int {
	var out []int
	for k, name := range l.Nodes {
		var at position
		if k < len(l.at) {
			at = l.at[k]
		}
		i, ok := c.index[name]
		switch {
		case !ok:
			c.add(at, n.Name, "%s leads to %q, which is no node of this chain%s", l.Relation, name, c.nearestNode(name))
		case slices.Contains(out, i):
			c.add(at, n.Name, "%s leads to %q twice", l.Relation, name)
		default:
			out = append(out, i)
		}
	}
	return out
}

func (c *compiler) nearestNode(name string) string {
	names := make([]string, len(c.d.Nodes))
	for i, n := range c.d.Nodes {
		names[i] = n.Name
	}
	if near := nodes.Nearest(name, names); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}

func (c *compiler) checkFirst() {
	if c.d.First == "" {
		if c.d.Foreign {
			c.program.first = nowhere
		}
		return
	}
	i, ok := c.index[c.d.First]
	if !ok {
		c.add(c.d.src.get("first").position(), "", "first is %q, which is no node of this chain%s", c.d.First, c.nearestNode(c.d.First))
		c.program.first = nowhere
		return
	}
	c.program.first = i
}
