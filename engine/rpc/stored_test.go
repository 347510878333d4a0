package rpc_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"callchain/engine/rpc"
)

var record = flag.Bool("record", false, "write the printed values of new stored examples; existing ones are never changed")

// TestStoredExamples: what was stored once is read for ever. Each file of testdata/events is the stored form of one fact as
// some version wrote it; beside it stands the value that it was read as then. Files are added, never changed.
func TestStoredExamples(t *testing.T) {
	files, err := filepath.Glob("testdata/events/*.json")
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, file := range files {
		name, version := exampleName(t, file)
		have[name] = have[name] || version == rpc.DataVersion
		t.Run(filepath.Base(file), func(t *testing.T) {
			f, err := rpc.DecodeFact(name, version, read(t, file))
			if err != nil {
				t.Fatal(err)
			}
			compare(t, strings.TrimSuffix(file, ".json")+".txt", describe(t, f))
		})
	}
	for _, name := range factNames(t) {
		if !have[name] {
			t.Errorf("there is no testdata/events/%s.v%d.json: a fact without a stored example may change unseen", name, rpc.DataVersion)
		}
	}
}

// exampleName takes Queued.v1.json and Queued.v1.again.json apart.
func exampleName(t *testing.T, file string) (name string, version int16) {
	t.Helper()
	parts := strings.Split(filepath.Base(file), ".")
	if _, err := fmt.Sscanf(parts[1], "v%d", &version); err != nil {
		t.Fatalf("%s: the name is no TYPE.vN.json", file)
	}
	return parts[0], version
}

// describe is a fact as text: not its stored form, which a new version may change.
func describe(t *testing.T, f rpc.Fact) string {
	t.Helper()
	v := reflect.ValueOf(f)
	text := f.Name() + "\n"
	for i := range v.NumField() {
		name, field := v.Type().Field(i).Name, v.Field(i)
		if field.IsZero() {
			continue // fields that are added later read as zero from what was stored before
		}
		switch value := field.Interface().(type) {
		case *int:
			text += fmt.Sprintf("  %s %d\n", name, *value)
		case *string:
			text += fmt.Sprintf("  %s %q\n", name, *value)
		case json.RawMessage:
			text += fmt.Sprintf("  %s %s\n", name, value)
		case []byte:
			text += fmt.Sprintf("  %s %x\n", name, value)
		case rpc.Payload:
			text += fmt.Sprintf("  %s form %d, bytes %q\n", name, value.Form, value.Bytes)
		default:
			text += fmt.Sprintf("  %s %v\n", name, value)
		}
	}
	return text
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// compare holds a text against its record; with -record a missing one is written.
func compare(t *testing.T, file, got string) {
	t.Helper()
	if _, err := os.Stat(file); os.IsNotExist(err) && *record {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want := string(read(t, file)); got != want {
		t.Errorf("%s: this version reads\n%s\nwhat was recorded is\n%s", file, got, want)
	}
}

// stored is an event of a history file: envelope fields that matter here, and the data.
type stored struct {
	Call string          `json:"call,omitempty"` // short name; empty: an event of the device
	At   rpc.Instant     `json:"at"`
	Type string          `json:"type"`
	Data json.RawMessage `json:"data"`
}

// TestStoredHistories folds recorded histories of a device to the state that was recorded with them.
func TestStoredHistories(t *testing.T) {
	files, err := filepath.Glob("testdata/histories/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no histories found (%v)", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			var events []stored
			if err := json.Unmarshal(read(t, file), &events); err != nil {
				t.Fatal(err)
			}
			compare(t, strings.TrimSuffix(file, ".json")+".txt", foldStored(t, events))
		})
	}
}

func foldStored(t *testing.T, events []stored) string {
	t.Helper()
	w := newWorld(rpc.DefaultSettings())
	var names []string
	bodies := map[string]rpc.Body{}
	for _, s := range events {
		f, err := rpc.DecodeFact(s.Type, rpc.DataVersion, s.Data)
		if err != nil {
			t.Fatal(err)
		}
		e := rpc.Event{Meta: rpc.Meta{At: s.At, Occurred: s.At}, Fact: f}
		if s.Call != "" {
			e.Call = named(s.Call)
			bodies[s.Call] = rpc.EvolveBody(bodies[s.Call], f)
			if !slices.Contains(names, s.Call) {
				names = append(names, s.Call)
			}
		}
		if err := w.apply(e); err != nil {
			t.Fatal(err)
		}
	}
	text := fmt.Sprintf("device: next wire %d, session %s\n", w.device.NextWire, connection(w.device.Session))
	for _, name := range names {
		c, body := rpc.FoldCall(w.stream(named(name)), w.device.Settings), bodies[name]
		text += fmt.Sprintf("%s: %s\n  record %s\n", name, state(c), rpc.AppendRecord(nil, named("tenant"), w.device.ID, &c, &body))
	}
	return text
}

// state is that of a call in words; what is derived from it or from the session is left out.
func state(c rpc.Call) string {
	text := fmt.Sprintf("%s, shown %s, wire %d, created %d, queued %d, expires %d", c.Phase, c.Status, c.Wire, c.Created, c.QueuedAt, c.Expires)
	text += fmt.Sprintf(", retries %d, failures %d, written %d, direction %d, order %d", c.Retries, c.Failures, c.Written, c.Direction, c.Order)
	text += fmt.Sprintf(", oneway %t, persistent %t, waiting %t, removed %t", c.Oneway, c.Persistent, c.Waiting, c.Removed)
	return text + fmt.Sprintf(", run %s, reason %q", c.Run, c.Reason)
}

// connection is a session as the oldest histories show it; what came later is shown if it is set.
func connection(s rpc.Session) string {
	text := fmt.Sprintf("{ID:%s Subscribed:%v}", s.ID, s.Subscribed)
	if s.Once {
		text += fmt.Sprintf(", one call at a time, spent %v", s.Spent)
	}
	return text
}
