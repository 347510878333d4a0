package structure_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var codeSpan = regexp.MustCompile("`([^`]+/[^`]+)`")

// namedDependencies are the modules that the table under R16 gives a reason for, without the host github.com.
func namedDependencies(rules string) []string {
	_, part, _ := strings.Cut(rules, "**R16")
	part, _, _ = strings.Cut(part, "**R17")
	var out []string
	for line := range strings.Lines(part) {
		cell, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|")
		if !strings.HasPrefix(line, "|") {
			continue
		}
		for _, m := range codeSpan.FindAllStringSubmatch(cell, -1) {
			out = append(out, m[1])
		}
	}
	return out
}

// checkDependencies is rule R16: what is imported, tests included, has its reason.
func checkDependencies(t *tree, named []string) []finding {
	var out []finding
	seen := map[string]bool{}
	for _, s := range t.sources {
		for _, spec := range s.file.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil || isStd(name) || strings.HasPrefix(name, module+"/") || hasReason(name, named) || seen[name] {
				continue
			}
			seen[name] = true
			out = append(out, finding{"R16", t.at(s, spec.Pos()), name + " has no reason", "name it with its reason in CONTRIBUTING.md, or do without"})
		}
	}
	return out
}

func hasReason(name string, named []string) bool {
	name = strings.TrimPrefix(name, "github.com/") + "/"
	for _, n := range named {
		if strings.HasPrefix(name, n+"/") {
			return true
		}
	}
	return false
}

func TestDependenciesHaveReasons(t *testing.T) {
	rules, err := os.ReadFile(filepath.Join(root, "CONTRIBUTING.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := namedDependencies(string(rules))
	if len(named) == 0 {
		t.Fatal("CONTRIBUTING.md has no table of dependencies under R16")
	}
	project, err := readTree(root)
	if err != nil {
		t.Fatal(err)
	}
	report(t, checkDependencies(project, named))
}

func TestDependencyWithoutReasonIsFound(t *testing.T) {
	named := namedDependencies("**R16 x\n| a | b |\n| `jackc/pgx` | `not/this` |\n| `go.uber.org/goleak`, `x/y` | tests |\n**R17")
	sources := parse(t, one("engine/a.go", "package engine\nimport (\n\"github.com/jackc/pgx/v5\"\n\"go.uber.org/goleak\"\n\"os\"\n)"))
	expect(t, checkDependencies(sources, named), "")
	expect(t, checkDependencies(parse(t, one("engine/a.go", "package engine\nimport \"github.com/not/this\"")), named), "R16: engine/a.go:2: github.com/not/this has no reason")
}
