package rpc

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// future is a program that does not exist yet: it stores the wire id of a Queued under another name.
func future() Schemas[Fact] {
	schemas := maps.Clone(factSchemas)
	queued := schemas["Queued"]
	schemas["Queued"] = Schema[Fact]{
		Version: 2,
		Read: func(data []byte) (Fact, error) {
			older, err := renamed(data, "wireId", "wire")
			if err != nil {
				return nil, err
			}
			return queued.Read(older)
		},
		Upcast: []func([]byte) ([]byte, error){func(data []byte) ([]byte, error) { return renamed(data, "wire", "wireId") }},
	}
	return schemas
}

func renamed(data []byte, from, to string) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, err
	}
	fields[to] = fields[from]
	delete(fields, from)
	return json.Marshal(fields)
}

// TestUpcast: a newer program reads what this one stored, and its own form beside it.
func TestUpcast(t *testing.T) {
	files, err := filepath.Glob("testdata/events/Queued.v1*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stored examples (%v)", err)
	}
	for _, file := range files {
		data := example(t, file)
		now, err := DecodeFact("Queued", 1, data)
		if err != nil {
			t.Fatal(err)
		}
		if later, err := future().Decode("Queued", 1, data); err != nil || !reflect.DeepEqual(later, now) {
			t.Errorf("%s is read as %#v by the newer program (%v), as %#v by this one", file, later, err, now)
		}
	}
	f, err := future().Decode("Queued", 2, example(t, "testdata/future/Queued.v2.json"))
	if q, ok := f.(Queued); err != nil || !ok || q.Wire != 7 {
		t.Errorf("version 2 is read as %#v, %v", f, err)
	}
	if _, err := future().Decode("Queued", 0, []byte(`{}`)); err == nil || errors.Is(err, ErrUnknownEvent) {
		t.Errorf("a version from before the first: %v", err)
	}
}

// TestNewerEvents: events that only a newer program can read are refused, with another error than damaged ones.
func TestNewerEvents(t *testing.T) {
	if _, err := DecodeFact("Queued", 2, example(t, "testdata/future/Queued.v2.json")); !errors.Is(err, ErrUnknownEvent) {
		t.Errorf("a newer version: %v", err)
	}
	if _, err := DecodeFact("Teleported", 1, []byte(`{}`)); !errors.Is(err, ErrUnknownEvent) {
		t.Errorf("an unknown type: %v", err)
	}
	if _, err := DecodeFact("Queued", 1, []byte(`{"wire":"x"}`)); err == nil || errors.Is(err, ErrUnknownEvent) {
		t.Errorf("damaged data: %v", err)
	}
}

func example(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
