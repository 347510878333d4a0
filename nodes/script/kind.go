package script

import (
	"errors"
	"fmt"
	"strings"

	"callchain/nodes"
)

// BodyMax is the most bytes of a script (ThingsBoard: max_script_body_size).
const BodyMax = 50_000

// Config is the config of a node that consists of its script.
type Config struct {
	Lang string `json:"scriptLang" enum:"JS|TBEL" doc:"Language; if left out it is JS if there is a jsScript, else TBEL."`
	JS   string `json:"jsScript" doc:"Body of the function in JavaScript; used if scriptLang is JS."`
	TBEL string `json:"tbelScript" doc:"Body of the function in TBEL; used if scriptLang is TBEL."`
}

// Chosen is the language of the config and the script in it. Configs from before TBEL name no language (ThingsBoard: null means JS).
func (c Config) Chosen() (lang Lang, body, field string) {
	if c.Lang == string(JavaScript) || c.Lang == "" && c.JS != "" {
		return JavaScript, c.JS, "jsScript"
	}
	return TBEL, c.TBEL, "tbelScript"
}

// Compile makes the function; what is wrong names the field.
func (c Config) Compile(e Engine) (Function, error) {
	lang, body, field := c.Chosen()
	switch {
	case e == nil:
		return Function{}, nodes.Wrong(field, "scripts are not run here")
	case strings.TrimSpace(body) == "":
		return Function{}, nodes.Wrong(field, "the script is empty; write the body of a function (msg, metadata, msgType)")
	case len(body) > BodyMax:
		return Function{}, nodes.Wrong(field, "the script has %d bytes, more than %d", len(body), BodyMax)
	}
	s, err := e.Compile(lang, body)
	if err != nil {
		return Function{}, nodes.Wrong(field, "%v", err)
	}
	return Function{script: s}, nil
}

// Kind is a kind of node that lacks only the engine.
type Kind struct{ with func(Engine) nodes.Kind }

// With is the kind whose scripts an engine runs; nil makes one that refuses scripts.
func (k Kind) With(e Engine) nodes.Kind { return k.with(e) }

// Define makes a Kind whose config is its script.
func Define(s nodes.Spec, build func(Function) nodes.Node) Kind {
	return DefineWith(s, func(c Config, e Engine) (nodes.Node, error) {
		f, err := c.Compile(e)
		if err != nil {
			return nil, err
		}
		return build(f), nil
	})
}

// DefineWith makes a Kind of a config struct and a constructor that is given the engine; the engine may be nil.
func DefineWith[C any](s nodes.Spec, build func(C, Engine) (nodes.Node, error)) Kind {
	return Kind{with: func(e Engine) nodes.Kind {
		return nodes.Define(s, func(c C) (nodes.Node, error) { return build(c, e) })
	}}
}

// Language is the documentation of scripts for the pages of the nodes that run them.
const Language = "The script is the body of a function `(msg, metadata, msgType)` in JavaScript, or in TBEL as far as its syntax is also JavaScript's. " +
	"See [scripts](chains.md#scripts) for what they can do, their limits and how errors are told."

// MessagesMax is the most messages that one script may make of one.
const MessagesMax = 500

// RelationsMax is the most relations that one script may name.
const RelationsMax = 50

// errType is how ThingsBoard's message about a result begins.
func (f Function) errType(want string, got any) error {
	return fmt.Errorf("Wrong result type: %s must give %s, but gave %s", f.name(), want, describe(got)) //nolint:staticcheck // the words of ThingsBoard
}

// Bool runs a script that gives true or false; nothing else is taken for it.
func (f Function) Bool(m nodes.Msg) (bool, error) {
	v, err := f.call(m)
	if err != nil {
		return false, err
	}
	b, ok := v.(bool)
	if !ok {
		return false, f.errType("true or false", v)
	}
	return b, nil
}

// Text runs a script that gives a text.
func (f Function) Text(m nodes.Msg) (string, error) {
	v, err := f.call(m)
	if err != nil {
		return "", err
	}
	s, ok := v.(string)
	if !ok {
		return "", f.errType("a text", v)
	}
	return s, nil
}

// AnyText runs a script that gives a text, or anything, which is then written as JSON.
func (f Function) AnyText(m nodes.Msg) (string, error) {
	v, err := f.call(m)
	if err != nil {
		return "", err
	}
	if _, nothing := v.(Undefined); nothing {
		return "", f.errType("a text", v)
	}
	return text(v)
}

// Relations runs a script that gives the name of a relation or a list of them; what is named twice counts once, as in ThingsBoard.
func (f Function) Relations(m nodes.Msg) ([]string, error) {
	v, err := f.call(m)
	if err != nil {
		return nil, err
	}
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	if len(list) > RelationsMax {
		return nil, fmt.Errorf("%s names %d relations, more than %d", f.name(), len(list), RelationsMax)
	}
	out, seen := make([]string, 0, len(list)), make(map[string]bool, len(list))
	for _, item := range list {
		relation, ok := item.(string)
		if !ok {
			return nil, f.errType("the name of a relation or a list of names", item)
		}
		if relation == "" {
			return nil, errors.New(f.name() + " names a relation that has no name")
		}
		if !seen[relation] {
			seen[relation] = true
			out = append(out, relation)
		}
	}
	return out, nil
}
