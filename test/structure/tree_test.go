package structure_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

const module = "callchain"

// finding is one place that breaks a rule of CONTRIBUTING.md.
type finding struct {
	rule, at, what, fix string
}

func (f finding) String() string {
	return fmt.Sprintf("%s: %s: %s (CONTRIBUTING.md %s; fix: %s)", f.rule, f.at, f.what, f.rule, f.fix)
}

// source is one Go file.
type source struct {
	path      string // from the project's root, with slashes
	pkg       string // import path without the module's name; "" for the root
	test      bool
	generated bool
	lines     int
	file      *ast.File
}

// tree is what the checks look at: every Go file (also those behind build tags) and the folders at the top level.
type tree struct {
	fset    *token.FileSet
	sources []*source
	top     []string
}

// at names a place as file:line.
func (t *tree) at(s *source, pos token.Pos) string {
	return fmt.Sprintf("%s:%d", s.path, t.fset.Position(pos).Line)
}

// production are the files that are compiled into the product by hand-written source.
func (t *tree) production() []*source {
	var out []*source
	for _, s := range t.sources {
		if !s.test && !s.generated {
			out = append(out, s)
		}
	}
	return out
}

func newTree() *tree { return &tree{fset: token.NewFileSet()} }

// add parses one file into the tree.
func (t *tree) add(name string, text []byte) error {
	file, err := parser.ParseFile(t.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return fmt.Errorf("parsing %s: %w", name, err)
	}
	pkg := path.Dir(name)
	if pkg == "." {
		pkg = ""
	}
	t.sources = append(t.sources, &source{
		path: name, pkg: pkg, file: file, generated: ast.IsGenerated(file),
		test:  strings.HasSuffix(name, "_test.go"),
		lines: bytes.Count(text, []byte("\n")),
	})
	return nil
}

// readTree parses the project below root.
func readTree(root string) (*tree, error) {
	t := newTree()
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("reading the project's root: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() && !untracked[e.Name()] {
			t.top = append(t.top, e.Name())
		}
	}
	err = filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		return t.visit(filepath.ToSlash(rel), name, d)
	})
	if err != nil {
		return nil, fmt.Errorf("walking the project: %w", err)
	}
	return t, nil
}

func (t *tree) visit(rel, name string, d fs.DirEntry) error {
	switch {
	case d.IsDir() && (untracked[rel] || d.Name() == "testdata" || d.Name() == "node_modules"):
		return filepath.SkipDir
	case d.IsDir() || !strings.HasSuffix(rel, ".go"):
		return nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	return t.add(rel, text)
}
