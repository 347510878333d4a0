package docs_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"callchain/api"
)

// endpoints is a table for each subject of the OpenAPI document.
func endpoints(t *testing.T) string {
	t.Helper()
	text, err := api.Document()
	if err != nil {
		t.Fatal(err)
	}
	type operation struct {
		method, path, Summary, Description string
		Tags                               []string
	}
	var doc struct {
		Paths map[string]map[string]operation
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	subjects := map[string][]operation{}
	for path, methods := range doc.Paths {
		for method, o := range methods {
			o.method, o.path = strings.ToUpper(method), path
			subjects[o.Tags[0]] = append(subjects[o.Tags[0]], o)
		}
	}
	var b strings.Builder
	for _, subject := range slices.Sorted(maps.Keys(subjects)) {
		list := subjects[subject]
		slices.SortFunc(list, func(a, b operation) int { return cmp.Or(cmp.Compare(a.path, b.path), cmp.Compare(a.method, b.method)) })
		fmt.Fprintf(&b, "\n## %s\n\n| endpoint | what | for |\n|---|---|---|\n", subject)
		for _, o := range list {
			who := strings.TrimSuffix(strings.TrimPrefix(o.Description, "For "), ".")
			if subject == "Device API" {
				who = "the device with this token"
			}
			fmt.Fprintf(&b, "| `%s %s` | %s | %s |\n", o.method, o.path, o.Summary, cmp.Or(who, "anybody"))
		}
	}
	return b.String()
}
