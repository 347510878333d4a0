// Package docs_test keeps the pages true: links lead somewhere, decisions have their form, and tables that repeat code agree with
// it.
package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

// pages are all Markdown files of the project, from its root.
func pages(t *testing.T) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		if d.IsDir() && (rel == ".git" || rel == ".run" || rel == "bin" || rel == "data" || d.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(rel, ".md") {
			out = append(out, rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) == 0 {
		t.Fatal("found no pages: the test does not run at its place in the tree")
	}
	return out
}

func read(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var link = regexp.MustCompile(`\]\(([^)#\s]+)(?:#[^)]*)?\)`)

func TestLinksLeadSomewhere(t *testing.T) {
	for _, page := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(read(t, page), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s links to %s, which does not exist", page, m[1])
			}
		}
	}
}

var dated = regexp.MustCompile(`\A# \d{4} .+\n\n\d{4}-\d{2}-\d{2}\n`)

// TestDecisionsHaveTheirForm is rule R14 of CONTRIBUTING.md.
func TestDecisionsHaveTheirForm(t *testing.T) {
	list := read(t, "docs/decisions/README.md")
	for _, page := range pages(t) {
		name := filepath.Base(page)
		if filepath.Dir(page) != "docs/decisions" || name == "README.md" {
			continue
		}
		text := read(t, page)
		if !dated.MatchString(text) {
			t.Errorf("%s does not begin with \"# NNNN Title\", an empty line and its date", page)
		}
		rest := text
		for _, part := range []string{"\n## Decision\n", "\n## Why\n", "\n## Consequences\n", "\n## Rejected\n"} {
			_, after, found := strings.Cut(rest, part)
			if !found {
				t.Errorf("%s lacks %q, or has it in another order", page, strings.TrimSpace(part))
				break
			}
			rest = after
		}
		if !strings.Contains(list, "]("+name+")") {
			t.Errorf("docs/decisions/README.md does not list %s", name)
		}
	}
}
