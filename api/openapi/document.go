package openapi

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Parameter is a part of the path, of the query, or a header.
type Parameter struct {
	Name     string
	Doc      string
	Schema   Schema
	Required bool
}

// Operation tells what a route does, as far as its table does not.
type Operation struct {
	Summary string
	Query   []Parameter
	Headers []Parameter
	Body    any         // a value of the type that a client sends, or a Schema; nil: no body
	Needs   []string    // fields that the body must have
	Takes   []string    // content types of the body; nil: JSON
	Answer  any         // a value of the type that 200 carries, or a Schema; nil: an empty body
	Gives   []string    // content types of the answer; nil: JSON
	Codes   []int       // statuses that are no success
	Others  map[int]any // bodies of those that do not carry what the others carry
	Bare    bool        // statuses that are no success carry nothing, but for Others
}

// Route is one operation at its place.
type Route struct {
	Method string
	Path   string // gin's form, with :names
	Tag    string
	Roles  []string // who may use it; nil: anybody, without a token
	Operation
}

// Document is what all routes share.
type Document struct {
	Title    string
	Version  string
	Doc      string
	Types    *Types
	Paths    map[string]Parameter // parts of paths by name
	Security map[string]Schema    // ways to show a token; each alone is enough
	Problem  any                  // the body of what is no success
	Retry    []int                // statuses that carry Retry-After
}

var pathPart = regexp.MustCompile(`[:*](\w+)`)

// Build is the document as a value that marshals to JSON.
func (d *Document) Build(routes []Route) Schema {
	paths := Schema{}
	for i := range routes {
		r := &routes[i]
		path := pathPart.ReplaceAllString(r.Path, "{$1}")
		item, ok := paths[path].(Schema)
		if !ok {
			item = Schema{}
			paths[path] = item
		}
		item[strings.ToLower(r.Method)] = d.operation(r)
	}
	d.Types.of(d.Problem, answered)
	schemas := Schema{}
	for name, s := range d.Types.components {
		schemas[name] = s
	}
	schemes := Schema{}
	for name, s := range d.Security {
		schemes[name] = s
	}
	return Schema{
		"openapi": "3.1.0", "info": Schema{"title": d.Title, "version": d.Version, "description": d.Doc},
		"paths": paths, "components": Schema{"schemas": schemas, "securitySchemes": schemes},
	}
}

func (d *Document) operation(r *Route) Schema {
	o := Schema{
		"operationId": operationID(r), "summary": r.Summary, "tags": []any{r.Tag}, "responses": d.responses(r), "security": d.security(r),
	}
	if len(r.Roles) > 0 {
		o["description"] = "For " + strings.Join(r.Roles, ", ") + "."
	}
	if parameters := d.parameters(r); len(parameters) > 0 {
		o["parameters"] = parameters
	}
	if r.Body != nil {
		o["requestBody"] = Schema{"required": true, "content": content(r.Takes, d.body(r))}
	}
	return o
}

// body is the schema of what a client sends. The fields that it must have stand beside the component, which others may use without.
func (d *Document) body(r *Route) Schema {
	s := d.Types.of(r.Body, asked)
	if len(r.Needs) == 0 {
		return s
	}
	needs, notNull := []any{}, Schema{}
	for _, name := range r.Needs {
		needs = append(needs, name)
		notNull[name] = Schema{"not": Schema{"type": "null"}}
	}
	return Schema{"allOf": []any{s, Schema{"type": "object", "required": needs, "properties": notNull}}}
}

// operationID is made of method and path, so that it is unique and stays when handlers are renamed.
func operationID(r *Route) string {
	var b strings.Builder
	b.WriteString(strings.ToLower(r.Method))
	for _, part := range strings.FieldsFunc(strings.TrimPrefix(r.Path, "/api"), func(c rune) bool { return strings.ContainsRune("/-.", c) }) {
		if name, ok := strings.CutPrefix(part, ":"); ok {
			part = "By" + capital(name)
		}
		b.WriteString(capital(part))
	}
	return b.String()
}

func (d *Document) security(r *Route) []any {
	out := []any{}
	if len(r.Roles) == 0 {
		return out
	}
	for name := range d.Security {
		out = append(out, Schema{name: []any{}})
	}
	slices.SortFunc(out, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return out
}

func (d *Document) parameters(r *Route) []any {
	var out []any
	for _, m := range pathPart.FindAllStringSubmatch(r.Path, -1) {
		p, known := d.Paths[m[1]]
		if !known {
			panic(fmt.Sprintf("openapi: %s %s: nobody says what %s is", r.Method, r.Path, m[1]))
		}
		p.Name, p.Required = m[1], true
		out = append(out, p.in("path"))
	}
	for _, p := range r.Query {
		out = append(out, p.in("query"))
	}
	for _, p := range r.Headers {
		out = append(out, p.in("header"))
	}
	return out
}

func (p *Parameter) in(where string) Schema {
	return Schema{"name": p.Name, "in": where, "description": p.Doc, "required": p.Required, "schema": p.Schema}
}

func content(forms []string, s Schema) Schema {
	if len(forms) == 0 {
		forms = []string{"application/json"}
	}
	out := Schema{}
	for _, form := range forms {
		if form == "application/json" || len(forms) == 1 {
			out[form] = Schema{"schema": s}
		} else {
			out[form] = Schema{"schema": Schema{"type": "string"}}
		}
	}
	return out
}

func (d *Document) responses(r *Route) Schema {
	done := Schema{"description": "Done."}
	if r.Answer != nil {
		done["content"] = content(r.Gives, d.Types.of(r.Answer, answered))
	}
	out := Schema{"200": done}
	for _, code := range r.Codes {
		body, own := r.Others[code]
		if !own {
			body = d.Problem
		}
		problem := Schema{"description": http.StatusText(code) + "."}
		if own || !r.Bare {
			problem["content"] = content(nil, d.Types.of(body, answered))
		}
		if slices.Contains(d.Retry, code) {
			problem["headers"] = Schema{"Retry-After": Schema{
				"description": "Seconds to wait before the next try.", "schema": Schema{"type": "integer", "minimum": 1},
			}}
		}
		out[strconv.Itoa(code)] = problem
	}
	return out
}
