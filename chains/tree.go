package chains

import (
	"fmt"

	"callchain/nodes"
)

// tree is a YAML or JSON value that remembers where it stands.
type tree struct {
	line, column int
	value        any // of a scalar: nil, bool, int64, float64, string
	kind         treeKind
	entries      []entry // of an object, in the order of the file
	items        []*tree // of a list
}

type treeKind uint8

const (
	scalar treeKind = iota
	object
	list
)

type entry struct {
	key  string
	at   position
	node *tree
}

type position struct{ line, column int }

// depthMax bounds how deep a definition may be nested.
const depthMax = 50

func (t *tree) position() position {
	if t == nil {
		return position{}
	}
	return position{t.line, t.column}
}

func (t *tree) get(key string) *tree {
	if t == nil {
		return nil
	}
	for _, e := range t.entries {
		if e.key == key {
			return e.node
		}
	}
	return nil
}

// find follows a path of keys and indexes as far as it goes, and tells where that is: at the key, if the last step is one.
func (t *tree) find(path []string) position {
	at := t.position()
	for _, step := range path {
		next := (*tree)(nil)
		switch {
		case t == nil:
		case t.kind == object:
			for _, e := range t.entries {
				if e.key == step {
					next, at = e.node, e.at
				}
			}
		case t.kind == list:
			var i int
			if _, err := fmt.Sscanf(step, "%d", &i); err == nil && i < len(t.items) {
				next, at = t.items[i], t.items[i].position()
			}
		}
		if next == nil {
			return at
		}
		t = next
	}
	return at
}

// plain is the value without positions, as nodes.ParseJSON would give it.
func (t *tree) plain() any {
	switch {
	case t == nil:
		return nil
	case t.kind == list:
		out := make([]any, len(t.items))
		for i, item := range t.items {
			out[i] = item.plain()
		}
		return out
	case t.kind == object:
		out := make(map[string]any, len(t.entries))
		for _, e := range t.entries {
			out[e.key] = e.node.plain()
		}
		return out
	}
	return t.value
}

// describe names a value for a message.
func (t *tree) describe() string {
	switch t.kind {
	case list:
		return "a list"
	case object:
		return "an object"
	case scalar:
	}
	text, err := nodes.AppendJSON(nil, t.value)
	if err != nil {
		return "a value"
	}
	return string(text)
}
