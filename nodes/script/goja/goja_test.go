package goja_test

import (
	"reflect"
	"testing"

	"callchain/nodes"
	"callchain/nodes/script"
	"callchain/nodes/script/goja"

	"github.com/google/uuid"
)

func message(data string) nodes.Msg {
	return nodes.Msg{
		ID: uuid.MustParse("22222222-2222-4222-8222-222222222222"), TS: 1700000000000, Now: 1700000000123456, Type: nodes.PostTelemetry,
		Originator: nodes.Entity{Type: nodes.Device, ID: uuid.MustParse("11111111-1111-4111-8111-111111111111")},
		Metadata:   nodes.Metadata{"deviceName": "t1", "ts": "1700000000000"}, Data: nodes.Raw([]byte(data)),
	}
}

var engine = goja.New(0)

// run is the result of a script, or its error as text.
func run(t testing.TB, lang script.Lang, body string, m nodes.Msg) any {
	t.Helper()
	s, err := engine.Compile(lang, body)
	if err != nil {
		return "compile: " + err.Error()
	}
	v, err := s.Run(m, "n")
	if err != nil {
		return "error: " + err.Error()
	}
	return v
}

func TestFirst(t *testing.T) {
	for body, want := range map[string]any{
		"return msg.temperature > 20;":             true,
		"return msg.temperature;":                  int64(42),
		"return 'a' + msg.temperature + msg.name;": "a42x",
	} {
		if got := run(t, script.JavaScript, body, message(`{"temperature":42,"name":"x"}`)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %#v", body, got)
		}
	}
}

func BenchmarkFilter(b *testing.B) {
	s, err := engine.Compile(script.JavaScript, "return msg.temperature > 20 && metadata.deviceName == 't1';")
	if err != nil {
		b.Fatal(err)
	}
	m := message(`{"temperature":42,"humidity":0.5,"name":"x","tags":["a","b"],"room":{"floor":2,"name":"kitchen 12345678"}}`)
	b.ReportAllocs()
	for b.Loop() {
		if v, err := s.Run(m, "n"); err != nil || v != true {
			b.Fatal(v, err)
		}
	}
}
