package local_test

import (
	"testing"

	"callchain/engine/bus"
	"callchain/engine/bus/bustest"
	"callchain/engine/bus/local"
)

func TestInbox(t *testing.T) {
	const bound = 300
	open := func(*testing.T) (bus.Inbox, func()) {
		in := local.New(bound)
		return in, in.Close
	}
	bustest.Run(t, bustest.Fixture{Bound: bound, Partitions: 4, Site: func(*testing.T) *bustest.Site { return &bustest.Site{Open: open} }})
}
