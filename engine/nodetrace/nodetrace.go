// Package nodetrace makes the debug traces of rule nodes (projection.Traces).
package nodetrace

import (
	"fmt"

	"callchain/chains"
	"callchain/engine/projection"
	"callchain/eventstore"
	"callchain/nodes"

	"github.com/google/uuid"
)

// Most bounds the rows of traces in one batch, and the entries of one step: a storm of failures must not slow down what it is about.
const Most = 200

// ringsMost bounds the nodes with a remembered next slot; another node's slot is taken from the clock.
const ringsMost = 1 << 16

// ring names the rows of a node in a partition.
type ring struct {
	node      uuid.UUID
	partition int32
}

// Recorder records the node executions of one step.
type Recorder struct {
	entries []chains.TraceEntry
	next    map[ring]int64 // slots
}

// Reset forgets the entries of a step.
func (r *Recorder) Reset() { r.entries = r.entries[:0] }

// Note implements step.Env.Trace.
func (r *Recorder) Note(e chains.TraceEntry) {
	if len(r.entries) < Most {
		r.entries = append(r.entries, e)
	}
}

// Entries is the number of node executions that were recorded.
func (r *Recorder) Entries() int { return len(r.entries) }

// Rows are the rows of the entries, at most so many, in a partition of a tenant at a time in µs; dropped is the number of those beyond.
func (r *Recorder) Rows(most int, tenant uuid.UUID, partition int32, at int64, newID func() uuid.UUID) (rows []eventstore.Row, dropped int) {
	for i := range r.entries {
		for _, t := range tracesOf(&r.entries[i]) {
			if len(rows) >= most {
				dropped++
				continue
			}
			t.Tenant, t.Partition, t.At, t.ID = tenant, partition, at, newID()
			t.Slot = r.slot(ring{t.Node, partition}, at)
			row, err := t.Row()
			if err != nil {
				panic(fmt.Sprintf("nodetrace: %v", err)) // texts and numbers only
			}
			rows = append(rows, row)
		}
	}
	return rows, dropped
}

// slot is the place of a node's next row. After a restart it is one that the clock gives, so that the newest rows are not the first to go.
func (r *Recorder) slot(of ring, at int64) int64 {
	n, known := r.next[of]
	if !known {
		if r.next == nil || len(r.next) >= ringsMost {
			r.next = map[ring]int64{}
		}
		n = at / 1_000_000
	}
	r.next[of] = n + 1
	return n % projection.TraceSlots
}

// tracesOf are the traces of one execution: the message that came, unless the node had it already, and those that it sent on.
func tracesOf(e *chains.TraceEntry) []projection.Trace {
	var out []projection.Trace
	if !e.Resumed {
		out = append(out, traceOf(e, projection.TraceIn, "", e.In))
	}
	for _, em := range e.Out.Emits {
		t := traceOf(e, projection.TraceOut, em.Relation, em.Msg)
		if em.Relation == e.Relation && e.Error != "" {
			t.Failed, t.Body.Error = true, projection.Clip(e.Error)
		}
		out = append(out, t)
	}
	return out
}

func traceOf(e *chains.TraceEntry, direction, relation string, m nodes.Msg) projection.Trace {
	data, err := m.Data.Bytes()
	if err != nil {
		data = []byte(err.Error())
	}
	call, err := uuid.Parse(m.Metadata["requestUUID"])
	if err != nil {
		call = uuid.Nil // the message is about no call of an application
	}
	return projection.Trace{
		Node: e.ID, Message: m.ID, Call: call, Direction: direction,
		Body: projection.TraceBody{
			Chain: e.Chain, Version: e.Version, Name: e.Node, EntityType: m.Originator.Type, Entity: m.Originator.ID, Type: m.Type,
			Relation: relation, Data: projection.Clip(string(data)), Metadata: projection.ClipMetadata(m.Metadata),
		},
	}
}
