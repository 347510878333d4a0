// Package cluster is what the nodes of one installation tell each other, and what a node concludes from it: who owns a partition, who lives,
// what all of them can read, who is overloaded.
//
// It has no clock, no I/O and no goroutines: what was said and when it was heard come in, conclusions go out. How it travels is
// engine/bus's affair.
package cluster

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Level is the newest feature level that this program reads and writes. A node uses what a level brought only while all live nodes have
// that level or a later one, so that nodes can be exchanged one by one.
//
//	1  nodes that know of each other
//	2  each ends its own connections when credentials change; before, the node that changed them told the owner of the device
const (
	Level        = 2
	LevelFirst   = 1
	LevelRevokes = 2
)

// The times of the talk between nodes.
const (
	Period = 500 * time.Millisecond // so often each node tells of itself
	Silent = 10 * time.Second       // a node that is not heard for so long is dead: its sessions and callers are gone
	Fresh  = 2 * time.Second        // what a node said of itself counts for so long
)

// Process names a run of a node: a node that was started again is another process.
func Process(node, run string) string { return node + "/" + run }

// NodeOf is the node of a process.
func NodeOf(process string) string {
	if i := strings.LastIndexByte(process, '/'); i >= 0 {
		return process[:i]
	}
	return process
}

// Claim is the ownership of a partition. Its epoch tells it from older ones.
type Claim struct {
	Partition int32 `json:"p"`
	Epoch     int64 `json:"e"`
}

// Beat is what a node tells all others of itself.
type Beat struct {
	Process string  `json:"process"` // Process(node, run)
	Level   int     `json:"level"`
	Owns    []Claim `json:"owns,omitempty"`
	Waiting int64   `json:"waiting,omitempty"` // ms: age of its oldest waiting command of the lane RPC
	Data    int64   `json:"data,omitempty"`    // ms: likewise of the lane for data
	Leaving bool    `json:"leaving,omitempty"` // this was the last one
}

// Append appends the form of a beat that travels.
func (b *Beat) Append(dst []byte) ([]byte, error) {
	text, err := json.Marshal(b)
	if err != nil {
		return dst, fmt.Errorf("encoding a beat: %w", err)
	}
	return append(dst, text...), nil
}

// ReadBeat reads what Append wrote, also of a node with a later level.
func ReadBeat(text []byte) (Beat, error) {
	var b Beat
	if err := json.Unmarshal(text, &b); err != nil {
		return b, fmt.Errorf("reading a beat: %w", err)
	}
	if b.Process == "" || b.Level < 1 {
		return b, fmt.Errorf("reading a beat: it has no process or no level")
	}
	return b, nil
}
