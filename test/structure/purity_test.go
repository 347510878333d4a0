package structure_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// exports maps import paths to files of export data, as `go list -export` built them.
type exports map[string]string

// listExports builds what the packages of patterns import and returns where the results are. Packages that do not compile
// are left out; the type check names their errors.
func listExports(root string, patterns ...string) (exports, error) {
	cmd := exec.Command("go", append([]string{"list", "-e", "-export", "-deps", "-json=ImportPath,Export"}, patterns...)...)
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if err != nil && len(text) == 0 {
		return nil, fmt.Errorf("listing packages: %w\n%s", err, stderr.String())
	}
	out := exports{}
	for dec := json.NewDecoder(bytes.NewReader(text)); ; {
		var p struct{ ImportPath, Export string }
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return nil, fmt.Errorf("reading the list of packages: %w", err)
		}
		if p.Export != "" {
			out[p.ImportPath] = p.Export
		}
	}
}

func (e exports) open(path string) (io.ReadCloser, error) {
	name, ok := e[path]
	if !ok {
		return nil, fmt.Errorf("package %s did not compile", path)
	}
	return os.Open(name)
}

// checkPurity is the other half of rule R2: it resolves every name by its type, so that an alias or a dot import hides nothing.
func checkPurity(t *tree, e exports) []finding {
	byPackage := map[string][]*source{}
	for _, s := range t.sources {
		if !s.test && isPure(s.pkg) {
			byPackage[s.pkg] = append(byPackage[s.pkg], s)
		}
	}
	imp := importer.ForCompiler(t.fset, "gc", e.open)
	var out []finding
	for pkg, sources := range byPackage {
		out = append(out, t.checkPurePackage(pkg, sources, imp)...)
	}
	slices.SortFunc(out, func(a, b finding) int { return strings.Compare(a.at, b.at) })
	return out
}

func (t *tree) checkPurePackage(pkg string, sources []*source, imp types.Importer) []finding {
	var out []finding
	files := make([]*ast.File, len(sources))
	byName := map[string]*source{}
	for i, s := range sources {
		files[i] = s.file
		byName[s.path] = s
	}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	conf := types.Config{Importer: imp, Error: func(err error) {
		out = append(out, finding{"R2", pkg, "cannot be type-checked: " + err.Error(), "make it compile"})
	}}
	// Check repeats the first of the errors that conf.Error has already recorded.
	_, _ = conf.Check(module+"/"+pkg, t.fset, files, info)
	for id, obj := range info.Uses {
		if fix, ok := forbiddenUses[fullName(obj)]; ok {
			s := byName[t.fset.Position(id.Pos()).Filename]
			out = append(out, finding{"R2", t.at(s, id.Pos()), "the pure package " + pkg + " uses " + fullName(obj), fix})
		}
	}
	for _, s := range sources {
		out = append(out, t.concurrency(s)...)
	}
	return out
}

func fullName(obj types.Object) string {
	if f, ok := obj.(*types.Func); ok {
		return f.FullName()
	}
	if obj.Pkg() == nil || obj.Parent() != obj.Pkg().Scope() {
		return ""
	}
	return obj.Pkg().Path() + "." + obj.Name()
}

// concurrency finds goroutines and channels: the order in which they run is no input of the step.
func (t *tree) concurrency(s *source) []finding {
	var out []finding
	found := func(pos token.Pos, what string) {
		out = append(out, finding{"R2", t.at(s, pos), "the pure package " + s.pkg + " " + what, "return what is to be done; the owner does it"})
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			found(n.Pos(), "starts a goroutine")
		case *ast.ChanType:
			found(n.Pos(), "has a channel")
		case *ast.SelectStmt:
			found(n.Pos(), "waits in a select")
		}
		return true
	})
	return out
}
