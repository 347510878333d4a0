package goja_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"callchain/nodes"
	"callchain/nodes/script"
	"callchain/nodes/script/goja"

	"github.com/cockroachdb/datadriven"
	"github.com/google/uuid"
)

// engine has a long budget, so that a busy machine changes no result. Budgets have tests of their own.
var engine = goja.New(500 * time.Millisecond)

func message(data string) nodes.Msg {
	return nodes.Msg{
		ID: uuid.MustParse("22222222-2222-4222-8222-222222222222"), TS: 1700000000000, Now: 1700000000123456, Type: nodes.PostTelemetry,
		Originator: nodes.Entity{Type: nodes.Device, ID: uuid.MustParse("11111111-1111-4111-8111-111111111111")},
		Metadata:   nodes.Metadata{"deviceName": "t1", "ts": "1700000000000"}, Data: nodes.Raw([]byte(data)),
	}
}

func compile(t testing.TB, lang script.Lang, body string) script.Script {
	t.Helper()
	s, err := engine.Compile(lang, body)
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return s
}

// shown is a result as JSON, or the error.
func shown(v any, err error) string {
	if err != nil {
		return "error: " + err.Error()
	}
	switch x := v.(type) {
	case script.Undefined:
		return "undefined"
	case nodes.Metadata:
		v = map[string]string(x)
	case map[string]any:
		if md, is := x["metadata"].(nodes.Metadata); is {
			x["metadata"] = map[string]string(md)
		}
	}
	b, err := nodes.AppendJSON(nil, v)
	if err != nil {
		return "no JSON: " + err.Error()
	}
	return string(b)
}

// The files of testdata/scripts are scripts and what they give: a line is a script, or with the argument "whole" all lines are one.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			lang := script.JavaScript
			if strings.HasPrefix(d.Cmd, "tbel") {
				lang = script.TBEL
			}
			m := message(`{"temperature":42,"humidity":0.5,"name":"x","tags":["b","a"],"room":{"z":1,"a":null},"big":9007199254740993,"on":true}`)
			if d.HasArg("data") {
				var data string
				d.ScanArgs(t, "data", &data)
				m.Data = nodes.Raw([]byte(data))
			}
			bodies := strings.Split(d.Input, "\n")
			if strings.HasSuffix(d.Cmd, "-lines") {
				bodies = []string{d.Input}
			}
			var b strings.Builder
			for _, body := range bodies {
				s, err := engine.Compile(lang, body)
				if err != nil {
					fmt.Fprintln(&b, "compile: "+err.Error())
					continue
				}
				fmt.Fprintln(&b, shown(s.Run(m, "n")))
			}
			return b.String()
		})
	})
}

func TestSuspension(t *testing.T) {
	e := goja.New(5 * time.Millisecond)
	s, err := e.Compile(script.JavaScript, "while (msg.loop) {} return true;")
	if err != nil {
		t.Fatal(err)
	}
	at := func(second int64, loop bool) error {
		m := message(fmt.Sprintf(`{"loop":%t}`, loop))
		m.Now += second * 1_000_000
		_, err := s.Run(m, "n")
		return err
	}
	for second := range int64(2) {
		excess, is := errors.AsType[*script.Excess](at(second, true))
		if !is || excess.Until != 0 {
			t.Fatalf("an endless loop gives %v", excess)
		}
	}
	if err := at(2, false); err != nil {
		t.Fatalf("two excesses suspend: %v", err)
	}
	third := at(3, true)
	if third == nil || !strings.HasPrefix(third.Error(), "budget_exceeded: the script ran longer than its budget of 5ms") {
		t.Fatal(third)
	}
	for second, want := range map[int64]bool{4: true, 62: true, 63: false, 64: false} {
		err := at(second, false)
		if excess, is := errors.AsType[*script.Excess](err); is != want || is && excess.Until != message("").Now+63_000_000 {
			t.Errorf("%d s after the first excess: %v", second, err)
		}
	}
	if err := at(65, true); err == nil || strings.Contains(err.Error(), "suspended") {
		t.Errorf("after a suspension an excess gives %v", err)
	}
	if stats := e.Stats(); stats.Excesses != 4 {
		t.Errorf("%d excesses are counted, want 4", stats.Excesses)
	}
}

// Excesses that are further apart than a minute do not add up.
func TestRareExcessesDoNotSuspend(t *testing.T) {
	s, err := goja.New(5*time.Millisecond).Compile(script.JavaScript, "while (true) {}")
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(5) {
		m := message("{}")
		m.Now += i * 31_000_000
		if _, err := s.Run(m, "n"); err == nil || strings.Contains(err.Error(), "suspended") {
			t.Errorf("excess %d: %v", i, err)
		}
	}
}
