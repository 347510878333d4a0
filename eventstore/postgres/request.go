package postgres

import (
	"strconv"

	"github.com/jackc/pgx/v5/pgtype"

	"callchain/eventstore"
	"callchain/eventstore/sqlgen"
	"callchain/eventstore/streamkey"
)

func pack(stream string) []byte         { return streamkey.Pack(stream) }
func unpack(key []byte) (string, error) { return streamkey.Unpack(key) }

// appendRequest writes the whole append as one statement: the checkpoints that match advance, and what belongs to a partition that advanced is
// written. The statement's text depends only on which tables have rows, so few different ones are ever prepared.
func appendRequest(b *eventstore.Batch) *request {
	r := &request{params: [][]byte{b.ID[:]}}
	r.advance(b)
	events, born := count(b)
	if born > 0 {
		r.streams(b, born)
	}
	if events > 0 {
		r.events(b, events)
	}
	for i, c := range changesOf(b) {
		r.rows(strconv.Itoa(i), c)
	}
	r.sql.WriteString(" SELECT partition FROM advanced")
	return r
}

// count gives the number of events and of those that begin a stream.
func count(b *eventstore.Batch) (events, born int) {
	for i := range b.Partitions {
		for j := range b.Partitions[i].Events {
			events++
			if b.Partitions[i].Events[j].Version == 1 {
				born++
			}
		}
	}
	return events, born
}

func (r *request) advance(b *eventstore.Batch) {
	n := len(b.Partitions)
	partition := newArray(pgtype.Int4OID, n, 4)
	var numbers [7]*array // epoch, expected seq, seq, offset0, offset1, indexed, relayed
	for i := range numbers {
		numbers[i] = newArray(pgtype.Int8OID, n, 8)
	}
	node, head := newArray(pgtype.TextOID, n, 36), newArray(pgtype.ByteaOID, n, 32)
	topic0, topic1 := newArray(pgtype.UUIDOID, n, 16), newArray(pgtype.UUIDOID, n, 16)
	for i := range b.Partitions {
		expect, next := &b.Partitions[i].Expect, &b.Partitions[i].Next
		partition.int4(expect.Partition)
		for j, v := range [len(numbers)]int64{
			expect.Epoch, expect.Seq, next.Seq, next.Positions[0].Offset, next.Positions[1].Offset, next.Indexed, next.Relayed,
		} {
			numbers[j].int8(v)
		}
		node.text(next.Node)
		head.bytes(next.Head[:])
		topic0.bytes(next.Positions[0].Topic[:])
		topic1.bytes(next.Positions[1].Topic[:])
	}
	r.sql.WriteString("WITH advanced AS (UPDATE checkpoints c SET node = n.node, seq = n.seq, head = n.head, topic0 = n.topic0, offset0 = n.offset0," +
		" topic1 = n.topic1, offset1 = n.offset1, indexed = n.indexed, relayed = n.relayed, append_id = $1::uuid FROM ")
	r.unnest("n", "partition, epoch, expected, seq, offset0, offset1, indexed, relayed, node, head, topic0, topic1",
		append(append([]*array{partition}, numbers[:]...), node, head, topic0, topic1)...)
	r.sql.WriteString(" WHERE c.partition = n.partition AND c.epoch = n.epoch AND c.seq = n.expected AND c.append_id <> $1::uuid RETURNING c.partition)")
}

const ofAdvanced = " IN (SELECT partition FROM advanced)"

func (r *request) streams(b *eventstore.Batch, n int) {
	stream, began, partition := newArray(pgtype.ByteaOID, n, 33), newArray(pgtype.Int8OID, n, 8), newArray(pgtype.Int4OID, n, 4)
	for i := range b.Partitions {
		for j := range b.Partitions[i].Events {
			if e := &b.Partitions[i].Events[j]; e.Version == 1 {
				stream.bytes(pack(e.Stream))
				began.int8(e.Began)
				partition.int4(e.Partition)
			}
		}
	}
	r.sql.WriteString(", born AS (INSERT INTO streams (stream, began) SELECT e.stream, e.began FROM ")
	r.unnest("e", "stream, began, partition", stream, began, partition)
	r.sql.WriteString(" WHERE e.partition" + ofAdvanced + ")")
}

const eventColumns = "stream, began, version, partition, seq, type, type_version, at, occurred, tenant, device, actor, cause, hops, trace," +
	" chain_version, key_id, data, hash"

func (r *request) events(b *eventstore.Batch, n int) {
	stream, hash := newArray(pgtype.ByteaOID, n, 33), newArray(pgtype.ByteaOID, n, 32)
	began, version, seq := newArray(pgtype.Int8OID, n, 8), newArray(pgtype.Int8OID, n, 8), newArray(pgtype.Int8OID, n, 8)
	at, occurred := newArray(pgtype.Int8OID, n, 8), newArray(pgtype.Int8OID, n, 8)
	partition, typeVersion, hops := newArray(pgtype.Int4OID, n, 4), newArray(pgtype.Int2OID, n, 2), newArray(pgtype.Int2OID, n, 2)
	tenant, device, trace := newArray(pgtype.UUIDOID, n, 16), newArray(pgtype.UUIDOID, n, 16), newArray(pgtype.ByteaOID, n, 16)
	kind, actor, cause := newArray(pgtype.TextOID, n, 16), newArray(pgtype.TextOID, n, 44), newArray(pgtype.TextOID, n, 16)
	chain, key, data := newArray(pgtype.TextOID, n, 16), newArray(pgtype.TextOID, n, 0), newArray(pgtype.JSONOID, n, 320)
	for i := range b.Partitions {
		for j := range b.Partitions[i].Events {
			e := &b.Partitions[i].Events[j]
			stream.bytes(pack(e.Stream))
			began.int8(e.Began)
			version.int8(e.Version)
			partition.int4(e.Partition)
			seq.int8(e.Seq)
			kind.text(e.Type)
			typeVersion.int2(e.TypeVersion)
			at.int8(e.At)
			occurred.int8(e.Occurred)
			tenant.bytes(e.Tenant[:])
			device.optional(e.Device)
			actor.text(e.Actor)
			cause.text(e.Cause)
			hops.int2(e.Hops)
			trace.optional(e.Trace)
			chain.text(e.ChainVersion)
			key.text(e.KeyID)
			data.bytes(e.Data)
			hash.bytes(e.Hash[:])
		}
	}
	r.sql.WriteString(", told AS (INSERT INTO events (" + eventColumns + ", append_id) SELECT e.*, $1::uuid FROM ")
	r.unnest("e", eventColumns, stream, began, version, partition, seq, kind, typeVersion, at, occurred, tenant, device, actor, cause, hops, trace,
		chain, key, data, hash)
	r.sql.WriteString(" WHERE e.partition" + ofAdvanced + ")")
}

// changes are the rows of one table; each knows its partition.
type changes struct {
	table      *eventstore.Table
	rows       []eventstore.Row
	partitions []int32
	shared     bool // two partitions change the same row: the last that advanced wins
}

// changesOf gives the rows of a batch in their last state within each partition. Which partitions will advance only the database knows.
func changesOf(b *eventstore.Batch) []*changes {
	var (
		tables []*changes
		places = map[*eventstore.Table]*changes{}
		seen   = map[*eventstore.Table]map[string]bool{}
	)
	for i := range b.Partitions {
		for _, c := range sqlgen.Last(b.Partitions[i].Rows) {
			to := places[c.Table]
			if to == nil {
				to = &changes{table: c.Table}
				places[c.Table], seen[c.Table] = to, map[string]bool{}
				tables = append(tables, to)
			}
			for _, row := range c.Rows {
				key := string(sqlgen.AppendKey(nil, row))
				to.shared = to.shared || seen[c.Table][key]
				seen[c.Table][key] = true
				to.rows, to.partitions = append(to.rows, row), append(to.partitions, b.Partitions[i].Expect.Partition)
			}
		}
	}
	return tables
}

// rows writes w<n>, the rows of the partitions that advanced, and from it an upsert and a removal.
func (r *request) rows(n string, c *changes) {
	place, partition, gone := newArray(pgtype.Int8OID, len(c.rows), 8), newArray(pgtype.Int4OID, len(c.rows), 4), newArray(pgtype.BoolOID, len(c.rows), 1)
	arrays := []*array{place, partition, gone}
	for _, column := range c.table.Columns {
		arrays = append(arrays, newArray(oidOf(column.Kind), len(c.rows), 16))
	}
	for i, row := range c.rows {
		place.int8(int64(i))
		partition.int4(c.partitions[i])
		gone.bool(row.Delete)
		for j, column := range arrays[3:] {
			if j < len(row.Values) {
				column.value(row.Values[j])
			} else {
				column.null() // a removal has its key only
			}
		}
	}
	names, key := sqlgen.Names(c.table.Columns), sqlgen.Names(c.table.Columns[:c.table.Key])
	r.sql.WriteString(", w" + n + " AS (SELECT ")
	if c.shared {
		r.sql.WriteString("DISTINCT ON (" + key + ") ")
	}
	r.sql.WriteString("* FROM ")
	r.unnest("r", "_place, _partition, _gone, "+names, arrays...)
	r.sql.WriteString(" WHERE _partition" + ofAdvanced)
	if c.shared {
		r.sql.WriteString(" ORDER BY " + key + ", _place DESC")
	}
	r.sql.WriteString("), u" + n + " AS (" + sqlgen.Upsert(c.table, "SELECT "+names+" FROM w"+n+" WHERE NOT _gone"))
	r.sql.WriteString("), d" + n + " AS (DELETE FROM " + sqlgen.Quote(c.table.Name) + " t USING w" + n + " w WHERE w._gone")
	for _, column := range c.table.Columns[:c.table.Key] {
		r.sql.WriteString(" AND t." + sqlgen.Quote(column.Name) + " = w." + sqlgen.Quote(column.Name))
	}
	r.sql.WriteString(")")
}
