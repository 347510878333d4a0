package kafka

import (
	"testing"

	"github.com/rcrowley/go-metrics"
)

// TestTheLibraryMeasuresNothing: all that the client library asks for does nothing, and nothing is kept.
func TestTheLibraryMeasuresNothing(t *testing.T) {
	c, err := (&Options{}).config("test")
	if err != nil {
		t.Fatal(err)
	}
	r := c.MetricRegistry
	for _, m := range []any{
		metrics.GetOrRegisterMeter("meter", r), metrics.GetOrRegisterCounter("counter", r),
		r.GetOrRegister("histogram", func() metrics.Histogram { return metrics.NewHistogram(metrics.NewUniformSample(1)) }),
	} {
		switch m.(type) {
		case metrics.NilMeter, metrics.NilCounter, metrics.NilHistogram:
		default:
			t.Errorf("a %T measures", m)
		}
	}
	r.Each(func(name string, _ any) { t.Errorf("%s is kept", name) })
}
