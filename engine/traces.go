package engine

import (
	"fmt"

	"callchain/chains"
	"callchain/engine/projection"
	"callchain/engine/step"
	"callchain/nodes"

	"github.com/google/uuid"
)

// tracesMax bounds the rows of traces in one batch: a storm of failures must not slow down what it is about.
const tracesMax = 200

// ringsMax bounds the nodes whose next slot is remembered; what is forgotten begins anew at a slot taken from the clock.
const ringsMax = 1 << 16

// ring names the rows of a node in a partition.
type ring struct {
	node      uuid.UUID
	partition int32
}

// tracer collects what the nodes of one step did.
type tracer struct {
	seen []chains.TraceEntry
	next map[ring]int64 // slots
}

// begin forgets a step that is run again.
func (t *tracer) begin() { t.seen = t.seen[:0] }

func (t *tracer) note(e chains.TraceEntry) {
	if len(t.seen) < tracesMax {
		t.seen = append(t.seen, e)
	}
}

// slot is the place of a node's next row. After a restart it is one that the clock gives, so that the newest rows are not the
// first to go.
func (t *tracer) slot(r ring, at int64) int64 {
	n, known := t.next[r]
	if !known {
		if t.next == nil || len(t.next) >= ringsMax {
			t.next = map[ring]int64{}
		}
		n = at / 1_000_000
	}
	t.next[r] = n + 1
	return n % projection.TraceSlots
}

// storeTraces brings what the nodes of a step did into the batch.
func (o *owner) storeTraces(part *partition, d Device, cmd step.Command) {
	if len(o.tracer.seen) == 0 {
		return
	}
	pb := o.batch.part(part.cp)
	for i := range o.tracer.seen {
		for _, t := range traced(&o.tracer.seen[i]) {
			if o.batch.traces >= tracesMax {
				o.e.metrics.untraced.Inc()
				continue
			}
			o.batch.traces++
			t.Tenant, t.Partition, t.At, t.ID = d.Tenant, part.cp.Partition, int64(cmd.At), newID()
			t.Slot = o.tracer.slot(ring{t.Node, t.Partition}, t.At)
			row, err := t.Row()
			if err != nil {
				panic(fmt.Sprintf("engine: %v", err)) // texts and numbers only
			}
			pb.Rows = append(pb.Rows, row)
		}
	}
	o.batch.events += len(o.tracer.seen) // rows cost, too
	o.tracer.begin()
}

// traced are the rows of one execution: the message that came, unless the node had it already, and those that it sent on.
func traced(e *chains.TraceEntry) []projection.Trace {
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
