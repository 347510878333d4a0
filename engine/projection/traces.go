package projection

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"callchain/eventstore"

	"github.com/google/uuid"
)

// Traces holds what rule nodes did with messages: a row for a message that a node got or sent on. A node has TraceSlots rows in each
// partition, the oldest is replaced. They are not derived from events and cannot be rebuilt.
var Traces = &eventstore.Table{Name: "traces", Key: 3, Columns: []eventstore.Column{
	{Name: "node", Kind: eventstore.UUID}, // id of the rule node
	{Name: "partition", Kind: eventstore.Int},
	{Name: "slot", Kind: eventstore.Int}, // 0 to TraceSlots-1
	{Name: "tenant", Kind: eventstore.UUID},
	{Name: "id", Kind: eventstore.UUID},
	{Name: "at", Kind: eventstore.Int},         // µs
	{Name: "message", Kind: eventstore.UUID},   // id of the message
	{Name: "call", Kind: eventstore.UUID},      // NULL if the message is about none
	{Name: "direction", Kind: eventstore.Text}, // TraceIn or TraceOut
	{Name: "failed", Kind: eventstore.Bool},
	{Name: "body", Kind: eventstore.JSON}, // TraceBody
}}

// TraceSlots is how many rows a node has in a partition.
const TraceSlots = 128

// The directions of a trace, in ThingsBoard's words.
const (
	TraceIn  = "IN"
	TraceOut = "OUT"
)

// Trace is a row of Traces with its types.
type Trace struct {
	Node      uuid.UUID
	Partition int32
	Slot      int64
	Tenant    uuid.UUID
	ID        uuid.UUID
	At        int64 // µs
	Message   uuid.UUID
	Call      uuid.UUID // uuid.Nil: none
	Direction string
	Failed    bool
	Body      TraceBody
}

// TraceBody is the part of a trace that no query filters.
type TraceBody struct {
	Chain      uuid.UUID         `json:"chain"`
	Version    int               `json:"version"` // of the chain
	Name       string            `json:"name"`    // of the node
	EntityType string            `json:"entityType"`
	Entity     uuid.UUID         `json:"entity"` // the message's originator
	Type       string            `json:"type"`
	Relation   string            `json:"relation,omitempty"` // of TraceOut
	Data       string            `json:"data"`
	Metadata   map[string]string `json:"metadata,omitempty"`
	Error      string            `json:"error,omitempty"`
}

// traceTextMax is where data, metadata and error are cut, in bytes, as in ThingsBoard (event.debug.max-symbols).
const traceTextMax = 4096

// Clip truncates a text for a trace at a rune boundary, and removes invalid bytes.
func Clip(s string) string {
	if len(s) > traceTextMax {
		cut := traceTextMax
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// ClipMetadata is as much of a message's metadata as fits, by name.
func ClipMetadata(md map[string]string) map[string]string {
	out, size := make(map[string]string, len(md)), 0
	for _, k := range slices.Sorted(maps.Keys(md)) {
		if size += len(k) + len(md[k]); size > traceTextMax {
			break
		}
		out[Clip(k)] = Clip(md[k])
	}
	return out
}

// Row is the row of a trace.
func (t *Trace) Row() (eventstore.Row, error) {
	body, err := json.Marshal(t.Body)
	if err != nil {
		return eventstore.Row{}, fmt.Errorf("encoding a trace of node %s: %w", t.Node, err)
	}
	var call any
	if t.Call != uuid.Nil {
		call = t.Call
	}
	return eventstore.Row{Table: Traces, Values: []any{
		t.Node, int64(t.Partition), t.Slot, t.Tenant, t.ID, t.At, t.Message, call, t.Direction, t.Failed, body,
	}}, nil
}

// ReadTrace reads a row that Row made.
func ReadTrace(v []any) (Trace, error) {
	t := Trace{Partition: int32(number(v[1])), Slot: number(v[2]), At: number(v[5])}
	t.Node, _ = v[0].(uuid.UUID)
	t.Tenant, _ = v[3].(uuid.UUID)
	t.ID, _ = v[4].(uuid.UUID)
	t.Message, _ = v[6].(uuid.UUID)
	t.Call, _ = v[7].(uuid.UUID)
	t.Direction, _ = v[8].(string)
	t.Failed, _ = v[9].(bool)
	body, _ := v[10].([]byte)
	if err := json.Unmarshal(body, &t.Body); err != nil {
		return t, fmt.Errorf("reading a trace of node %s: %w", t.Node, err)
	}
	return t, nil
}
