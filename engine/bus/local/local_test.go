package local_test

import (
	"testing"

	"callchain/engine/bus"
	"callchain/engine/bus/bustest"
	"callchain/engine/bus/local"
)

func TestInbox(t *testing.T) {
	bustest.Run(t, func(*testing.T) bus.Inbox { return local.New(300) })
}
