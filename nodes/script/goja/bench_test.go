package goja_test

import (
	"testing"

	"callchain/nodes"
	"callchain/nodes/script"
)

// hundred is a message of 100 bytes.
const hundred = `{"temperature":42.5,"humidity":48,"battery":3.61,"mode":"cooling","fan":true,"error":null,"rssi":-71}`

// parsed is a message whose data have been parsed, as they have by the time when the second node sees it.
func parsed(b *testing.B, data string) nodes.Msg {
	m := message(data)
	if _, err := m.Data.Value(); err != nil {
		b.Fatal(err)
	}
	return m
}

func benchmark(b *testing.B, body string) {
	s, m := compile(b, script.JavaScript, body), parsed(b, hundred)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Run(m, "n"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNothing(b *testing.B) { benchmark(b, "return true;") }

func BenchmarkFilter(b *testing.B) { benchmark(b, "return msg.temperature > 20;") }

func BenchmarkFilterWithMetadata(b *testing.B) {
	benchmark(b, "return msg.temperature > 20 && metadata.deviceName == 't1';")
}

func BenchmarkTransform(b *testing.B) {
	benchmark(b, "msg.fahrenheit = msg.temperature * 1.8 + 32; return {msg: msg, metadata: metadata, msgType: msgType};")
}

func BenchmarkTransformNew(b *testing.B) {
	benchmark(b, "return {msg: {f: msg.temperature * 1.8 + 32}, metadata: metadata, msgType: 'OTHER'};")
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		compile(b, script.JavaScript, "msg.fahrenheit = msg.temperature * 1.8 + 32; return {msg: msg, metadata: metadata, msgType: msgType};")
	}
}
