package builtin_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"callchain/nodes/builtin"
	"callchain/nodes/nodetest"
)

func TestKinds(t *testing.T) {
	all := kinds.Kinds()
	if len(all) < 18 {
		t.Fatalf("the registry has %d kinds", len(all))
	}
	for _, k := range all {
		t.Run(k.Type, func(t *testing.T) { nodetest.Run(t, k) })
	}
}

// A kind that is defined and not listed would be silently missing.
func TestEveryDefinedKindIsListed(t *testing.T) {
	listed := map[string]bool{}
	for _, use := range selectors(t, "builtin.go") {
		listed[use] = true
	}
	defined := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		for _, name := range definitions(t, path) {
			defined++
			if !listed[name] {
				t.Errorf("%s defines %s, which builtin.go does not list", path, name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(kinds.Kinds()); defined != n {
		t.Errorf("%d kinds are defined, %d are listed", defined, n)
	}
}

func parse(t *testing.T, path string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func selectors(t *testing.T, path string) []string {
	var out []string
	ast.Inspect(parse(t, path), func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok {
				out = append(out, x.Name+"."+s.Sel.Name)
			}
		}
		return true
	})
	return out
}

// Where no engine is at hand, kinds that need none are there all the same, and a log node with a script says why it is refused.
func TestWithoutEngine(t *testing.T) {
	without := builtin.Registry()
	if _, there := without.Lookup("script filter"); there {
		t.Error("a node that only runs a script is there, and nothing can run it")
	}
	k, _ := without.Lookup("log")
	if _, err := k.New(map[string]any{"jsScript": "return 'x';"}); err == nil || !strings.Contains(err.Error(), "jsScript: scripts are not run here") {
		t.Errorf("a script without an engine: %v", err)
	}
}

// definitions are the variables of a file that Define and DefineWith make, with their package.
func definitions(t *testing.T, path string) []string {
	var out []string
	f := parse(t, path)
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.VAR {
			continue
		}
		for _, s := range g.Specs {
			v, ok := s.(*ast.ValueSpec)
			if !ok || len(v.Values) != 1 {
				continue
			}
			call, ok := v.Values[0].(*ast.CallExpr)
			if !ok {
				continue
			}
			if s, ok := call.Fun.(*ast.SelectorExpr); ok && strings.HasPrefix(s.Sel.Name, "Define") {
				out = append(out, f.Name.Name+"."+v.Names[0].Name)
			}
		}
	}
	return out
}
