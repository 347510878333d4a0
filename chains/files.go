package chains

import (
	"path"
	"strings"
)

// SuiteOf tells whether a file is named as the tests beside a chain are (name.test.yaml, .yml or .json), and if so the name of the
// chain's file without its extension. Whoever reads folders of chains leaves these files out.
func SuiteOf(file string) (chain string, ok bool) {
	switch ext := path.Ext(file); ext {
	case ".yaml", ".yml", ".json":
		return strings.CutSuffix(strings.TrimSuffix(file, ext), ".test")
	}
	return "", false
}
