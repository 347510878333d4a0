package rpc_test

import (
	"fmt"
	"testing"

	"callchain/engine/rpc"
)

// twoWayStream is the stream of a two-way call that was answered: five events.
func twoWayStream() []rpc.Event {
	call, at := named("c1"), rpc.Meta{At: began, Occurred: began}
	facts := []rpc.Fact{
		rpc.Requested{Method: "setGpio", Params: []byte(`{"pin":7,"value":1}`), Waiting: true, Expires: began + 60_000_000, Content: make([]byte, 32)},
		rpc.Queued{Wire: 12},
		rpc.Sent{Session: named("A"), Attempt: 1, Ack: true},
		rpc.Delivered{Evidence: "puback"},
		rpc.Succeeded{Response: rpc.NewPayload([]byte(`{"value":1}`))},
	}
	events := make([]rpc.Event, len(facts))
	for i, f := range facts {
		events[i] = rpc.Event{Meta: at, Call: call, Fact: f}
	}
	return events
}

func perEvent(b *testing.B, events int) {
	b.ReportMetric(float64(b.N)*float64(events)/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkFoldCall(b *testing.B) {
	events, settings := twoWayStream(), rpc.DefaultSettings()
	b.ReportAllocs()
	for b.Loop() {
		if c := rpc.FoldCall(events, settings); c.Phase != rpc.PhaseSucceeded {
			b.Fatal(c.Phase)
		}
	}
	perEvent(b, len(events))
}

func BenchmarkDecodeAndFold(b *testing.B) {
	events, settings := twoWayStream(), rpc.DefaultSettings()
	data := make([][]byte, len(events))
	for i, e := range events {
		var err error
		if data[i], err = rpc.AppendData(nil, e.Fact); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		var c rpc.Call
		for i := range events {
			f, err := rpc.DecodeFact(events[i].Fact.Name(), rpc.DataVersion, data[i])
			if err != nil {
				b.Fatal(err)
			}
			c = rpc.EvolveCall(c, rpc.Event{Meta: events[i].Meta, Call: events[i].Call, Fact: f}, settings)
		}
		if c.Phase != rpc.PhaseSucceeded {
			b.Fatal(c.Phase)
		}
	}
	perEvent(b, len(events))
}

func BenchmarkEncode(b *testing.B) {
	events := twoWayStream()
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		for i := range events {
			var err error
			if buf, err = rpc.AppendData(buf[:0], events[i].Fact); err != nil {
				b.Fatal(err)
			}
		}
	}
	perEvent(b, len(events))
}

// BenchmarkDecide is a whole call on a device that has others open.
func BenchmarkDecide(b *testing.B) {
	for _, open := range []int{0, 100, 10_000} {
		b.Run(fmt.Sprintf("open=%d", open), func(b *testing.B) {
			w := newWorld(rpc.DefaultSettings())
			w.device.Settings.MaxOpen = open + 1
			meta := rpc.Meta{At: began}
			put := func(do rpc.Action) {
				var err error
				if _, w.device, err = rpc.Decide(w.device, rpc.Command{Meta: meta, Do: do}); err != nil {
					b.Fatal(err)
				}
			}
			put(rpc.Connect{Session: named("A")})
			put(rpc.Subscribe{Session: named("A")})
			for i := range open {
				id := named(fmt.Sprint(i))
				put(rpc.Request{ID: id, Persistent: true, Expires: began + 1})
				put(rpc.Dispatch{Call: id})
			}
			call := named("measured")
			for b.Loop() {
				put(rpc.Request{ID: call, Expires: began + 1})
				put(rpc.Dispatch{Call: call})
				put(rpc.Written{Session: named("A"), Call: call, Attempt: 1, Ack: true})
				put(rpc.Reply{Wire: w.device.NextWire - 1})
			}
		})
	}
}
