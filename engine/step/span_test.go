package step_test

import (
	"testing"

	"callchain/engine/step"
)

func TestTraceparentIsReadAndWritten(t *testing.T) {
	const text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	trace, span, ok := step.ParseTraceparent(text)
	if !ok || !span.Sampled || span.ID[1] != 0xf0 || trace[0] != 0x4b {
		t.Fatalf("read %x %+v %t", trace, span, ok)
	}
	if got := step.Traceparent(trace, span); got != text {
		t.Errorf("written as %s", got)
	}
	span.Sampled = false
	if got := step.Traceparent(trace, span); got != text[:54]+"0" {
		t.Errorf("not sampled, it is written as %s", got)
	}
	if _, _, ok := step.ParseTraceparent("01" + text[2:] + "-what.comes.later"); !ok {
		t.Error("a later version is refused")
	}
}

func TestMalformedTraceparentIsNone(t *testing.T) {
	for _, text := range []string{
		"", "00", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
		"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
		"00-4bf92f3577b34da6a3ce929d0e0e473x-00f067aa0ba902b7-01",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
		"00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-011",
	} {
		if trace, span, ok := step.ParseTraceparent(text); ok || trace != [16]byte{} || span != (step.Span{}) {
			t.Errorf("%q is read as %x %+v", text, trace, span)
		}
	}
}
