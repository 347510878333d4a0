package settings

import (
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Print writes the effective settings as YAML with dotted keys, secrets masked, and beside each that is no default where it came from.
func (l *Loaded) Print(w io.Writer) error {
	for _, s := range table() {
		line := s.key + ": " + quoted(l.text(s))
		if from := l.origin[s.key]; from != "" {
			line += "  # " + string(from)
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return fmt.Errorf("printing the settings: %w", err)
		}
	}
	return nil
}

// Origin tells where the value of a key came from: "default", "file callchain.yaml:3", "environment CALLCHAIN_HTTP_ADDR" or
// "flag --http.addr".
func (l *Loaded) Origin(key string) string {
	if o := l.origin[key]; o != "" {
		return string(o)
	}
	return "default"
}

func (l *Loaded) text(s setting) string {
	v := reflect.ValueOf(l.Settings).FieldByIndex(s.field).Interface()
	if d, ok := v.(time.Duration); ok {
		return durationText(d)
	}
	return fmt.Sprint(v)
}

// durationText drops the zero parts: 10m0s is 10m, and whole days are days.
func durationText(d time.Duration) string {
	if day := 24 * time.Hour; d >= day && d%day == 0 {
		return strconv.Itoa(int(d/day)) + "d"
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// quoted writes a text as a YAML scalar; what could be taken for something else is quoted as in JSON.
func quoted(text string) string {
	plain := text != "" && !strings.ContainsAny(text, "\"'\\#{}[],&*!|>%@`\n\t") && !strings.Contains(text, ": ") && strings.TrimSpace(text) == text
	if plain {
		return text
	}
	return strconv.Quote(text)
}

func (s setting) shownDefault() string {
	if s.typ != reflect.TypeFor[time.Duration]() {
		return s.def
	}
	d, err := parseDuration(s.def)
	if err != nil {
		panic("settings: default of " + s.key + ": " + err.Error())
	}
	return durationText(d)
}

// Markdown is the table of all settings for the documentation.
func Markdown() string {
	var b strings.Builder
	b.WriteString("| key | default | values | ThingsBoard's name | meaning |\n|---|---|---|---|---|\n")
	for _, s := range table() {
		def, tb := "empty", ""
		if s.def != "" {
			def = "`" + s.shownDefault() + "`"
		}
		if s.tb != "" {
			tb = "`" + s.tb + "`"
			if unit := map[string]string{"ms": " (ms)", "s": " (s)", "port": " (port)"}[s.tbUnit]; unit != "" {
				tb += unit
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", s.key, def, s.values(), tb, strings.ReplaceAll(s.doc, "|", `\|`))
	}
	return b.String()
}

func (s setting) values() string {
	if s.min == "" {
		return s.valueKind()
	}
	return s.valueKind() + ", " + s.min + " to " + s.max
}

// Sample is a YAML file with every setting at its default, commented out by a # without a blank behind it.
func Sample() string {
	var b strings.Builder
	b.WriteString("# Settings of callchain. Each is shown with its default; the environment (CALLCHAIN_HTTP_ADDR) and flags (--http.addr) win over this file.\n")
	group := ""
	for _, s := range table() {
		head, name, nested := strings.Cut(s.key, ".")
		indent := ""
		if !nested {
			head, name = "", s.key
		} else {
			indent = "  "
		}
		if head != group {
			b.WriteString("\n")
			if head != "" {
				b.WriteString(head + ":\n")
			}
			group = head
		}
		fmt.Fprintf(&b, "%s# %s\n%s#%s: %s\n", indent, s.doc, indent, name, quoted(s.shownDefault()))
	}
	return b.String()
}
