package chains

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"callchain/nodes"

	"github.com/google/uuid"
)

// The limits of a definition.
const (
	BytesMax = 256 << 10
	NodesMax = 500
	nameMax  = 255 // runes of a chain's or node's name, as in ThingsBoard
)

// Definition is a rule chain as its author wrote it.
type Definition struct {
	Name        string
	Description string
	Root        bool   // it is the chain of devices whose profile names none
	First       string // node that gets the messages; empty: the first of Nodes, or none if Foreign
	Nodes       []NodeDefinition
	// Foreign: the chain was made by another tool, where what is merely useless is no mistake: no nodes at all, a node that
	// nothing leads to, a way that ends for nothing, a relation that is never emitted. Files cannot say it.
	Foreign bool

	file string
	src  *tree
}

// NodeDefinition is one node of a chain.
type NodeDefinition struct {
	Name        string
	Type        string
	Description string
	Config      map[string]any // as nodes.ParseJSON gives it; nil: all is left out
	To          []Link
	ID          uuid.UUID // what other tools call the node; uuid.Nil: derived from the chain's id and the node's name. Not in files.
	Debug       Debug     // not in files

	src *tree
}

// Debug says which executions of a node are to be traced besides its failures.
type Debug struct {
	Until int64 // all until then, ms since 1970; 0: none
}

// All tells whether every execution is to be traced at a time in µs since 1970.
func (d Debug) All(now int64) bool { return d.Until > 0 && now < d.Until*1000 }

// NodeID is the id of a node that was given none.
func NodeID(chain uuid.UUID, name string) uuid.UUID { return uuid.NewSHA1(chain, []byte(name)) }

// Link leads messages from a node along a relation to other nodes, in their order.
type Link struct {
	Relation string
	Nodes    []string

	at []position // of Nodes
}

// Parse reads a definition: JSON if it begins with a brace, else YAML. file names the source in messages. The error is
// Problems, and what could be read is returned with it.
func Parse(file string, data []byte) (Definition, error) {
	src, err := parseTree(file, data)
	if err != nil {
		return Definition{file: file}, err
	}
	r := reader{file: file}
	d := r.definition(src)
	return d, r.problems.orNil()
}

// reader makes a Definition of a tree and collects what is wrong with its shape.
type reader struct {
	file     string
	problems Problems
}

func (r *reader) add(at position, node, format string, args ...any) {
	r.problems = append(r.problems, Problem{File: r.file, Line: at.line, Column: at.column, Node: node, Text: fmt.Sprintf(format, args...)})
}

var (
	chainKeys = []string{"name", "description", "root", "first", "nodes"}
	nodeKeys  = []string{"name", "type", "description", "config", "to"}
)

func (r *reader) definition(src *tree) Definition {
	d := Definition{file: r.file, src: src}
	if src.kind != object {
		r.add(src.position(), "", "the file is %s, but must be an object with the keys %s", src.describe(), strings.Join(chainKeys, ", "))
		return d
	}
	r.known(src, chainKeys, "")
	d.Name = r.text(src.get("name"), "name", "")
	d.Description = r.text(src.get("description"), "description", "")
	d.First = r.text(src.get("first"), "first", "")
	if root := src.get("root"); root != nil {
		var ok bool
		if d.Root, ok = root.value.(bool); !ok {
			r.add(root.position(), "", "root is %s, but must be true or false", root.describe())
		}
	}
	list := src.get("nodes")
	if list == nil || list.kind == scalar && list.value == nil {
		return d
	}
	if !isList(list) {
		r.add(list.position(), "", "nodes is %s, but must be a list", list.describe())
		return d
	}
	for _, item := range list.items {
		d.Nodes = append(d.Nodes, r.node(item))
	}
	return d
}

func isList(t *tree) bool { return t.kind == list }

// known complains of keys that do not exist.
func (r *reader) known(t *tree, keys []string, node string) {
	for _, e := range t.entries {
		if slices.Contains(keys, e.key) {
			continue
		}
		mend := "there are: " + strings.Join(keys, ", ")
		if n := nodes.Nearest(e.key, keys); n != "" {
			mend = fmt.Sprintf("did you mean %q?", n)
		}
		r.add(e.at, node, "unknown key %q; %s", e.key, mend)
	}
}

func (r *reader) text(t *tree, what, node string) string {
	if t == nil {
		return ""
	}
	s, ok := t.value.(string)
	if !ok || t.kind != scalar {
		r.add(t.position(), node, "%s is %s, but must be text; put it in quotes", what, t.describe())
	}
	return s
}

func (r *reader) node(src *tree) NodeDefinition {
	n := NodeDefinition{src: src}
	if src.kind != object {
		r.add(src.position(), "", "a node is %s, but must be an object with the keys %s", src.describe(), strings.Join(nodeKeys, ", "))
		return n
	}
	n.Name = r.text(src.get("name"), "name", "")
	r.known(src, nodeKeys, n.Name)
	n.Type = r.text(src.get("type"), "type", n.Name)
	n.Description = r.text(src.get("description"), "description", n.Name)
	if config := src.get("config"); config != nil && (config.kind != scalar || config.value != nil) {
		if config.kind == object {
			n.Config = config.plain().(map[string]any)
		} else {
			r.add(config.position(), n.Name, "config is %s, but must be an object", config.describe())
		}
	}
	to := src.get("to")
	if to == nil || to.kind == scalar && to.value == nil {
		return n
	}
	if to.kind != object {
		r.add(to.position(), n.Name, `to is %s, but must be an object: a relation and the node, or list of nodes, that it leads to`, to.describe())
		return n
	}
	for _, e := range to.entries {
		n.To = append(n.To, r.link(e, n.Name))
	}
	return n
}

func (r *reader) link(e entry, node string) Link {
	l := Link{Relation: e.key}
	targets := []*tree{e.node}
	if e.node.kind == list {
		targets = e.node.items
	}
	for _, t := range targets {
		if name := r.text(t, "the target of "+e.key, node); name != "" {
			l.Nodes = append(l.Nodes, name)
			l.at = append(l.at, t.position())
		}
	}
	if len(targets) == 0 {
		r.add(e.at, node, "%s leads to no node; name one or take the line out", e.key)
	}
	return l
}

// ParseValue reads any YAML or JSON file with the limits of a definition, in the shape of nodes.ParseJSON.
func ParseValue(file string, data []byte) (any, error) {
	src, err := parseTree(file, data)
	if err != nil {
		return nil, err
	}
	return src.plain(), nil
}

func parseTree(file string, data []byte) (*tree, error) {
	wrong := func(text string, args ...any) error {
		return Problems{{File: file, Line: 1, Column: 1, Text: fmt.Sprintf(text, args...)}}
	}
	switch {
	case len(data) > BytesMax:
		return nil, wrong("the file has %d bytes, more than %d", len(data), BytesMax)
	case !utf8.Valid(data):
		return nil, wrong("the file is not UTF-8")
	}
	read := readYAML
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte{'{'}) {
		read = readJSON
	}
	src, p := read(data)
	if p != nil {
		p.File = file
		return nil, Problems{*p}
	}
	return src, nil
}
