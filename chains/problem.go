package chains

import (
	"fmt"
	"slices"
	"strings"
)

// Problem is one mistake in a definition. Line and Column count from 1; they are 0 if the definition was not read from text.
type Problem struct {
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Node   string `json:"node,omitempty"` // name of the node, if it is about one
	Text   string `json:"text"`           // what is wrong, and the mend
}

// Error is file:line:column: node "name": text.
func (p Problem) Error() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		b.WriteByte(':')
	}
	if p.Line > 0 {
		fmt.Fprintf(&b, "%d:%d:", p.Line, p.Column)
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	if p.Node != "" {
		fmt.Fprintf(&b, "node %q: ", p.Node)
	}
	b.WriteString(p.Text)
	return b.String()
}

// Problems are all mistakes of a definition in the order of its lines.
type Problems []Problem

// Error is one line for each problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// problemsMax bounds how many mistakes are told at once.
const problemsMax = 100

// orNil is the error that the problems are: nil if there are none.
func (ps Problems) orNil() error {
	if len(ps) == 0 {
		return nil
	}
	slices.SortStableFunc(ps, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	if len(ps) > problemsMax {
		ps = append(ps[:problemsMax:problemsMax], Problem{File: ps[0].File, Text: fmt.Sprintf("%d more mistakes", len(ps)-problemsMax)})
	}
	return ps
}
