package settings

import (
	"reflect"
	"strings"
	"time"
)

// setting is one line of the table: what the tags of a field say.
type setting struct {
	key      string
	field    []int // path in Settings, for reflect
	typ      reflect.Type
	def      string
	doc      string
	min, max string
	enum     []string
	kind     string // "addr": host:port
	optional bool   // may be empty
	tb       string // ThingsBoard's name in the environment
	tbUnit   string
}

// environment is the name of the setting there: http.addr is CALLCHAIN_HTTP_ADDR.
func (s setting) environment() string {
	return environmentPrefix + strings.ToUpper(strings.ReplaceAll(s.key, ".", "_"))
}

const environmentPrefix = "CALLCHAIN_"

// table are all settings in the order of the struct.
func table() []setting { return walk(reflect.TypeFor[Settings](), "", nil) }

func walk(t reflect.Type, prefix string, path []int) []setting {
	var out []setting
	for i := range t.NumField() {
		f := t.Field(i)
		key, ok := f.Tag.Lookup("key")
		if !ok {
			panic("settings: field " + t.Name() + "." + f.Name + " has no key")
		}
		field := append(append([]int(nil), path...), i)
		if f.Type.Kind() == reflect.Struct {
			out = append(out, walk(f.Type, prefix+key+".", field)...)
			continue
		}
		tag := f.Tag.Get
		s := setting{
			key: prefix + key, field: field, typ: f.Type, def: tag("default"), doc: tag("doc"), min: tag("min"), max: tag("max"),
			kind: tag("kind"), optional: tag("optional") == "true", tb: tag("tb"), tbUnit: tag("tbunit"),
		}
		if e := tag("enum"); e != "" {
			s.enum = strings.Split(e, ",")
		}
		out = append(out, s)
	}
	return out
}

// secret is true of settings whose value must not be shown.
func (s setting) secret() bool {
	return s.typ == reflect.TypeFor[Secret]() || s.typ == reflect.TypeFor[DatabaseURL]()
}

// valueKind says in a word or two what values look like.
func (s setting) valueKind() string {
	switch {
	case s.typ == reflect.TypeFor[time.Duration]():
		return "duration"
	case s.typ == reflect.TypeFor[Bytes]():
		return "bytes"
	case s.secret():
		return "secret"
	case len(s.enum) > 0:
		return strings.Join(s.enum, ", ")
	case s.kind == "addr":
		return "host:port"
	case s.kind == "url":
		return "URL"
	case s.typ.Kind() == reflect.Int, s.typ.Kind() == reflect.Float64:
		return "number"
	case s.typ.Kind() == reflect.Bool:
		return "true, false"
	}
	return "text"
}

func find(all []setting, key string) (setting, bool) {
	for _, s := range all {
		if s.key == key {
			return s, true
		}
	}
	return setting{}, false
}

// nearest is the known key that differs least from a misspelt one, or nothing if none is like it.
func nearest(word string, known []string) string {
	best, least := "", len(word)/3+2
	for _, k := range known {
		if d := distance(word, k); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance is the number of letters to insert, delete or change (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(row[j+1]+1, row[j]+1, change)
		}
	}
	return row[len(b)]
}
