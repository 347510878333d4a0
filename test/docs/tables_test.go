package docs_test

import (
	"regexp"
	"strings"
	"testing"

	"callchain/engine/rpc"
)

// row is a line of a table whose first cell begins with a name in code style.
type row struct {
	name  string
	cells []string // all cells, without white space around them
}

var named = regexp.MustCompile("^`([A-Za-z]+)`")

// rows are the rows of all tables between two headings or texts of a page.
func rows(t *testing.T, page, from, to string) []row {
	t.Helper()
	_, part, found := strings.Cut(read(t, page), from)
	if !found {
		t.Fatalf("%s has no %q", page, from)
	}
	part, _, _ = strings.Cut(part, to)
	var out []row
	for line := range strings.Lines(part) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if m := named.FindStringSubmatch(cells[0]); m != nil && strings.HasPrefix(line, "|") {
			out = append(out, row{name: m[1], cells: cells})
		}
	}
	if len(out) == 0 {
		t.Fatalf("%s has no table after %q", page, from)
	}
	return out
}

const (
	factsPage = "docs/decisions/0003-commands-and-facts.md"
	viewPage  = "docs/decisions/0004-view-table.md"
)

func TestFactsOfThePageExist(t *testing.T) {
	for _, r := range rows(t, factsPage, "**Facts**", "**Evidence**") {
		if _, err := rpc.DecodeFact(r.name, rpc.DataVersion, []byte("{}")); err != nil {
			t.Errorf("%s names %s: %v", factsPage, r.name, err)
		}
	}
}

// TestViewTable compares the page's first table with what a call shows after each fact.
func TestViewTable(t *testing.T) {
	table := rows(t, viewPage, "| fact | status shown | message |", "What the caller of")
	for _, r := range table {
		t.Run(r.cells[0], func(t *testing.T) {
			data := "{}"
			if strings.Contains(r.cells[0], "requeue") {
				data = `{"requeue":true}`
			}
			fact, err := rpc.DecodeFact(r.name, rpc.DataVersion, []byte(data))
			if err != nil {
				t.Fatal(err)
			}
			got := rpc.EvolveCall(rpc.Call{}, rpc.Event{Fact: fact}, rpc.DefaultSettings()).Status
			if want := statusIn(r.cells[1]); got != want {
				t.Errorf("the page says %q, the code shows %v", r.cells[1], got)
			}
			if m := got.Message(); m != "" && !strings.HasPrefix(r.cells[2], "`"+m+"`") {
				t.Errorf("the page says %q, the code sends %s", r.cells[2], m)
			}
		})
	}
	shown := map[string]bool{}
	for _, r := range table {
		shown[r.name] = true
	}
	for _, r := range rows(t, factsPage, "**Facts**", "Of a device:") {
		if !shown[r.name] {
			t.Errorf("%s lacks the fact %s", viewPage, r.name)
		}
	}
}

// statusIn is the status that a cell begins with; a cell without one changes nothing.
func statusIn(cell string) rpc.Status {
	word, _, _ := strings.Cut(strings.TrimRight(cell, ","), " ")
	status, ok := rpc.ParseStatus(strings.Trim(word, ",;"))
	if !ok {
		return rpc.StatusNone
	}
	return status
}
