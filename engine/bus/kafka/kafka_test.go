package kafka_test

import (
	"os"
	"testing"

	"callchain/engine/bus"
	"callchain/engine/bus/bustest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

func TestInbox(t *testing.T) {
	f := bustest.Fixture{Bound: bound, Partitions: partitions}
	f.Site = func(t *testing.T) *bustest.Site {
		s := newSite(t)
		made := &bustest.Site{Renew: s.renew, Remove: s.remove, Trim: s.trim, Corrupt: s.spoil}
		made.Open = func(t *testing.T) (bus.Inbox, func()) {
			b, end := s.open(t, s.options(t))
			return b.Inbox(), end
		}
		if os.Getenv("CALLCHAIN_TEST_KAFKA_CTL") != "" {
			made.Down, made.Hang = down, hang
		}
		return made
	}
	bustest.Run(t, f)
}
