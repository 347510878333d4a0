package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	testName = regexp.MustCompile("`(Test[A-Z][A-Za-z0-9]*)`")
	testFunc = regexp.MustCompile(`(?m)^func (Test[A-Z][A-Za-z0-9]*)\(`)
	treePath = regexp.MustCompile("`((?:api|chains|cmd|docs|engine|eventstore|examples|migrations|nodes|registry|scripts|test|transports)/[A-Za-z0-9_./-]+)`")
)

// testsOfTheTree are the names of all test functions.
func testsOfTheTree(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == ".git" || d.Name() == ".run") {
			return skipped(err)
		}
		if !strings.HasSuffix(name, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for _, m := range testFunc.FindAllSubmatch(text, -1) {
			found[string(m[1])] = true
		}
		return nil
	})
	if err != nil || len(found) == 0 {
		t.Fatalf("found %d tests: %v", len(found), err)
	}
	return found
}

func skipped(err error) error {
	if err != nil {
		return err
	}
	return fs.SkipDir
}

// TestNamedTestsExist: a promise that a page says a test shows needs that test.
func TestNamedTestsExist(t *testing.T) {
	found := testsOfTheTree(t)
	for _, page := range pages(t) {
		for _, m := range testName.FindAllStringSubmatch(read(t, page), -1) {
			if !found[m[1]] {
				t.Errorf("%s names %s, which does not exist", page, m[1])
			}
		}
	}
}

func TestNamedPathsExist(t *testing.T) {
	for _, page := range pages(t) {
		for _, m := range treePath.FindAllStringSubmatch(read(t, page), -1) {
			if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
				t.Errorf("%s names %s, which does not exist", page, m[1])
			}
		}
	}
}
