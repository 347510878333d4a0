package structure_test

import (
	"go/ast"
	"go/token"
	"path"
	"unicode"
)

// checkNames is rule R4 for packages and for everything declared at package level.
func checkNames(t *tree) []finding {
	var out []finding
	seen := map[string]bool{}
	for _, s := range t.sources {
		if name := path.Base(s.pkg); emptyPackages.MatchString(name) && !seen[s.pkg] {
			seen[s.pkg] = true
			out = append(out, finding{"R4", s.pkg, "the package's name says nothing", "name it after what it knows"})
		}
		for _, id := range declared(s.file) {
			if word := emptyWord(id.Name); word != "" {
				out = append(out, finding{"R4", t.at(s, id.Pos()), id.Name + " contains the empty word " + word, "say what it is or does in the field's words"})
			}
		}
	}
	return out
}

// declared are the names that a file declares at package level, methods included.
func declared(f *ast.File) []*ast.Ident {
	var out []*ast.Ident
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			out = append(out, d.Name)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				out = append(out, specNames(spec)...)
			}
		}
	}
	return out
}

func specNames(spec ast.Spec) []*ast.Ident {
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		return []*ast.Ident{spec.Name}
	case *ast.ValueSpec:
		return spec.Names
	}
	return nil
}

// emptyWord is the first word of a camel-case name that rule R4 forbids.
func emptyWord(name string) string {
	start := 0
	runes := []rune(name)
	for i := 1; i <= len(runes); i++ {
		if i < len(runes) && !unicode.IsUpper(runes[i]) {
			continue
		}
		word := string(unicode.ToUpper(runes[start])) + string(runes[start+1:i])
		if emptyWords[word] {
			return word
		}
		start = i
	}
	return ""
}

// checkDocs is rule R5: a package, and each exported name that other packages can reach, has a comment.
func checkDocs(t *tree) []finding {
	var out []finding
	documented := map[string]bool{}
	first := map[string]*source{}
	for _, s := range t.production() {
		documented[s.pkg] = documented[s.pkg] || s.file.Doc.Text() != ""
		if first[s.pkg] == nil {
			first[s.pkg] = s
		}
		if s.file.Name.Name == "main" {
			continue
		}
		for _, id := range t.undocumented(s.file) {
			out = append(out, finding{
				"R5", t.at(s, id.Pos()), id.Name + " is exported without a comment",
				"say in a sentence what it gives: shapes, units, errors, source",
			})
		}
	}
	for pkg, s := range first {
		if !documented[pkg] {
			out = append(out, finding{"R5", s.path, "package " + s.file.Name.Name + " has no package comment", "say what it is for and what it must not know"})
		}
	}
	return out
}

func (t *tree) undocumented(f *ast.File) []*ast.Ident {
	var out []*ast.Ident
	var above *ast.FuncDecl // the function above, if a comment covers it
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			above = nil
			if d, ok := d.(*ast.GenDecl); ok {
				out = append(out, undocumentedSpecs(d)...)
			}
			continue
		}
		if fn.Doc.Text() != "" || t.sameRun(above, fn) {
			above = fn
			continue
		}
		above = nil
		if fn.Name.IsExported() && reachable(fn) && (fn.Recv == nil || !wellKnown[fn.Name.Name]) {
			out = append(out, fn.Name)
		}
	}
	return out
}

// sameRun is true of methods of one name on lines that follow each other, as a closed set of types has them: the comment over
// the first is about all.
func (t *tree) sameRun(above, fn *ast.FuncDecl) bool {
	return above != nil && above.Recv != nil && fn.Recv != nil && above.Name.Name == fn.Name.Name &&
		t.fset.Position(fn.Pos()).Line == t.fset.Position(above.End()).Line+1
}

// undocumentedSpecs takes a comment over a group of constants or variables for all of them, but not over a group of types.
func undocumentedSpecs(d *ast.GenDecl) []*ast.Ident {
	var out []*ast.Ident
	group := d.Doc.Text() != "" && (d.Tok != token.TYPE || !d.Lparen.IsValid())
	for _, spec := range d.Specs {
		if group || specDoc(spec) {
			continue
		}
		for _, id := range specNames(spec) {
			if id.IsExported() {
				out = append(out, id)
			}
		}
	}
	return out
}

func specDoc(spec ast.Spec) bool {
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		return spec.Doc.Text() != "" || spec.Comment.Text() != ""
	case *ast.ValueSpec:
		return spec.Doc.Text() != "" || spec.Comment.Text() != ""
	}
	return true
}

// reachable is false for methods of types that are not exported.
func reachable(d *ast.FuncDecl) bool {
	name := receiverOf(d)
	return name == "" || ast.IsExported(name)
}

// receiverOf is the name of the type that a function is a method of, "" if it is none.
func receiverOf(d *ast.FuncDecl) string {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return ""
	}
	expr := d.Recv.List[0].Type
	for {
		switch e := expr.(type) {
		case *ast.StarExpr:
			expr = e.X
		case *ast.IndexExpr:
			expr = e.X
		case *ast.IndexListExpr:
			expr = e.X
		case *ast.Ident:
			return e.Name
		default:
			return ""
		}
	}
}
