// Package cluster has the messages between the nodes of an installation, and what a node derives from them: the owners of partitions, the live
// nodes, the feature level of all, and overload.
//
// It has no clock, no I/O and no goroutines: messages come in with the time of receipt. engine/bus transports them.
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
//	1  nodes exchange heartbeats
//	2  each node ends its own connections when credentials change; at level 1 the node that changed them notifies the owner of the device
const (
	Level        = 2
	LevelFirst   = 1
	LevelRevokes = 2
)

// The times of heartbeats.
const (
	HeartbeatPeriod = 500 * time.Millisecond // between the heartbeats of a node
	DeadAfter       = 10 * time.Second       // a node without a heartbeat for this long is dead: its sessions and callers are gone
	FreshFor        = 2 * time.Second        // how long the ages in a heartbeat count
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

// Claim is the ownership of a partition. The highest epoch is the newest.
type Claim struct {
	Partition int32 `json:"p"`
	Epoch     int64 `json:"e"`
}

// Heartbeat is the status that a node sends to all others.
type Heartbeat struct {
	Process string  `json:"process"` // Process(node, run)
	Level   int     `json:"level"`
	Owns    []Claim `json:"owns,omitempty"`
	Waiting int64   `json:"waiting,omitempty"` // ms: age of its oldest waiting command of the lane RPC
	Data    int64   `json:"data,omitempty"`    // ms: likewise of the lane for data
	Leaving bool    `json:"leaving,omitempty"` // this was the last one
}

// Append appends the encoded heartbeat.
func (b *Heartbeat) Append(dst []byte) ([]byte, error) {
	text, err := json.Marshal(b)
	if err != nil {
		return dst, fmt.Errorf("encoding a heartbeat: %w", err)
	}
	return append(dst, text...), nil
}

// ReadHeartbeat reads what Append wrote, also of a node with a later level.
func ReadHeartbeat(text []byte) (Heartbeat, error) {
	var b Heartbeat
	if err := json.Unmarshal(text, &b); err != nil {
		return b, fmt.Errorf("reading a heartbeat: %w", err)
	}
	if b.Process == "" || b.Level < 1 {
		return b, fmt.Errorf("reading a heartbeat: it has no process or no level")
	}
	return b, nil
}
