package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCountGo(t *testing.T) {
	tests := []struct {
		name   string
		events []string
		want   counts
		says   string
	}{
		{
			"subtests count, their parent does not",
			[]string{
				`{"Action":"start","Package":"p"}`, `{"Action":"pass","Package":"p","Test":"T/a"}`, `{"Action":"pass","Package":"p","Test":"T/b"}`,
				`{"Action":"pass","Package":"p","Test":"T"}`, `{"Action":"pass","Package":"p","Test":"Tail"}`, `{"Action":"pass","Package":"p"}`,
			},
			counts{passed: 3},
			"pass\tp\t3 passed",
		},
		{
			"a failure prints what the test said",
			[]string{
				`{"Action":"start","Package":"p"}`, `{"Action":"output","Package":"p","Test":"T","Output":"got 1, want 2\n"}`,
				`{"Action":"fail","Package":"p","Test":"T"}`, `{"Action":"fail","Package":"p"}`,
			},
			counts{failed: 1},
			"got 1, want 2",
		},
		{
			"a skip tells its reason",
			[]string{
				`{"Action":"start","Package":"p"}`, `{"Action":"output","Package":"p","Test":"T","Output":"=== RUN T\n"}`,
				`{"Action":"output","Package":"p","Test":"T","Output":"    a.go:1: no database\n"}`,
				`{"Action":"skip","Package":"p","Test":"T"}`, `{"Action":"pass","Package":"p"}`,
			},
			counts{skipped: 1},
			"SKIP\tp T: a.go:1: no database",
		},
		{
			"a package that does not build is one failure",
			[]string{`{"Action":"build-output","ImportPath":"p","Output":"undefined: x\n"}`, `{"Action":"start","Package":"p"}`, `{"Action":"fail","Package":"p"}`},
			counts{failed: 1},
			"undefined: x",
		},
		{
			"a crash is one failure and shows the test that ran",
			[]string{
				`{"Action":"start","Package":"p"}`, `{"Action":"pass","Package":"p","Test":"A"}`,
				`{"Action":"output","Package":"p","Test":"T","Output":"panic: boom\n"}`, `{"Action":"fail","Package":"p"}`,
			},
			counts{passed: 1, failed: 1},
			"panic: boom",
		},
		{"a run that is cut off is a failure", []string{`{"Action":"start","Package":"p"}`}, counts{failed: 1}, "ended without a result"},
		{"a package without tests counts nothing", []string{`{"Action":"start","Package":"p"}`, `{"Action":"skip","Package":"p"}`}, counts{}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			got, err := countGo(strings.NewReader(strings.Join(test.events, "\n")), &out)
			if err != nil || got != test.want {
				t.Errorf("got %v, %v, want %v", got, err, test.want)
			}
			if !strings.Contains(out.String(), test.says) {
				t.Errorf("printed %q, want %q in it", out.String(), test.says)
			}
		})
	}
}

func TestCountJUnit(t *testing.T) {
	name := filepath.Join(t.TempDir(), "results.xml")
	text := `<testsuites><testsuite><testcase name="a"/><testcase name="b"><failure message="x">text</failure></testcase>` +
		`<testcase name="c"><skipped/></testcase><testcase name="d"><error/></testcase></testsuite></testsuites>`
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := countJUnit(name)
	if want := (counts{passed: 1, failed: 2, skipped: 1}); err != nil || got != want {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func TestSumFailsUnlessSomethingPassedAndNothingFailed(t *testing.T) {
	tests := []struct {
		name  string
		calls [][]string
		want  string
		err   error
	}{
		{"all passed", [][]string{{"-check", "a"}, {"-check", "b"}}, "2 passed, 0 failed, 0 skipped\n", nil},
		{"one failed", [][]string{{"-check", "a"}, {"-check", "b", "-status", "2"}}, "1 passed, 1 failed, 0 skipped\n", errFailed},
		{"nothing ran", [][]string{nil}, "0 passed, 0 failed, 0 skipped\n", errFailed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "counts")
			for _, args := range test.calls {
				if err := run(append(args, "-to", file), strings.NewReader(""), new(bytes.Buffer)); err != nil {
					t.Fatal(err)
				}
			}
			var out bytes.Buffer
			if err := run([]string{"-sum", file}, nil, &out); !errors.Is(err, test.err) {
				t.Errorf("got error %v, want %v", err, test.err)
			}
			if out.String() != test.want {
				t.Errorf("got %q, want %q", out.String(), test.want)
			}
		})
	}
}
