// Package projection describes the rows that follow from events: which tables there are and what their columns mean.
// They are written in the transaction of the events they follow from, and can be dropped and rebuilt.
package projection

import (
	"strings"

	"callchain/eventstore"
	"callchain/nodes"
)

// Calls holds a row a call: of a persistent call from its first event on, of a light call from its end on.
var Calls = &eventstore.Table{Name: "calls", Key: 2, Columns: []eventstore.Column{
	{Name: "tenant", Kind: eventstore.UUID},
	{Name: "id", Kind: eventstore.UUID},
	{Name: "device", Kind: eventstore.UUID},
	{Name: "partition", Kind: eventstore.Int},
	{Name: "persistent", Kind: eventstore.Bool},
	{Name: "direction", Kind: eventstore.Int}, // rpc.Direction
	{Name: "oneway", Kind: eventstore.Bool},
	{Name: "wire", Kind: eventstore.Int}, // NULL until queued
	{Name: "method", Kind: eventstore.Text},
	{Name: "phase", Kind: eventstore.Text},  // rpc.Phase by name
	{Name: "status", Kind: eventstore.Text}, // as ThingsBoard would show it
	{Name: "reason", Kind: eventstore.Text},
	{Name: "removed", Kind: eventstore.Bool},
	{Name: "created", Kind: eventstore.Int},   // µs
	{Name: "expires", Kind: eventstore.Int},   // µs
	{Name: "ended", Kind: eventstore.Int},     // µs, NULL while open
	{Name: "content", Kind: eventstore.Bytes}, // SHA-256 of the request, to recognize a repeated call
	{Name: "request", Kind: eventstore.JSON},  // params text, retries, additional info: what the compatible record shows
	{Name: "response", Kind: eventstore.JSON},
	{Name: "version", Kind: eventstore.Int}, // of the call's stream
}}

// Devices holds an owner's state of each device. It is write-behind, up to Checkpoint.Indexed.
var Devices = &eventstore.Table{Name: "devices_state", Key: 1, Columns: []eventstore.Column{
	{Name: "device", Kind: eventstore.UUID},
	{Name: "partition", Kind: eventstore.Int},
	{Name: "next_wire", Kind: eventstore.Int},
	{Name: "stream", Kind: eventstore.Text}, // the open stream device/<id>[/<n>]
	{Name: "began", Kind: eventstore.Int},
	{Name: "version", Kind: eventstore.Int},
	{Name: "hash", Kind: eventstore.Bytes},
	{Name: "last_connect", Kind: eventstore.Int},    // µs
	{Name: "last_disconnect", Kind: eventstore.Int}, // µs
}}

// OpenStreams lists the streams that an owner must fold at a takeover. It is write-behind, up to Checkpoint.Indexed.
var OpenStreams = &eventstore.Table{Name: "open_streams", Key: 2, Columns: []eventstore.Column{
	{Name: "partition", Kind: eventstore.Int},
	{Name: "stream", Kind: eventstore.Text},
}}

// Attributes holds the latest value of each attribute.
var Attributes = &eventstore.Table{Name: "attributes", Key: 3, Columns: []eventstore.Column{
	{Name: "entity", Kind: eventstore.UUID},
	{Name: "scope", Kind: eventstore.Text}, // CLIENT_SCOPE, SHARED_SCOPE, SERVER_SCOPE
	{Name: "key", Kind: eventstore.Text},
	{Name: "value", Kind: eventstore.JSON},
	{Name: "ts", Kind: eventstore.Int}, // ms, as ThingsBoard has it
}}

// Latest holds the latest value of each time series.
var Latest = &eventstore.Table{Name: "latest", Key: 2, Columns: []eventstore.Column{
	{Name: "entity", Kind: eventstore.UUID},
	{Name: "key", Kind: eventstore.Text},
	{Name: "value", Kind: eventstore.JSON},
	{Name: "ts", Kind: eventstore.Int}, // ms
}}

// DeadLetters holds the dead letters. They cannot be rebuilt from the events.
var DeadLetters = &eventstore.Table{Name: "dead_letters", Key: 1, Columns: []eventstore.Column{
	{Name: "id", Kind: eventstore.UUID},
	{Name: "tenant", Kind: eventstore.UUID},
	{Name: "device", Kind: eventstore.UUID},
	{Name: "partition", Kind: eventstore.Int},
	{Name: "at", Kind: eventstore.Int}, // µs
	{Name: "reason", Kind: eventstore.Text},
	{Name: "detail", Kind: eventstore.Text},
	{Name: "command", Kind: eventstore.JSON},
}}

// Storable is a text from outside without NUL, which PostgreSQL cannot store in text columns. JSON columns keep it escaped.
func Storable(text string) string { return strings.ReplaceAll(text, "\x00", "\uFFFD") }

// ValueRow is the row of a value that a node writes, in Attributes or, if the value is in no scope, in Latest.
func ValueRow(w *nodes.Write) eventstore.Row {
	row := eventstore.Row{Table: Latest, Delete: w.Delete, Values: []any{w.Key.Entity.ID}}
	if w.Key.Scope != "" {
		row.Table, row.Values = Attributes, append(row.Values, w.Key.Scope)
	}
	row.Values = append(row.Values, Storable(w.Key.Name))
	if !w.Delete {
		row.Values = append(row.Values, w.Value.JSON, w.Value.TS)
	}
	return row
}

// Tables is the one list of all tables.
func Tables() []*eventstore.Table {
	return []*eventstore.Table{Calls, Devices, OpenStreams, Attributes, Latest, DeadLetters, Traces}
}
