package nodes

import "reflect"

// Category groups kinds of nodes as ThingsBoard's ComponentType does.
type Category string

// The categories.
const (
	Filter     Category = "filter"
	Enrichment Category = "enrichment"
	Transform  Category = "transformation"
	Action     Category = "action"
	External   Category = "external"
	Flow       Category = "flow"
)

// Spec is what everybody needs to know of a kind of node: users, the compiler of chains, editors and the importer.
type Spec struct {
	Type      string // as users write it, in ThingsBoard's words: "rpc call request"
	Class     string // ThingsBoard's class name; empty if ThingsBoard has no such node
	Category  Category
	Summary   string   // one sentence for lists
	Doc       string   // more, in Markdown; may be empty
	Relations []string // along which it emits, Failure included
	Custom    bool     // any other relation is possible, too
	Terminal  bool     // a chain may end with it: it does something besides passing messages on
	Example   string   // a config as JSON that builds
	Version   int      // of the config, counted as ThingsBoard's configurationVersion
}

// Kind is a kind of node: its Spec and how a node is made of a config.
type Kind struct {
	Spec
	config reflect.Type
	build  func(config reflect.Value) (Node, error)
}

// Define makes a Kind of a config struct and a constructor. The struct's tags say each fact once:
//
//	json:"name"       the field's name in a chain
//	default:"60"      the value if it is left out (text as it is, everything else as JSON)
//	required:"true"   it must not be left out
//	min:"1" max:"9"   bounds of a number, of the length of a text, of the size of a list or map
//	enum:"A|B"        the texts allowed (in a list: for its items)
//	doc:"…"           a sentence for the documentation
//
// A constructor that refuses a value returns Wrong, so that the user is shown the line.
func Define[C any](s Spec, build func(C) (Node, error)) Kind {
	return Kind{
		Spec: s, config: reflect.TypeFor[C](),
		build: func(v reflect.Value) (Node, error) { return build(v.Interface().(C)) },
	}
}

// New makes a node of a config as ParseJSON gives it; nil means that all is left out. Every mistake is in the error, which is
// a *ConfigError.
func (k Kind) New(config map[string]any) (Node, error) {
	target := reflect.New(k.config).Elem()
	var d decoder
	d.object(target, config, nil)
	if len(d.problems) > 0 {
		return nil, &ConfigError{Problems: d.problems}
	}
	n, err := k.build(target)
	if err != nil {
		return nil, asConfigError(err)
	}
	return n, nil
}

// Decode fills a struct with the tags that Define knows, with the same strictness; the error is a *ConfigError. It is for
// files beside chains that are written by the same people.
func Decode[C any](from map[string]any) (C, error) {
	var out C
	var d decoder
	d.object(reflect.ValueOf(&out).Elem(), from, nil)
	if len(d.problems) > 0 {
		return out, &ConfigError{Problems: d.problems}
	}
	return out, nil
}

// Emits tells whether the kind may emit along a relation; the match is case-insensitive, as ThingsBoard's.
func (k Kind) Emits(relation string) bool {
	return k.Custom || contains(k.Relations, relation)
}

// EmptyConfig is the config of nodes that have nothing to configure (ThingsBoard's EmptyNodeConfiguration).
type EmptyConfig struct {
	Version int `json:"version" default:"0" doc:"Accepted for ThingsBoard's sake; means nothing."`
}
