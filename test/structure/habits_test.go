package structure_test

import (
	"go/ast"
	"path"
	"strings"
)

// checkInit is rule R6.
func checkInit(t *tree) []finding {
	var out []finding
	for _, s := range t.sources {
		for _, f := range functions(s.file) {
			if f.Recv == nil && f.Name.Name == "init" && !s.generated {
				out = append(out, finding{"R6", t.at(s, f.Pos()), "has a func init", "list it where it is wired; a variable initializer does for tables"})
			}
		}
	}
	return out
}

// checkSleeps is rule R7, for tests and for the product: a sleep is either too short or too long, and nothing can end it.
func checkSleeps(t *tree) []finding {
	var out []finding
	for _, s := range t.sources {
		clock := importedAs(s.file, "time")
		if clock == "" || s.generated {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "Sleep" {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == clock {
				out = append(out, finding{"R7", t.at(s, sel.Pos()), "sleeps", "wait on a condition, a channel or a context; in a synctest bubble on a timer"})
			}
			return true
		})
	}
	return out
}

// importedAs is the name under which a file imports a package, or nothing.
func importedAs(f *ast.File, name string) string {
	for _, spec := range f.Imports {
		if strings.Trim(spec.Path.Value, `"`) != name {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path.Base(name)
	}
	return ""
}

// checkDiscards is rule R8: a result that is thrown away has its reason beside it or on the line above.
func checkDiscards(t *tree) []finding {
	var out []finding
	for _, s := range t.sources {
		if s.generated {
			continue
		}
		reasons := map[int]bool{}
		for _, group := range s.file.Comments {
			reasons[t.fset.Position(group.End()).Line] = true
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			assign, ok := n.(*ast.AssignStmt)
			if !ok || !discards(assign) {
				return true
			}
			from, to := t.fset.Position(assign.Pos()).Line, t.fset.Position(assign.End()).Line
			if reasons[from-1] || reasons[to] {
				reasons[to] = true // one reason may stand above several in a row
			} else {
				out = append(out, finding{"R8", t.at(s, assign.Pos()), "throws a result away without a reason", "handle it, or say in a comment why it does not matter"})
			}
			return true
		})
	}
	return out
}

// discards is true of `_ = call()` and `_, _ = call()`.
func discards(a *ast.AssignStmt) bool {
	for _, l := range a.Lhs {
		if id, ok := l.(*ast.Ident); !ok || id.Name != "_" {
			return false
		}
	}
	if len(a.Rhs) != 1 {
		return false
	}
	_, ok := a.Rhs[0].(*ast.CallExpr)
	return ok
}
