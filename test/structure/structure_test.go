// Package structure_test executes the rules of CONTRIBUTING.md that a program can check. Each finding names the place,
// the fix and the rule; snippets_test.go shows for each check that it can fail.
package structure_test

import "testing"

const root = "../.."

// purePatterns is what the type check needs to have built: the pure packages that exist and what snippets import.
func purePatterns(t *tree) []string {
	seen := map[string]bool{}
	out := []string{"time", "strings", "github.com/google/uuid"}
	for _, s := range t.sources {
		if !s.test && isPure(s.pkg) && !seen[s.pkg] {
			seen[s.pkg] = true
			out = append(out, "./"+s.pkg)
		}
	}
	return out
}

// checks are the rules that need syntax only.
var checks = []struct {
	name string
	run  func(*tree) []finding
}{
	{"imports", checkImports},
	{"pure imports", checkPureImports},
	{"file length", checkFiles},
	{"function length", checkFunctions},
	{"function length, nine of ten", checkShare},
	{"fields and methods of types", checkTypes},
	{"names", checkNames},
	{"doc comments", checkDocs},
	{"no init", checkInit},
	{"no sleeps", checkSleeps},
	{"discarded results", checkDiscards},
	{"top-level folders", checkFolders},
}

func TestStructure(t *testing.T) {
	project, err := readTree(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(project.sources) == 0 {
		t.Fatal("found no Go files: the test does not run at its place in the tree")
	}
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) { report(t, c.run(project)) })
	}
	t.Run("purity by types", func(t *testing.T) {
		built, err := listExports(root, purePatterns(project)...)
		if err != nil {
			t.Fatal(err)
		}
		report(t, checkPurity(project, built))
	})
}

func report(t *testing.T, found []finding) {
	t.Helper()
	for _, f := range found {
		t.Error(f)
	}
}
