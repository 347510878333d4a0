package docs_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"callchain/cmd/callchain/settings"
	"callchain/nodes"
	"callchain/nodes/builtin"
	"callchain/nodes/script/goja"
)

var rewrite = flag.Bool("rewrite", false, "write the generated parts of the pages")

// generatedFrom stands in a page before the part that code writes.
const generatedFrom = "<!-- From here on: go test ./test/docs -run Generated -rewrite -->\n"

// TestGeneratedPages compares the pages that repeat what the code says of itself with the code.
func TestGeneratedPages(t *testing.T) {
	for page, want := range map[string]string{
		"docs/nodes.md": kindsOfNodes(), "docs/settings.md": settings.Markdown(), "docs/endpoints.md": endpoints(t),
	} {
		top, got, found := strings.Cut(read(t, page), generatedFrom)
		switch {
		case !found:
			t.Errorf("%s lacks the line %q", page, strings.TrimSpace(generatedFrom))
		case strings.TrimSpace(got) == strings.TrimSpace(want):
		case *rewrite:
			text := top + generatedFrom + "\n" + strings.TrimSpace(want) + "\n"
			if err := os.WriteFile(filepath.Join(root, page), []byte(text), 0o644); err != nil {
				t.Error(err)
			}
		default:
			t.Errorf("%s is not what the code says: go test ./test/docs -run Generated -rewrite", page)
		}
	}
}

// kindsOfNodes is a chapter for each category of nodes, with a part for each kind.
func kindsOfNodes() string {
	titles := map[nodes.Category]string{
		nodes.Action: "Action", nodes.Enrichment: "Enrichment", nodes.External: "External", nodes.Filter: "Filter", nodes.Flow: "Flow",
		nodes.Transform: "Transformation",
	}
	var b strings.Builder
	var last nodes.Category
	for _, k := range builtin.WithScripts(goja.New(0)).Kinds() {
		if k.Category != last {
			b.WriteString("\n## " + titles[k.Category] + "\n")
			last = k.Category
		}
		b.WriteString("\n" + k.Markdown())
	}
	return b.String()
}
