package archive

import (
	"fmt"
	"math"

	"callchain/engine/projection"
	"callchain/eventstore"
	"callchain/migrations"
	"callchain/registry"

	"github.com/google/uuid"
)

// events and checkpoints are written as tables, too, in the order of the envelope's fields.
var (
	events = &eventstore.Table{Name: "events", Key: 2, Columns: []eventstore.Column{
		{Name: "partition", Kind: eventstore.Int},
		{Name: "seq", Kind: eventstore.Int},
		{Name: "stream", Kind: eventstore.Text},
		{Name: "began", Kind: eventstore.Int},
		{Name: "version", Kind: eventstore.Int},
		{Name: "type", Kind: eventstore.Text},
		{Name: "type_version", Kind: eventstore.Int},
		{Name: "at", Kind: eventstore.Int},
		{Name: "occurred", Kind: eventstore.Int},
		{Name: "tenant", Kind: eventstore.UUID},
		{Name: "device", Kind: eventstore.UUID},
		{Name: "actor", Kind: eventstore.Text},
		{Name: "cause", Kind: eventstore.Text},
		{Name: "hops", Kind: eventstore.Int},
		{Name: "trace", Kind: eventstore.UUID},
		{Name: "chain_version", Kind: eventstore.Text},
		{Name: "append_id", Kind: eventstore.UUID},
		{Name: "key_id", Kind: eventstore.Text},
		{Name: "data", Kind: eventstore.JSON},
		{Name: "hash", Kind: eventstore.Bytes},
	}}
	checkpoints = &eventstore.Table{Name: "checkpoints", Key: 1, Columns: []eventstore.Column{
		{Name: "partition", Kind: eventstore.Int},
		{Name: "epoch", Kind: eventstore.Int},
		{Name: "node", Kind: eventstore.Text},
		{Name: "seq", Kind: eventstore.Int},
		{Name: "head", Kind: eventstore.Bytes},
		{Name: "topic0", Kind: eventstore.UUID},
		{Name: "offset0", Kind: eventstore.Int},
		{Name: "topic1", Kind: eventstore.UUID},
		{Name: "offset1", Kind: eventstore.Int},
		{Name: "indexed", Kind: eventstore.Int},
		{Name: "relayed", Kind: eventstore.Int},
		{Name: "append_id", Kind: eventstore.UUID},
	}}
)

// rows are the tables that are copied as they are, each behind those that it refers to.
func rows() []*eventstore.Table { return append(registry.Tables(), projection.Tables()...) }

// tables are all tables of a copy, in its order. Whatever a database holds beside is made from these while they are written (derived).
func tables() []*eventstore.Table {
	return append(append([]*eventstore.Table{checkpoints}, rows()...), events)
}

// derived are the tables of a database that a copy leaves out, because filling a database makes them (places of events, what the schema says about
// itself), or because nobody needs them there: nodes that start on a copy have missed nothing that they are to be told of. A table that is neither
// here nor in tables was forgotten, which a test finds.
var derived = []string{"streams", "appends", "anchors", migrations.EventsTable, migrations.RegistryTable, migrations.OutboxTable, migrations.IndexesTable, "registry_outbox"}

// sets are the schemas of what is copied.
func sets() []migrations.Set { return []migrations.Set{migrations.Events(), migrations.Registry()} }

// schemas are all schemas of a database; those that are copied come first.
func schemas() []migrations.Set { return append(sets(), migrations.Outbox(), migrations.Indexes()) }

func eventRow(e *eventstore.Event) []any {
	return []any{
		int64(e.Partition), e.Seq, e.Stream, e.Began, e.Version, e.Type, int64(e.TypeVersion), e.At, e.Occurred, e.Tenant, e.Device, e.Actor, e.Cause,
		int64(e.Hops), uuid.UUID(e.Trace), e.ChainVersion, e.AppendID, e.KeyID, e.Data, e.Hash[:],
	}
}

// fields takes the values of a row by their types; the first that does not fit is kept.
type fields struct {
	table *eventstore.Table
	row   []any
	at    int
	err   error
}

func take[T any](f *fields) (v T) {
	v, ok := f.row[f.at].(T)
	if !ok && f.err == nil {
		f.err = fmt.Errorf("column %s: %w", f.table.Columns[f.at].Name, errValue)
	}
	f.at++
	return v
}

// small takes a whole number that must not be larger than most, and not smaller than its negative.
func small(f *fields, most int64) int64 {
	n := take[int64](f)
	if (n > most || n < -most) && f.err == nil {
		f.err = fmt.Errorf("column %s is %d: %w", f.table.Columns[f.at-1].Name, n, errValue)
	}
	return n
}

func hashOf(f *fields) (h eventstore.Hash) {
	b := take[[]byte](f)
	if copy(h[:], b) != len(b) && f.err == nil || len(b) != len(h) && f.err == nil {
		f.err = fmt.Errorf("column %s has %d bytes: %w", f.table.Columns[f.at-1].Name, len(b), errValue)
	}
	return h
}

func eventOf(row []any) (eventstore.Event, error) {
	f := &fields{table: events, row: row}
	e := eventstore.Event{
		Partition: int32(small(f, math.MaxInt32)), Seq: take[int64](f), Stream: take[string](f), Began: take[int64](f), Version: take[int64](f),
		Type: take[string](f), TypeVersion: int16(small(f, math.MaxInt16)), At: take[int64](f), Occurred: take[int64](f), Tenant: take[uuid.UUID](f),
		Device: take[uuid.UUID](f), Actor: take[string](f), Cause: take[string](f), Hops: int16(small(f, math.MaxInt16)), Trace: take[uuid.UUID](f),
		ChainVersion: take[string](f), AppendID: take[uuid.UUID](f), KeyID: take[string](f), Data: take[[]byte](f), Hash: hashOf(f),
	}
	return e, f.err
}

func checkpointRow(c *eventstore.Checkpoint) []any {
	return []any{
		int64(c.Partition), c.Epoch, c.Node, c.Seq, c.Head[:], c.Positions[0].Topic, c.Positions[0].Offset, c.Positions[1].Topic, c.Positions[1].Offset,
		c.Indexed, c.Relayed, c.Append,
	}
}

func checkpointOf(row []any) (eventstore.Checkpoint, error) {
	f := &fields{table: checkpoints, row: row}
	c := eventstore.Checkpoint{
		Partition: int32(small(f, math.MaxInt32)), Epoch: take[int64](f), Node: take[string](f), Seq: take[int64](f), Head: hashOf(f),
	}
	for lane := range c.Positions {
		c.Positions[lane] = eventstore.Position{Topic: take[uuid.UUID](f), Offset: take[int64](f)}
	}
	c.Indexed, c.Relayed, c.Append = take[int64](f), take[int64](f), take[uuid.UUID](f)
	return c, f.err
}
