package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	namedLine = regexp.MustCompile("(?s)\\bline\\s+`([^`]+)`")
	codeSpan  = regexp.MustCompile("`([^`]+)`")
)

// textsOfTheProgram are all texts in the code, one a line; tests are left out.
func textsOfTheProgram(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	for _, dir := range []string{"api", "cmd", "chains", "engine", "eventstore", "registry", "transports"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(name string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					text, _ := strconv.Unquote(lit.Value) // the parser accepted it
					out.WriteString("\n" + text + "\n")
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

// newestLogLines are the log lines of now in the newest chapter of the page: the second cells of its tables.
func newestLogLines(t *testing.T) (out []string) {
	t.Helper()
	_, part, found := strings.Cut(read(t, "docs/upgrading.md"), "\n### Log lines\n")
	if !found {
		t.Fatal("docs/upgrading.md has no part about log lines")
	}
	part, _, _ = strings.Cut(part, "\n### ")
	for line := range strings.Lines(part) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		for _, m := range codeSpan.FindAllStringSubmatch(cells[2], -1) {
			out = append(out, m[1])
		}
	}
	if len(out) == 0 {
		t.Fatal("docs/upgrading.md names no log lines")
	}
	return out
}

// TestNamedLogLinesExist: who searches the log for a line that a page names must find it.
func TestNamedLogLinesExist(t *testing.T) {
	texts := textsOfTheProgram(t)
	for _, line := range newestLogLines(t) {
		if !strings.Contains(texts, "\n"+line+"\n") {
			t.Errorf("docs/upgrading.md names the log line %q, which nothing writes", line)
		}
	}
	for _, page := range []string{"docs/observability.md", "docs/operation.md"} {
		for _, m := range namedLine.FindAllStringSubmatch(read(t, page), -1) {
			if !strings.Contains(texts, "\n"+m[1]) {
				t.Errorf("%s names the log line %q, which nothing writes", page, m[1])
			}
		}
	}
}
