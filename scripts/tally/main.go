// Command tally counts test results, so that the whole test run ends with one line.
//
//	go test -json ./... | tally -to FILE     counts Go tests, prints what failed and which packages are done
//	tally -junit RESULTS.xml -to FILE        counts the results of another test runner
//	tally -check NAME -status N -to FILE     counts one check by its exit status
//	tally -sum FILE                          prints "N passed, N failed, N skipped"; exit status 1 if any failed
//
// Each call but -sum adds a line to FILE. A test with subtests is not counted, its subtests are.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	err := run(os.Args[1:], os.Stdin, os.Stdout)
	if err != nil && !errors.Is(err, errFailed) { // the sum says that itself, and is the last line
		fmt.Fprintln(os.Stderr, "tally:", err)
	}
	if err != nil {
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	flags := flag.NewFlagSet("tally", flag.ContinueOnError)
	to := flags.String("to", "", "file that the counts are added to")
	junit := flags.String("junit", "", "JUnit XML file to count instead of standard input")
	check := flags.String("check", "", "name of a single check")
	status := flags.Int("status", 0, "exit status of the single check")
	sum := flags.String("sum", "", "file of counts to add up")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *sum != "" {
		return printSum(*sum, out)
	}
	var c counts
	var err error
	switch {
	case *junit != "":
		c, err = countJUnit(*junit)
	case *check != "":
		c = countCheck(*check, *status, out)
	default:
		c, err = countGo(in, out)
	}
	if err != nil {
		return err
	}
	return appendCounts(*to, c)
}

func countCheck(name string, status int, out io.Writer) counts {
	if status != 0 {
		fmt.Fprintf(out, "FAILED: %s (exit status %d)\n", name, status)
		return counts{failed: 1}
	}
	return counts{passed: 1}
}
