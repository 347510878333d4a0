package structure_test

import (
	"fmt"
	"strconv"
	"strings"
)

// checkImports is rule R1 on direct imports of production files. Indirect imports are checked in the package that has them;
// registry opens its databases itself, so whoever imports it links their drivers.
func checkImports(t *tree) []finding {
	var out []finding
	for _, s := range t.sources {
		if s.test || s.pkg == "" {
			continue
		}
		rule, ok := ruleFor(s.pkg)
		if !ok {
			out = append(out, finding{
				"R1", s.path, "package " + s.pkg + " has no row in the import table",
				"add a row to importRules in test/structure/rules_test.go",
			})
			continue
		}
		for _, spec := range s.file.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				continue // the parser accepted it, so it is quoted
			}
			if what, fix := importFinding(rule, s.pkg, name); what != "" {
				out = append(out, finding{"R1", t.at(s, spec.Pos()), what, fix})
			}
		}
	}
	return out
}

func ruleFor(pkg string) (importRule, bool) {
	for _, r := range importRules {
		if r.pkg.MatchString(pkg) {
			return r, true
		}
	}
	return importRule{}, false
}

// importFinding is what is wrong with pkg importing name, or nothing.
func importFinding(rule importRule, pkg, name string) (what, fix string) {
	own, isOwn := strings.CutPrefix(name, module+"/")
	switch {
	case name == "testing" && !suite.MatchString(pkg) && !strings.HasPrefix(pkg, "test/"):
		return "imports testing outside a test", "move the code to a _test.go file or to a suite package"
	case name == "log":
		return "imports log", "use log/slog"
	case isOwn && suite.MatchString(own) && !suite.MatchString(pkg) && !strings.HasPrefix(pkg, "test/"):
		return fmt.Sprintf("%s imports the test suite %s", pkg, own), "only tests import suites"
	case isOwn && !rule.own.MatchString(own):
		return fmt.Sprintf("%s imports %s", pkg, own), rule.why + ": depend on a contract, or wire it in cmd"
	case !isOwn && !isStd(name) && !rule.third.MatchString(name):
		return fmt.Sprintf("%s imports %s", pkg, name), rule.why + ": use the standard library, or move the code to an adapter"
	}
	return "", ""
}

// isStd recognizes the standard library by the missing dot in the first element, as the go command does.
func isStd(name string) bool {
	first, _, _ := strings.Cut(name, "/")
	return !strings.Contains(first, ".") && first != module
}

// checkPureImports is the import half of rule R2: an allow-list, so that a new package is refused until it is reviewed.
func checkPureImports(t *tree) []finding {
	var out []finding
	for _, s := range t.sources {
		if s.test || !isPure(s.pkg) {
			continue
		}
		for _, spec := range s.file.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil || !isStd(name) || pureStd.MatchString(name) {
				continue // a quoted path, or one that rule R1 checks
			}
			out = append(out, finding{
				"R2", t.at(s, spec.Pos()), "the pure package " + s.pkg + " imports " + name,
				"hand the value in with the command, or return what is wanted for the owner to do",
			})
		}
	}
	return out
}

func isPure(pkg string) bool { return pure.MatchString(pkg) && !impure.MatchString(pkg) }
