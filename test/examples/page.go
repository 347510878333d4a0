// Package examples runs what the pages show: every block of commands in the guides and in the examples' README files, in the order in
// which a reader meets them, against a server of its own. docs/README.md says how a block is marked.
package examples

import (
	"fmt"
	"regexp"
	"strings"
)

// block is one fenced block of shell commands.
type block struct {
	line       int    // of the fence, from 1
	text       string // the commands
	want       string // the block of text behind it; empty: not looked at
	compared   bool   // there is such a block
	background bool   // runs until the page ends, as in a second terminal
	eventually bool   // is repeated until it shows what is wanted
	skip       string // why it is not run
}

// foreignLanguages are the names by which commands would slip through, and what to write.
var foreignLanguages = map[string]string{
	"": "name its language", "bash": "write sh", "shell": "write sh", "console": "write sh, and what it shows as text",
	"shellsession": "write sh, and what it shows as text", "zsh": "write sh",
}

// indentedCommand is a command in the other form that blocks have, four spaces before each line.
var indentedCommand = regexp.MustCompile(
	`^(    |\t)\s*(\$ |[A-Z_]+=|((bin/)?callchain|curl|export|make|go|python3?|pip3?|git|docker|mosquitto_pub|mosquitto_sub|coap-client) )`)

// parsePage gives the shell blocks of a page. One that is not marked is a mistake: it would be trusted and never tried.
func parsePage(page string) ([]block, error) {
	var out []block
	lines := strings.Split(page, "\n")
	for i := 0; i < len(lines); i++ {
		info, isFence := strings.CutPrefix(lines[i], "```")
		if indentedCommand.MatchString(lines[i]) {
			return nil, fmt.Errorf("line %d: commands stand in a block of sh, so that they are run: %s", i+1, strings.TrimSpace(lines[i]))
		}
		if !isFence {
			continue
		}
		begin := i
		for i++; i < len(lines) && !strings.HasPrefix(lines[i], "```"); i++ {
		}
		if i == len(lines) {
			return nil, fmt.Errorf("line %d: the block has no end", begin+1)
		}
		text := strings.Join(lines[begin+1:i], "\n")
		language, marks, _ := strings.Cut(strings.TrimSpace(info), " ")
		if language == "text" && len(out) > 0 && follows(lines, out[len(out)-1], begin) {
			out[len(out)-1].want, out[len(out)-1].compared = text, true
			continue
		}
		if mend, foreign := foreignLanguages[language]; foreign {
			return nil, fmt.Errorf("line %d: a block of %q is not run: %s", begin+1, language, mend)
		}
		if language != "sh" {
			continue
		}
		b := block{line: begin + 1, text: text}
		if err := b.mark(marks); err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// follows tells whether only one empty line or less lies between a block and the fence in line at (from 0).
func follows(lines []string, b block, at int) bool {
	end := b.line + strings.Count(b.text, "\n") + 2 // the line behind the closing fence, from 0
	return at == end || at == end+1 && strings.TrimSpace(lines[end]) == ""
}

func (b *block) mark(marks string) error {
	if why, skipped := strings.CutPrefix(marks, "skip: "); skipped {
		b.skip = why
		return nil
	}
	switch marks {
	case "test":
	case "test background":
		b.background = true
	case "test eventually":
		b.eventually = true
	default:
		return fmt.Errorf("line %d: a block of shell commands is marked test, test background, test eventually, or \"skip: why\"; this one %q", b.line, marks)
	}
	return nil
}

// masks make alike what differs from run to run: ids, times, durations, hashes, widths of columns.
var masks = []struct {
	what *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "<id>"},
	{regexp.MustCompile(`…[0-9a-f]{8}\b`), "<id>"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?`), "<time>"},
	{regexp.MustCompile(`\b1[0-9]{12}\b`), "<time>"},
	{regexp.MustCompile(`\d+\.\d{3} ms\b`), "<duration>"},
	{regexp.MustCompile(`\b\d+(\.\d+)?(ms|µs)\b`), "<duration>"},
	{regexp.MustCompile(`(?m)\b[0-9a-f]{8}$`), "<hash>"},
	{regexp.MustCompile(`[ \t]+`), " "},
}

func mask(text string) string {
	for _, m := range masks {
		text = m.what.ReplaceAllString(text, m.with)
	}
	return text
}

// missing gives the first line of want that got does not show, in order; "" if all are there. In want "…" within a line is any text, and a line
// of its own any lines. Between the other lines nothing may lie. With loose they may stand anywhere and in any order: what a program says of its
// own accord and what it says of others' doings come as they come.
func missing(want, got string, loose bool) string {
	have := strings.Split(strings.TrimSpace(mask(got)), "\n")
	anywhere := loose
	for _, line := range strings.Split(strings.TrimSpace(want), "\n") {
		if strings.TrimSpace(line) == "…" {
			anywhere = true
			continue
		}
		at := findLine(line, have, anywhere)
		if at < 0 {
			return line
		}
		if !loose {
			have, anywhere = have[at+1:], false
		}
	}
	if !anywhere && len(have) > 0 {
		return "(the end; the output goes on with " + have[0] + ")"
	}
	return ""
}

func findLine(want string, have []string, anywhere bool) int {
	parts := strings.Split(mask(strings.TrimSpace(want)), "…")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	pattern := regexp.MustCompile(`^` + strings.Join(parts, `.*`) + `$`)
	for i, line := range have {
		if pattern.MatchString(strings.TrimSpace(line)) {
			return i
		}
		if !anywhere {
			return -1
		}
	}
	return -1
}
