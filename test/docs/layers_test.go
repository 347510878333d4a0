package docs_test

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const layersPage = "docs/architecture.md"

// layersOf are the lines of the page's picture: the packages of the engine, by name, with the number of their line from below.
func layersOf(t *testing.T) map[string]int {
	t.Helper()
	_, part, found := strings.Cut(read(t, layersPage), "\n### Layers of the engine\n")
	if !found {
		t.Fatalf("%s has no picture of the layers", layersPage)
	}
	part, _, _ = strings.Cut(part, "\n## ")
	var lines []string
	for line := range strings.Lines(part) {
		if strings.HasPrefix(line, "    ") {
			lines = append(lines, line)
		}
	}
	out := map[string]int{}
	for i, line := range lines {
		for _, name := range strings.Fields(line) {
			out[name] = len(lines) - i
		}
	}
	return out
}

// packagesOfTheEngine are the folders of the picture: engine and the packages right below it, but for the simulation.
func packagesOfTheEngine(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(root, "engine"))
	if err != nil {
		t.Fatal(err)
	}
	out := []string{"engine"}
	for _, e := range entries {
		if e.IsDir() && e.Name() != "sim" {
			out = append(out, e.Name())
		}
	}
	return out
}

// importsOf are the packages of the engine that a package imports, as the picture names them.
func importsOf(t *testing.T, name string) (out []string) {
	t.Helper()
	dir := filepath.Join(root, "engine", name)
	if name == "engine" {
		dir = filepath.Join(root, "engine")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range f.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if below, ok := strings.CutPrefix(path, "callchain/engine/"); ok {
				out = append(out, below)
			}
		}
	}
	return out
}

// TestLayersOfTheEngine compares the page's picture with the imports.
func TestLayersOfTheEngine(t *testing.T) {
	layers := layersOf(t)
	packages := packagesOfTheEngine(t)
	for _, name := range packages {
		if layers[name] == 0 {
			t.Errorf("%s does not show the package engine/%s", layersPage, name)
			continue
		}
		for _, imported := range importsOf(t, name) {
			if layers[imported] == 0 || layers[imported] >= layers[name] {
				t.Errorf("%s imports engine/%s, which %s does not show below it", name, imported, layersPage)
			}
		}
	}
	for name := range layers {
		if !slices.Contains(packages, name) {
			t.Errorf("%s shows engine/%s, which does not exist", layersPage, name)
		}
	}
}
