package settings

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
)

// fileBytesMax bounds the file: every setting with its comment takes a few kilobytes.
const fileBytesMax = 1 << 20

// file reads the YAML file; nested and dotted keys mean the same.
func (from Sources) file(all []setting, _ *koanf.Koanf) ([]given, error) {
	if from.File == "" {
		return nil, nil
	}
	info, err := os.Stat(from.File)
	if err == nil && info.Size() > fileBytesMax {
		err = fmt.Errorf("it has more than %d bytes", fileBytesMax)
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(from.File)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the settings of %s: %w", from.File, err)
	}
	parsed, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, fmt.Errorf("reading the settings of %s: %s", from.File, oneLine(err))
	}
	f := yamlFile{name: filepath.Base(from.File), known: all, seen: map[string]bool{}}
	for _, doc := range parsed.Docs {
		if doc.Body == nil {
			continue // only comments
		}
		if err := f.read("", doc.Body); err != nil {
			return nil, err
		}
	}
	return f.values, nil
}

// oneLine takes the first line of the parser's error, which has the place and the fault; a picture of the source follows it.
func oneLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// yamlFile collects the values of a file with their lines.
type yamlFile struct {
	name   string
	known  []setting
	seen   map[string]bool
	values []given
}

func (f *yamlFile) at(n ast.Node) origin {
	return origin(fmt.Sprintf("file %s:%d", f.name, n.GetToken().Position.Line))
}

func (f *yamlFile) read(prefix string, n ast.Node) error {
	switch n := n.(type) {
	case *ast.MappingNode:
		for _, v := range n.Values {
			if err := f.entry(prefix, v); err != nil {
				return err
			}
		}
		return nil
	case *ast.MappingValueNode: // a mapping of one entry
		return f.entry(prefix, n)
	}
	return &Error{Key: strings.TrimSuffix(prefix, "."), Reason: "must hold keys with values", Origin: string(f.at(n))}
}

func (f *yamlFile) entry(prefix string, v *ast.MappingValueNode) error {
	key := prefix + v.Key.GetToken().Value
	s, isSetting := find(f.known, key)
	isGroup := slices.ContainsFunc(f.known, func(s setting) bool { return strings.HasPrefix(s.key, key+".") })
	switch {
	case isGroup && v.Value.Type() == ast.NullType:
		return nil // a group whose entries are all commented out
	case isGroup:
		return f.read(key+".", v.Value)
	case !isSetting:
		return unknown(f.known, key, f.at(v.Key))
	case f.seen[key]:
		return &Error{Key: key, Reason: "is set twice", Origin: string(f.at(v.Key))}
	}
	f.seen[key] = true
	text, err := scalar(v.Value)
	if err != nil {
		return &Error{Key: s.key, Reason: err.Error(), Origin: string(f.at(v.Key))}
	}
	f.values = append(f.values, given{key, text, f.at(v.Key)})
	return nil
}

func scalar(n ast.Node) (string, error) {
	switch n := n.(type) {
	case *ast.NullNode:
		return "", nil
	case *ast.LiteralNode:
		return strings.TrimSpace(n.Value.Value), nil
	case ast.ScalarNode:
		return n.GetToken().Value, nil
	}
	return "", errors.New("must be a single value")
}

// unknown hints at the known key that is most like it.
func unknown(all []setting, key string, at origin) error {
	keys := make([]string, len(all))
	for i, s := range all {
		keys[i] = s.key
	}
	e := &Error{Key: key, Reason: "is no setting", Origin: string(at)}
	if near := nearest(key, keys); near != "" {
		e.Reason += ", did you mean " + near + "?"
	}
	return e
}

// notSettings are names under CALLCHAIN_ that other parts of the project read.
var notSettings = []string{"URL", "TOKEN", "BINARY", "CONFORMANCE"}

// environment reads CALLCHAIN_HTTP_ADDR for http.addr; a name that is no setting's is refused.
func (from Sources) environment(all []setting, _ *koanf.Koanf) ([]given, error) {
	var out []given
	for _, pair := range from.Environ {
		name, value, _ := strings.Cut(pair, "=")
		short, ours := strings.CutPrefix(name, environmentPrefix)
		if !ours || slices.Contains(notSettings, short) || strings.HasPrefix(short, "TEST_") {
			continue
		}
		i := slices.IndexFunc(all, func(s setting) bool { return s.environment() == name })
		if i < 0 {
			return nil, unknownName(all, name)
		}
		out = append(out, given{all[i].key, value, origin("environment " + name)})
	}
	return out, nil
}

func unknownName(all []setting, name string) error {
	names := make([]string, len(all))
	for i, s := range all {
		names[i] = s.environment()
	}
	e := &Error{Key: name, Reason: "is no setting", Origin: "environment"}
	if near := nearest(name, names); near != "" {
		e.Reason += ", did you mean " + near + "?"
	}
	return e
}

// thingsBoard reads the names that ThingsBoard's thingsboard.yml gives its settings in the environment; CALLCHAIN_ names win.
func (from Sources) thingsBoard(all []setting, k *koanf.Koanf) ([]given, error) {
	var out []given
	for _, pair := range from.Environ {
		name, value, _ := strings.Cut(pair, "=")
		for _, s := range all {
			if s.tb != "" && s.tb == name {
				out = append(out, given{s.key, s.fromThingsBoard(value, k.String(s.key)), origin("environment " + name)})
			}
		}
	}
	return out, nil
}

func (from Sources) flags(all []setting, _ *koanf.Koanf) ([]given, error) {
	var out []given
	for key, value := range from.Flags {
		at := origin("flag --" + key)
		if _, ok := find(all, key); !ok {
			return nil, unknown(all, key, at)
		}
		out = append(out, given{key, value, at})
	}
	return out, nil
}

// AddFlags gives a command one flag a setting: --http.addr.
func AddFlags(flags *pflag.FlagSet) {
	for _, s := range table() {
		f := flags.VarPF(&flagValue{text: s.shownDefault(), kind: s.valueKind()}, s.key, "", s.doc)
		if s.valueKind() == "true, false" {
			f.NoOptDefVal = "true"
		}
	}
}

// Given are the flags of settings that were on the command line, for Sources.Flags.
func Given(flags *pflag.FlagSet) map[string]string {
	out := map[string]string{}
	all := table()
	flags.Visit(func(f *pflag.Flag) {
		if v, ours := f.Value.(*flagValue); ours {
			if _, ok := find(all, f.Name); ok {
				out[f.Name] = v.text
			}
		}
	})
	return out
}

// flagValue keeps the text; it is checked with those of the other sources.
type flagValue struct{ text, kind string }

func (v *flagValue) String() string { return v.text }

// Set takes what stands on the command line.
func (v *flagValue) Set(text string) error { v.text = text; return nil }

// Type is shown in the command's help.
func (v *flagValue) Type() string { return v.kind }
