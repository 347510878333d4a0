package command

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"callchain/chains"
	"callchain/chains/dryrun"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

// suiteFiles is how many files of tests one run takes.
const suiteFiles = 1000

func (a *app) chainTest() *cobra.Command {
	return &cobra.Command{
		Use: "test DIR…", Short: "Run the tests beside chains", Args: args(1, -1),
		Long: `Run the tests that lie beside chains: cooldown.test.yaml has those of cooldown.yaml. Folders are searched with all that is in
them. Nothing is sent or stored and no server is needed. Prints each difference and, last, "N passed, N failed"; exit status 1 if any
test failed or none was found.`,
		Example: "  callchain chain test examples/chains",
		RunE: func(_ *cobra.Command, places []string) error {
			var files []string
			for _, place := range places {
				found, err := findSuites(place)
				if err != nil {
					return err
				}
				files = append(files, found...)
			}
			if len(files) == 0 {
				return fmt.Errorf("there are no tests: no file here is named like cooldown.test.yaml, beside its cooldown.yaml")
			}
			var r suiteReport
			for _, file := range files {
				r.runFile(file)
			}
			return a.printSuites(&r)
		},
	}
}

// findSuites gives the files of tests in a folder and all below it, in order of their names; a single file is itself.
func findSuites(place string) (files []string, err error) {
	err = filepath.WalkDir(place, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if _, tests := chains.SuiteOf(filepath.ToSlash(path)); !tests {
			return nil
		}
		if len(files) == suiteFiles {
			return fmt.Errorf("more than %d files of tests; name a smaller folder", suiteFiles)
		}
		files = append(files, path)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking for tests in %s: %w", place, err)
	}
	return files, nil
}

// suiteReport is what became of the tests.
type suiteReport struct {
	Passed   int            `json:"passed"`
	Failed   int            `json:"failed"`
	Failures []suiteFailure `json:"failures"`
}

// suiteFailure is a test that failed; Test is empty if the file or its chain cannot be used.
type suiteFailure struct {
	File        string   `json:"file"`
	Test        string   `json:"test,omitempty"`
	Differences []string `json:"differences"`
}

// runFile runs the tests of one file. One that cannot be used counts as one failed test.
func (r *suiteReport) runFile(file string) {
	suite, program, err := loadSuite(file)
	if err != nil {
		r.fail(suiteFailure{File: file, Differences: []string{err.Error()}})
		return
	}
	for _, test := range suite.Tests {
		if differences := test.Run(program); len(differences) > 0 {
			r.fail(suiteFailure{File: file, Test: test.Name, Differences: differences})
		} else {
			r.Passed++
		}
	}
}

func (r *suiteReport) fail(f suiteFailure) {
	r.Failed++
	r.Failures = append(r.Failures, f)
}

func loadSuite(file string) (dryrun.Suite, *chains.Program, error) {
	text, err := readChain(file)
	if err != nil {
		return dryrun.Suite{}, nil, err
	}
	suite, err := dryrun.ParseSuite(file, text)
	if err != nil {
		return suite, nil, err
	}
	chain, err := chainBeside(file)
	if err != nil {
		return suite, nil, err
	}
	if text, err = readChain(chain); err != nil {
		return suite, nil, err
	}
	d, err := chains.Parse(chain, text)
	if err != nil {
		return suite, nil, err
	}
	program, err := chains.Compile(d, kinds(), uuid.Nil, 1)
	return suite, program, err
}

// chainBeside finds the chain that a file of tests is about.
func chainBeside(file string) (string, error) {
	name, _ := chains.SuiteOf(filepath.ToSlash(file))
	for _, ext := range []string{".yaml", ".yml", ".json"} {
		chain := filepath.FromSlash(name + ext)
		if _, err := os.Stat(chain); err == nil {
			return chain, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("looking for the chain: %w", err)
		}
	}
	return "", fmt.Errorf("the chain is missing: there is no %s.yaml, .yml or .json", filepath.FromSlash(name))
}

func (a *app) printSuites(r *suiteReport) error {
	if a.json {
		if r.Failures == nil {
			r.Failures = []suiteFailure{}
		}
		if err := a.printJSON(r); err != nil {
			return err
		}
	} else {
		for _, f := range r.Failures {
			head := f.File
			if f.Test != "" {
				head += ": " + f.Test
			}
			a.printf("FAIL  %s\n", head)
			for _, d := range f.Differences {
				a.printf("      %s\n", d)
			}
		}
		a.printf("%d passed, %d failed\n", r.Passed, r.Failed)
	}
	if r.Failed > 0 {
		return errSilent
	}
	return nil
}
