package chains_test

import (
	"testing"

	"callchain/chains"
	"callchain/nodes"
	"callchain/nodes/builtin"

	"github.com/google/uuid"
)

const benchChain = `
name: bench
nodes:
  - name: by type
    type: message type switch
    to: {Post telemetry: hot}
  - name: hot
    type: filter
    config: {condition: 'msg.temperature > 30 && metadata.deviceType == "thermostat"'}
    to: {"True": change}
  - name: change
    type: transform
    config: {msg: '{"celsius": msg.temperature, "room": msg.room}'}
    to: {Success: done}
  - name: done
    type: acknowledge
`

var benchData = []byte(`{"temperature":42.5,"humidity":61,"room":"kitchen","battery":97,"online":1}`)

func benchProgram(tb testing.TB) *chains.Program {
	tb.Helper()
	d, err := chains.Parse("bench", []byte(benchChain))
	if err != nil {
		tb.Fatal(err)
	}
	p, err := chains.Compile(d, builtin.Registry(), uuid.Nil, 1)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// BenchmarkRun takes a 75-byte message from bytes to outcome: type switch, filter, transform, acknowledge.
func BenchmarkRun(b *testing.B) {
	p := benchProgram(b)
	md := nodes.Metadata{"deviceName": "t1", "deviceType": "thermostat", "ts": "1700000000000"}
	b.ReportAllocs()
	for b.Loop() {
		res := p.Run(chains.Env{}, nodes.Msg{Type: nodes.PostTelemetry, Originator: originator, Metadata: md, Data: nodes.Raw(benchData)})
		if !res.Acked || res.Steps != 4 {
			b.Fatalf("%+v", res)
		}
	}
}

// BenchmarkParseJSON is the part of it that reads the message.
func BenchmarkParseJSON(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := nodes.ParseJSON(benchData); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	d, err := chains.Parse("bench", []byte(benchChain))
	if err != nil {
		b.Fatal(err)
	}
	registry := builtin.Registry()
	for b.Loop() {
		if _, err := chains.Compile(d, registry, uuid.Nil, 1); err != nil {
			b.Fatal(err)
		}
	}
}
