package examples

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestEveryCommandIsRun fails for a page with commands that nobody tries: each block of them is run by TestPages, or says why not.
func TestEveryCommandIsRun(t *testing.T) {
	all := markdown(t, ".", "docs", "deploy", "examples")
	for _, page := range all {
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		blocks, err := parsePage(string(text))
		if err != nil {
			t.Errorf("%s: %v", page, err)
			continue
		}
		run := slices.ContainsFunc(blocks, func(b block) bool { return b.skip == "" })
		if run != slices.Contains(pages, page) {
			t.Errorf("%s has commands to run: %v; it is in the list of pages_test.go: %v", page, run, !run)
		}
	}
	for _, page := range pages {
		if !slices.Contains(all, page) {
			t.Errorf("%s is not there", page)
		}
	}
}

// markdown are the pages in the root and in all folders below the others.
func markdown(t *testing.T, folders ...string) []string {
	t.Helper()
	var out []string
	for _, folder := range folders {
		err := fs.WalkDir(os.DirFS(root), folder, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				if err == nil && folder == "." && path != "." {
					return fs.SkipDir
				}
				return err
			}
			if strings.HasSuffix(path, ".md") {
				out = append(out, path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}
