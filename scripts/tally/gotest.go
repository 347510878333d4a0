package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// testEvent is one line of `go test -json` (cmd/test2json).
type testEvent struct {
	Action, Package, Test, Output, ImportPath string
}

// goRun collects the events of one `go test -json` until the packages end.
type goRun struct {
	out     io.Writer
	total   counts
	results map[string]map[string]string // package, test: outcome
	output  map[string][]string          // package or package\ntest: what it printed
}

// countGo reads `go test -json`, prints the output of what failed and a line a package, and counts.
func countGo(in io.Reader, out io.Writer) (counts, error) {
	r := &goRun{out: out, results: map[string]map[string]string{}, output: map[string][]string{}}
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 64<<10), 16<<20)
	for lines.Scan() {
		var e testEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(out, lines.Text())
			continue
		}
		r.take(e)
	}
	if err := lines.Err(); err != nil {
		return counts{}, fmt.Errorf("reading the test results: %w", err)
	}
	for pkg := range r.results { // a package without an end: the run was cut off
		fmt.Fprintf(out, "FAIL\t%s\tended without a result\n", pkg)
		r.total.failed++
	}
	return r.total, nil
}

func (r *goRun) take(e testEvent) {
	switch e.Action {
	case "start":
		r.results[e.Package] = map[string]string{}
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "output":
		key := e.Package + "\n" + e.Test
		r.output[key] = append(r.output[key], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.endPackage(e)
			return
		}
		r.endTest(e)
	}
}

func (r *goRun) endTest(e testEvent) {
	if r.results[e.Package] == nil {
		r.results[e.Package] = map[string]string{}
	}
	r.results[e.Package][e.Test] = e.Action
	key := e.Package + "\n" + e.Test
	if e.Action == "fail" {
		fmt.Fprint(r.out, strings.Join(r.output[key], ""))
	}
	if e.Action == "skip" {
		fmt.Fprintf(r.out, "SKIP\t%s %s: %s\n", e.Package, e.Test, reason(r.output[key]))
	}
	delete(r.output, key)
}

// reason is what a test said when it skipped itself.
func reason(output []string) string {
	for _, line := range output {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
			return line
		}
	}
	return "no reason given"
}

// endPackage counts the tests of a package that have no subtests. A package that failed without a failed test did not build or
// crashed: that is one failure.
func (r *goRun) endPackage(e testEvent) {
	tests := r.results[e.Package]
	var c counts
	for name, outcome := range tests {
		if !hasSubtests(tests, name) {
			c = c.plus(counted(outcome))
		}
	}
	if e.Action == "fail" && c.failed == 0 {
		c.failed++
		r.printUnfinished(e.Package)
	}
	if e.Action != "skip" {
		fmt.Fprintf(r.out, "%s\t%s\t%v\n", e.Action, e.Package, c)
	}
	r.total = r.total.plus(c)
	delete(r.results, e.Package)
	delete(r.output, e.Package+"\n")
}

// printUnfinished prints what tests said that never ended, and the package itself.
func (r *goRun) printUnfinished(pkg string) {
	for key, text := range r.output {
		if strings.HasPrefix(key, pkg+"\n") {
			fmt.Fprint(r.out, strings.Join(text, ""))
		}
	}
}

func hasSubtests(tests map[string]string, name string) bool {
	for other := range tests {
		if strings.HasPrefix(other, name+"/") {
			return true
		}
	}
	return false
}
