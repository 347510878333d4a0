package chains

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"callchain/nodes"
)

// Print writes a definition as YAML in the customary order. Parse reads it back as the same definition.
func Print(d Definition) []byte {
	var p printer
	p.field(0, "name", d.Name, true)
	p.field(0, "description", d.Description, false)
	if d.Root {
		p.b.WriteString("root: true\n")
	}
	p.field(0, "first", d.First, false)
	if len(d.Nodes) == 0 {
		p.b.WriteString("nodes: []\n")
		return p.b.Bytes()
	}
	p.b.WriteString("nodes:\n")
	for _, n := range d.Nodes {
		p.node(n)
	}
	return p.b.Bytes()
}

type printer struct{ b bytes.Buffer }

func (p *printer) indent(n int) { p.b.WriteString(strings.Repeat("  ", n)) }

func (p *printer) field(depth int, key, text string, always bool) {
	if text == "" && !always {
		return
	}
	p.indent(depth)
	fmt.Fprintf(&p.b, "%s: %s\n", key, word(text))
}

func (p *printer) node(n NodeDefinition) {
	fmt.Fprintf(&p.b, "  - name: %s\n", word(n.Name))
	p.field(2, "type", n.Type, true)
	p.field(2, "description", n.Description, false)
	if n.Config != nil {
		p.b.WriteString("    config:")
		p.value(3, n.Config)
	}
	if len(n.To) == 0 {
		return
	}
	p.b.WriteString("    to:\n")
	for _, l := range n.To {
		p.indent(3)
		p.b.WriteString(word(l.Relation) + ": ")
		if len(l.Nodes) == 1 {
			p.b.WriteString(word(l.Nodes[0]) + "\n")
			continue
		}
		words := make([]string, len(l.Nodes))
		for i, name := range l.Nodes {
			words[i] = word(name)
		}
		p.b.WriteString("[" + strings.Join(words, ", ") + "]\n")
	}
}

// value writes what stands behind a colon or a dash, and the end of the line.
func (p *printer) value(depth int, v any) {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 {
			p.b.WriteString(" {}\n")
			return
		}
		p.b.WriteByte('\n')
		for _, k := range slices.Sorted(maps.Keys(v)) {
			p.indent(depth)
			p.b.WriteString(word(k) + ":")
			p.value(depth+1, v[k])
		}
	case []any:
		if len(v) == 0 {
			p.b.WriteString(" []\n")
			return
		}
		p.b.WriteByte('\n')
		for _, item := range v {
			p.indent(depth)
			p.b.WriteByte('-')
			p.value(depth+1, item)
		}
	default:
		p.b.WriteString(" " + scalarText(v) + "\n")
	}
}

func scalarText(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return floatText(v)
	case string:
		return word(v)
	}
	panic(fmt.Sprintf("chains: a config holds a value of type %T", v))
}

// floatText always has a point: some readers of YAML take 1e+21 for text, and 2 is another type than 2.0.
func floatText(f float64) string {
	text := strconv.FormatFloat(f, 'g', -1, 64)
	if strings.Contains(text, ".") {
		return text
	}
	mantissa, exponent, ok := strings.Cut(text, "e")
	if !ok {
		return text + ".0"
	}
	return mantissa + ".0e" + exponent
}

// bare are the texts that need no quotes in YAML, in any place and version.
var bare = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*([ /+-][A-Za-z0-9_.]+)*$`)

// reserved are words that some readers of YAML take for something else than text.
var reserved = regexp.MustCompile(`(?i)^(true|false|yes|no|on|off|y|n|null|nan|inf)$`)

func word(s string) string {
	if bare.MatchString(s) && !reserved.MatchString(s) {
		return s
	}
	return string(nodes.AppendString(nil, s))
}
