package nodes

import (
	"fmt"
	"strconv"
	"strings"
)

// Markdown is the page of a kind: summary, table of fields, relations, example.
func (k Kind) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n%s", k.Type, k.Summary)
	if k.Class != "" {
		fmt.Fprintf(&b, " ThingsBoard: `%s`.", k.Class)
	}
	b.WriteString("\n")
	if k.Doc != "" {
		fmt.Fprintf(&b, "\n%s\n", k.Doc)
	}
	relations := strings.Join(k.Relations, ", ")
	if k.Custom {
		relations = strings.TrimPrefix(relations+", any that you name", ", ")
	}
	if relations != "" {
		fmt.Fprintf(&b, "\nRelations: %s.\n", relations)
	}
	if fields := k.Fields(); len(fields) > 0 {
		b.WriteString("\n| field | type | default | meaning |\n|---|---|---|---|\n")
		for _, f := range fields {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.Name, f.TypeName(), f.defaultText(), f.meaning())
		}
	}
	fmt.Fprintf(&b, "\nExample: `%s`\n", k.Example)
	return b.String()
}

func (f Field) defaultText() string {
	if f.Required {
		return "required"
	}
	if f.Default == nil {
		return ""
	}
	text, err := AppendJSON(nil, f.Default)
	if err != nil {
		panic(fmt.Sprintf("nodes: the default of config field %s: %v", f.Name, err))
	}
	return "`" + string(text) + "`"
}

func (f Field) meaning() string {
	text := strings.ReplaceAll(f.Doc, "|", `\|`)
	if len(f.Enum) > 0 {
		text += " One of " + strings.Join(f.Enum, ", ") + "."
	}
	switch {
	case f.Min != nil && f.Max != nil:
		text += fmt.Sprintf(" From %s to %s.", plainNumber(*f.Min), plainNumber(*f.Max))
	case f.Min != nil:
		text += fmt.Sprintf(" At least %s.", plainNumber(*f.Min))
	case f.Max != nil:
		text += fmt.Sprintf(" At most %s.", plainNumber(*f.Max))
	}
	return strings.TrimSpace(text)
}

// plainNumber writes all digits: fmt would make 3.1536e+07 of a year's seconds.
func plainNumber(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }
