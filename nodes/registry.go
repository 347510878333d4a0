package nodes

import (
	"cmp"
	"fmt"
	"slices"
)

// Registry is a list of kinds of nodes. It never changes.
type Registry struct {
	kinds   []Kind // by category, then type
	byType  map[string]int
	byClass map[string]int
}

// NewRegistry makes a Registry. It panics when two kinds share a type or a class, or a Spec is broken: the list is written by
// programmers and checked by the first test.
func NewRegistry(kinds ...Kind) Registry {
	r := Registry{kinds: slices.Clone(kinds), byType: map[string]int{}, byClass: map[string]int{}}
	slices.SortStableFunc(r.kinds, func(a, b Kind) int {
		return cmp.Or(cmp.Compare(a.Category, b.Category), cmp.Compare(a.Type, b.Type))
	})
	for i, k := range r.kinds {
		if reason := k.broken(); reason != "" {
			panic(fmt.Sprintf("nodes: the kind %q %s", k.Type, reason))
		}
		if _, twice := r.byType[k.Type]; twice {
			panic(fmt.Sprintf("nodes: two kinds have the type %q", k.Type))
		}
		r.byType[k.Type] = i
		if k.Class == "" {
			continue
		}
		if _, twice := r.byClass[k.Class]; twice {
			panic(fmt.Sprintf("nodes: two kinds have the class %q", k.Class))
		}
		r.byClass[k.Class] = i
	}
	return r
}

// broken says what is wrong with a Spec, or nothing.
func (k Kind) broken() string {
	categories := []Category{Filter, Enrichment, Transform, Action, External, Flow}
	switch {
	case k.Type == "":
		return "has no type"
	case k.build == nil:
		return "was not made with Define"
	case !slices.Contains(categories, k.Category):
		return fmt.Sprintf("has the category %q, which does not exist", k.Category)
	case k.Summary == "":
		return "has no summary"
	case len(k.Relations) == 0 && !k.Custom && !k.Terminal:
		return "emits nothing and may not end a chain"
	case k.Example == "":
		return "has no example"
	}
	config, err := Raw([]byte(k.Example)).Object()
	if err != nil {
		return "has an example that is no JSON object: " + err.Error()
	}
	if _, err := k.New(config); err != nil {
		return "has an example that does not build: " + err.Error()
	}
	return ""
}

// Kinds are all kinds, by category and type.
func (r Registry) Kinds() []Kind { return slices.Clone(r.kinds) }

// Types are the types of all kinds, by category and type.
func (r Registry) Types() []string {
	out := make([]string, len(r.kinds))
	for i, k := range r.kinds {
		out[i] = k.Type
	}
	return out
}

// Lookup finds a kind by its type.
func (r Registry) Lookup(typ string) (Kind, bool) {
	i, ok := r.byType[typ]
	if !ok {
		return Kind{}, false
	}
	return r.kinds[i], true
}

// LookupClass finds a kind by ThingsBoard's class name.
func (r Registry) LookupClass(class string) (Kind, bool) {
	i, ok := r.byClass[class]
	if !ok {
		return Kind{}, false
	}
	return r.kinds[i], true
}
