package structure_test

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// logPage holds the one list of the names that stand in lines of the log.
const logPage = "docs/observability.md"

var (
	logRow  = regexp.MustCompile(`(?m)^\|([^|]+)\|`)
	logName = regexp.MustCompile("`([A-Za-z]+)`")
)

// logNames are the names in the table under the page's heading about logs.
func logNames(page string) map[string]bool {
	_, part, _ := strings.Cut(page, "\n## Logs\n")
	part, _, _ = strings.Cut(part, "\n## ")
	out := map[string]bool{}
	for _, row := range logRow.FindAllStringSubmatch(part, -1) {
		for _, m := range logName.FindAllStringSubmatch(row[1], -1) {
			out[m[1]] = true
		}
	}
	return out
}

// checkLogs is the second half of rule R12: the names in a line are from the list, and a line about a call says whose.
func checkLogs(t *tree, known map[string]bool) []finding {
	var out []finding
	for _, s := range t.sources {
		if s.test || s.generated {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || !logs(call) {
				return true
			}
			names := map[string]bool{}
			for i := 1; i < len(call.Args); i += 2 {
				name, ok := text(call.Args[i])
				if !ok || !known[name] {
					out = append(out, finding{"R12", t.at(s, call.Args[i].Pos()), "logs under the name " + name, "take a name from the table in " + logPage + ", or add one with its meaning"})
				}
				names[name] = true
			}
			if names["rpcId"] && !(names["device"] && names["tenant"]) {
				out = append(out, finding{"R12", t.at(s, call.Pos()), "logs a call without its device and tenant", "add them"})
			}
			return true
		})
	}
	return out
}

// logs is true of log.Warn("…", …) and x.log.Warn("…", …): a logger is always called so.
func logs(call *ast.CallExpr) bool {
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || len(call.Args) == 0 {
		return false
	}
	switch method.Sel.Name {
	case "Debug", "Info", "Warn", "Error":
	default:
		return false
	}
	var name string
	switch on := method.X.(type) {
	case *ast.Ident:
		name = on.Name
	case *ast.SelectorExpr:
		name = on.Sel.Name
	}
	return strings.EqualFold(name, "log")
}

func text(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "that is no literal", false
	}
	s, err := strconv.Unquote(lit.Value)
	return s, err == nil
}

func TestLogsUseOneListOfNames(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, logPage))
	if err != nil {
		t.Fatal(err)
	}
	known := logNames(string(page))
	if !known["rpcId"] || !known["error"] {
		t.Fatalf("%s has no table of names under its heading Logs", logPage)
	}
	project, err := readTree(root)
	if err != nil {
		t.Fatal(err)
	}
	report(t, checkLogs(project, known))
}

func TestUnknownLogNamesAreFound(t *testing.T) {
	known := logNames("\n## Logs\n\n| `rpcId` | a |\n| `device`, `tenant` | b |\n| `error` | d |\n\n## Next\n| `later` | e |\n")
	const head = "package engine\nfunc f() {\n"
	expect(t, checkLogs(parse(t, one("engine/a.go", head+"e.log.Warn(\"x\", \"rpcId\", 1, \"device\", 2, \"tenant\", 3)\n}")), known), "")
	expect(t, checkLogs(parse(t, one("engine/a.go", head+"log.Info(\"x\", \"later\", 1)\n}")), known), `R12: engine/a.go:3: logs under the name later`)
	expect(t, checkLogs(parse(t, one("engine/a.go", head+"s.log.Error(\"x\", key, 1)\n}")), known), `R12: engine/a.go:3: logs under the name that is no literal`)
	expect(t, checkLogs(parse(t, one("engine/a.go", head+"s.log.Error(\"x\", \"rpcId\", 1, \"device\", 1)\n}")), known), `R12: engine/a.go:3: logs a call without its device and tenant`)
}
