package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// counts are the numbers of tests by outcome.
type counts struct{ passed, failed, skipped int }

func (c counts) plus(d counts) counts {
	return counts{c.passed + d.passed, c.failed + d.failed, c.skipped + d.skipped}
}

func (c counts) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", c.passed, c.failed, c.skipped)
}

var errFailed = errors.New("not everything passed")

func appendCounts(name string, c counts) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("opening the file of counts (-to): %w", err)
	}
	_, err = fmt.Fprintln(f, c.passed, c.failed, c.skipped)
	return errors.Join(err, f.Close())
}

// printSum adds up what appendCounts wrote. Without any passed test it fails: nothing was proved.
func printSum(name string, out io.Writer) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("reading the file of counts: %w", err)
	}
	var sum counts
	for line := range strings.Lines(string(text)) {
		var c counts
		if _, err := fmt.Sscan(line, &c.passed, &c.failed, &c.skipped); err != nil {
			return fmt.Errorf("reading counts %q: %w", line, err)
		}
		sum = sum.plus(c)
	}
	fmt.Fprintln(out, sum)
	if sum.failed > 0 || sum.passed == 0 {
		return errFailed
	}
	return nil
}

// countJUnit counts the cases of a JUnit file: failures and errors are failed, an empty case passed.
func countJUnit(name string) (counts, error) {
	f, err := os.Open(name)
	if err != nil {
		return counts{}, fmt.Errorf("opening the results: %w", err)
	}
	defer f.Close()
	var c counts
	var outcome string
	for dec := xml.NewDecoder(f); ; {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return c, nil
		}
		if err != nil {
			return counts{}, fmt.Errorf("reading the results %s: %w", name, err)
		}
		switch t := token.(type) {
		case xml.StartElement:
			outcome = outcomeAfter(outcome, t.Name.Local)
		case xml.EndElement:
			if t.Name.Local == "testcase" {
				c = c.plus(counted(outcome))
			}
		}
	}
}

func outcomeAfter(outcome, element string) string {
	switch element {
	case "testcase":
		return "pass"
	case "failure", "error":
		return "fail"
	case "skipped":
		if outcome != "fail" {
			return "skip"
		}
	}
	return outcome
}

func counted(outcome string) counts {
	switch outcome {
	case "pass":
		return counts{passed: 1}
	case "skip":
		return counts{skipped: 1}
	case "fail":
		return counts{failed: 1}
	}
	return counts{}
}
