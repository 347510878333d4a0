package chains

import (
	"strings"

	"callchain/nodes"
)

// Schema is the JSON Schema (draft 2020-12) of definitions whose nodes are of these kinds: for editors, and for those who
// generate chains. What it cannot say (targets that exist, cycles, expressions) Compile says.
func Schema(kinds nodes.Registry) map[string]any {
	var variants []any
	for _, k := range kinds.Kinds() {
		variants = append(variants, nodeSchema(k))
	}
	return map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Callchain rule chain",
		"type": "object", "additionalProperties": false, "required": []any{"name", "nodes"},
		"properties": map[string]any{
			"name":        map[string]any{"type": "string", "minLength": int64(1), "maxLength": int64(nameMax), "description": "Name of the chain."},
			"description": map[string]any{"type": "string", "description": "What the chain is for."},
			"root":        map[string]any{"type": "boolean", "default": false, "description": "The chain of devices whose profile names none."},
			"first":       map[string]any{"type": "string", "description": "Node that gets the messages; the first of the list if left out."},
			"nodes": map[string]any{
				"type": "array", "minItems": int64(1), "maxItems": int64(NodesMax),
				"items": map[string]any{"oneOf": variants},
			},
		},
	}
}

func nodeSchema(k nodes.Kind) map[string]any {
	props := map[string]any{
		"name":        map[string]any{"type": "string", "minLength": int64(1), "maxLength": int64(nameMax)},
		"type":        map[string]any{"const": k.Type},
		"description": map[string]any{"type": "string"},
		"config":      k.Schema(),
		"to":          linkSchema(k),
	}
	required := []any{"name", "type"}
	for _, f := range k.Fields() {
		if f.Required {
			required = append(required, "config")
			break
		}
	}
	return map[string]any{
		"type": "object", "title": k.Type, "description": k.Summary, "properties": props,
		"required": required, "additionalProperties": false,
	}
}

func linkSchema(k nodes.Kind) map[string]any {
	target := map[string]any{"oneOf": []any{
		map[string]any{"type": "string"},
		map[string]any{"type": "array", "items": map[string]any{"type": "string"}, "minItems": int64(1), "uniqueItems": true},
	}}
	out := map[string]any{"type": "object"}
	props := map[string]any{}
	for _, r := range k.Relations {
		props[r] = target
	}
	out["properties"] = props
	if k.Custom {
		out["additionalProperties"] = target
		return out
	}
	// Relations match in any case, so an editor suggests the names as they are and accepts others that differ in case only.
	out["additionalProperties"] = false
	if len(k.Relations) > 0 {
		out["patternProperties"] = map[string]any{anyCase(k.Relations): target}
	}
	return out
}

// anyCase is a pattern that matches the words in any case; JSON Schema has no flag for it.
func anyCase(words []string) string {
	var b strings.Builder
	b.WriteString("^(")
	for i, w := range words {
		if i > 0 {
			b.WriteByte('|')
		}
		for _, c := range w {
			low, high := strings.ToLower(string(c)), strings.ToUpper(string(c))
			if low == high {
				b.WriteRune(c)
				continue
			}
			b.WriteString("[" + low + high + "]")
		}
	}
	b.WriteString(")$")
	return b.String()
}
