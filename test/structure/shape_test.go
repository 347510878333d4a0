package structure_test

import (
	"fmt"
	"go/ast"
	"maps"
	"slices"
	"strings"
)

// checkFiles is rule R3 for files: one that is longer holds more than one thing. Tests count too.
func checkFiles(t *tree) []finding {
	var out []finding
	for _, s := range t.sources {
		if !s.generated && s.lines > fileLinesMax {
			out = append(out, finding{"R3", s.path, fmt.Sprintf("has %d lines, more than %d", s.lines, fileLinesMax), "split it by subject"})
		}
	}
	return out
}

// checkFunctions is rule R3 for functions, tests included.
func checkFunctions(t *tree) []finding {
	var out []finding
	for _, s := range t.sources {
		if s.generated {
			continue
		}
		for _, f := range functions(s.file) {
			if n := t.length(f); n > functionLinesMax {
				out = append(out, finding{
					"R3", t.at(s, f.Pos()),
					fmt.Sprintf("%s has %d lines, more than %d", f.Name.Name, n, functionLinesMax), "name its parts and call them",
				})
			}
		}
	}
	return out
}

// checkShare is rule R3 for the product as a whole: nine functions of ten are short.
func checkShare(t *tree) []finding {
	var lengths []int
	for _, s := range t.production() {
		for _, f := range functions(s.file) {
			lengths = append(lengths, t.length(f))
		}
	}
	if len(lengths) < functionsForShare {
		return nil
	}
	slices.Sort(lengths)
	if p90 := lengths[len(lengths)*9/10]; p90 > functionLinesP90 {
		return []finding{{
			"R3", "the project", fmt.Sprintf("the 90th percentile of function length is %d lines, more than %d", p90, functionLinesP90),
			"shorten the longest functions first",
		}}
	}
	return nil
}

func functions(f *ast.File) []*ast.FuncDecl {
	var out []*ast.FuncDecl
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok {
			out = append(out, fn)
		}
	}
	return out
}

// length counts the lines from "func" to the closing brace, both included.
func (t *tree) length(f *ast.FuncDecl) int {
	return t.fset.Position(f.End()).Line - t.fset.Position(f.Pos()).Line + 1
}

// checkFolders is rule R9.
func checkFolders(t *tree) []finding {
	var out []finding
	for _, name := range t.top {
		if !folders[name] {
			out = append(out, finding{
				"R9", name + "/", "is not a folder of the tree",
				"put the code where a newcomer would look for it, or write a decision page and add it to folders",
			})
		}
	}
	return out
}

// checkTypes is rule R3 for the types of the engine: one with many methods and many fields has more than one job.
func checkTypes(t *tree) []finding {
	var out []finding
	shapes := shapesOf(t)
	for _, key := range slices.Sorted(maps.Keys(shapes)) {
		if one := shapes[key]; one.methods > typeMethodsFew && (one.fields > typeFieldsMax || one.methods > typeMethodsMax) {
			out = append(out, finding{
				"R3", one.at, fmt.Sprintf("%s has %d fields and %d methods, more than %d or %d", one.name, one.fields, one.methods, typeFieldsMax, typeMethodsMax),
				"give one of its jobs to a type of its own",
			})
		}
	}
	return out
}

// shapesOf are the sizes of the types of the engine, by package and name.
func shapesOf(t *tree) map[string]*shape {
	out := map[string]*shape{}
	of := func(s *source, name string) *shape {
		key := s.pkg + "." + name
		if out[key] == nil {
			out[key] = &shape{name: name}
		}
		return out[key]
	}
	for _, s := range t.production() {
		if !strings.HasPrefix(s.pkg, "engine") {
			continue
		}
		for _, spec := range typesOf(s.file) {
			one := of(s, spec.Name.Name)
			one.at, one.fields = t.at(s, spec.Pos()), fieldsOf(spec.Type)
		}
		for _, f := range functions(s.file) {
			if name := receiverOf(f); name != "" {
				of(s, name).methods++
			}
		}
	}
	return out
}

func typesOf(f *ast.File) (out []*ast.TypeSpec) {
	for _, d := range f.Decls {
		if types, ok := d.(*ast.GenDecl); ok {
			for _, spec := range types.Specs {
				if one, ok := spec.(*ast.TypeSpec); ok {
					out = append(out, one)
				}
			}
		}
	}
	return out
}

// shape is the size of a type.
type shape struct {
	at, name        string
	fields, methods int
}

// fieldsOf counts the fields of a struct, embedded ones included.
func fieldsOf(e ast.Expr) (n int) {
	s, ok := e.(*ast.StructType)
	if !ok {
		return 0
	}
	for _, f := range s.Fields.List {
		n += max(1, len(f.Names))
	}
	return n
}
