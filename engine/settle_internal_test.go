package engine

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"

	"callchain/chains"
	"callchain/engine/bus"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// noDirectory is asked for nothing.
type noDirectory struct{ Directory }

func (noDirectory) Chain(uuid.UUID) *chains.Program { return nil }

// TestACommandThatPanicsWithoutItsChainToo: it is not processed, so no letter says so, and a rerun of it has not changed anything.
func TestACommandThatPanicsWithoutItsChainToo(t *testing.T) {
	var noStore eventstore.Store // the step panics before it is asked
	var noInbox bus.Inbox
	unknown := step.Command{Device: uuid.New(), Do: step.RPC{Do: struct{ rpc.Action }{}}}
	for _, rerunning := range []bool{false, true} {
		e := New(Config{Partitions: 1, DeadLetters: 1}, noStore, noInbox, noDirectory{}, NewMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler))
		o := newOwner(e)
		o.rerunning = rerunning
		if err := o.settle(context.Background(), bus.Message{Done: func(error) {}}, unknown, Device{}); err != nil {
			t.Fatal(err)
		}
		if len(o.batch.done) != 1 || o.batch.done[0].err == nil {
			t.Fatalf("the sender is told %+v", o.batch.done)
		}
		var failed *RerunError
		if pb := o.batch.parts[0]; rerunning && (pb != nil || o.parts[0].cp.Seq != 0 || !errors.As(o.batch.done[0].err, &failed)) {
			t.Errorf("the rerun left %+v, and the user is told %v", pb, o.batch.done[0].err)
		} else if !rerunning {
			wantOneLetter(t, pb)
		}
	}
}

func wantOneLetter(t *testing.T, pb *eventstore.PartitionBatch) {
	t.Helper()
	if pb == nil || len(pb.Events) != 1 || len(pb.Rows) != 1 {
		t.Fatalf("the command left %+v, want a fact and a letter", pb)
	}
	l := readLetter(pb.Rows[0].Values)
	var k kept
	if err := json.Unmarshal(l.Data, &k); err != nil || k.Processed {
		t.Errorf("the letter is %s (%v)", l.Data, err)
	}
}
