package rpc_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"testing"

	"callchain/engine/rpc"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// TestEveryFactIsGenerated keeps the properties below complete.
func TestEveryFactIsGenerated(t *testing.T) {
	if got, want := slices.Sorted(maps.Keys(factGens())), factNames(t); !slices.Equal(got, want) {
		t.Errorf("facts generated %v, facts declared %v", got, want)
	}
}

// TestStoredForm: the stored form of a fact means what encoding/json makes of it, and gives the fact back.
func TestStoredForm(t *testing.T) {
	for name, g := range factGens() {
		t.Run(name, rapid.MakeCheck(func(t *rapid.T) {
			f := g.Draw(t, "fact")
			data, err := rpc.AppendData([]byte("x"), f)
			if err != nil || data[0] != 'x' {
				t.Fatalf("AppendData gives %q, %v", data, err)
			}
			data = data[1:]
			plain, err := json.Marshal(f)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(meaning(t, data), meaning(t, plain)) {
				t.Fatalf("stored %s\nplain  %s", data, plain)
			}
			back, err := rpc.DecodeFact(name, rpc.DataVersion, data)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(back, f) {
				t.Fatalf("stored %#v\nread   %#v\n%s", f, back, data)
			}
		}))
	}
}

// meaning is JSON as a value; numbers keep their digits.
func meaning(t *rapid.T, data []byte) any {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%q is not JSON: %v", data, err)
	}
	return v
}

// TestWhiteSpaceIsNotStored: JSON is stored compact, and its texts untouched.
func TestWhiteSpaceIsNotStored(t *testing.T) {
	data, err := rpc.AppendData(nil, rpc.Succeeded{Response: rpc.NewPayload([]byte("{ \"a b\" :\r\n\t[ 1 ] }"))})
	if err != nil || string(data) != `{"response":{"json":{"a b":[1]}}}` {
		t.Errorf("got %s, %v", data, err)
	}
}

// TestUnknownFacts: what this program does not know is an error, so that nobody folds half a stream.
func TestUnknownFacts(t *testing.T) {
	for _, tt := range []struct {
		name    string
		version int16
		data    string
	}{
		{"Teleported", rpc.DataVersion, `{}`},
		{"Queued", rpc.DataVersion + 1, `{}`},
		{"Queued", 0, `{}`},
		{"Queued", rpc.DataVersion, `{"wire":"x"}`},
		{"Queued", rpc.DataVersion, ``},
		{"Requested", rpc.DataVersion, `[]`},
		{"Succeeded", rpc.DataVersion, `{"response":{"base64":"!"}}`},
	} {
		if f, err := rpc.DecodeFact(tt.name, tt.version, []byte(tt.data)); err == nil {
			t.Errorf("DecodeFact(%s, %d, %s) = %#v, want an error", tt.name, tt.version, tt.data, f)
		}
	}
}

func TestPayloadForms(t *testing.T) {
	for _, tt := range []struct {
		bytes  string
		form   rpc.Form
		stored string
	}{
		{"", rpc.Empty, `{}`},
		{"null", rpc.JSON, `{"json":null}`},
		{" 1 ", rpc.JSON, `{"json":1}`},
		{`"é"`, rpc.JSON, `{"json":"é"}`},
		{"{'a':1}", rpc.Text, `{"text":"{'a':1}"}`},
		{" ", rpc.Text, `{"text":" "}`},
		{"a\x00\"\\\n<é>", rpc.Text, `{"text":"a\u0000\"\\\n<é>"}`},
		{"\xff\xfe", rpc.Binary, `{"base64":"//4="}`},
		{"\"\xff\"", rpc.Binary, `{"base64":"Iv8i"}`},
	} {
		p := rpc.NewPayload([]byte(tt.bytes))
		if p.Form != tt.form {
			t.Errorf("NewPayload(%q) has form %d, want %d", tt.bytes, p.Form, tt.form)
		}
		stored := p.AppendJSON(nil)
		if string(stored) != tt.stored {
			t.Errorf("%q is stored as %s, want %s", tt.bytes, stored, tt.stored)
		}
		var back rpc.Payload
		if err := json.Unmarshal(stored, &back); err != nil || back.Form != p.Form {
			t.Errorf("%s reads as form %d (%v), want %d", stored, back.Form, err, p.Form)
		}
	}
}

// TestEvolveIsTotal: any facts in any order fold without a panic, twice to the same state, and change nothing that was there.
func TestEvolveIsTotal(t *testing.T) {
	var gens []*rapid.Generator[rpc.Fact]
	for _, name := range slices.Sorted(maps.Keys(factGens())) {
		gens = append(gens, factGens()[name])
	}
	rapid.Check(t, func(t *rapid.T) {
		d := rpc.Device{ID: named("device"), Settings: settings(t)}
		var body rpc.Body
		for range rapid.IntRange(1, 30).Draw(t, "length") {
			e := rpc.Event{Meta: rpc.Meta{At: instant(t), Occurred: instant(t)}, Call: id(t), Fact: rapid.OneOf(gens...).Draw(t, "fact")}
			before := contentOf(d)
			next, again := rpc.Evolve(d, e), rpc.Evolve(d, e)
			if !reflect.DeepEqual(before, contentOf(d)) {
				t.Fatalf("Evolve(%s) changed its argument", e.Fact.Name())
			}
			if !reflect.DeepEqual(contentOf(next), contentOf(again)) {
				t.Fatalf("Evolve(%s) gives two states", e.Fact.Name())
			}
			d, body = next, rpc.EvolveBody(body, e.Fact)
			for _, c := range openCalls(d) {
				d.NextDeadline(c)
				if record := rpc.AppendRecord(nil, uuid.Nil, d.ID, c, &body); !json.Valid(record) {
					t.Fatalf("the record is no JSON: %s", record)
				}
			}
			rpc.Outstanding(d)
		}
	})
}

// TestAnyCommandsKeepTheInvariants plays random commands, with unknown ids and times too.
func TestAnyCommandsKeepTheInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(settings(t))
		for range rapid.IntRange(1, 60).Draw(t, "length") {
			w.now = w.now.Add(rapid.SampledFrom(pauses).Draw(t, "pause"))
			if rapid.IntRange(0, 15).Draw(t, "crash") == 0 {
				w.crash()
			}
			if _, _, broken := w.do(action(t, &w)); broken != nil {
				t.Fatal(broken)
			}
		}
	})
}
