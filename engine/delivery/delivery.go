// Package delivery connects the owners of partitions with the devices that are connected to this process: it delivers commands to the devices, and sends their
// messages to their owners.
//
// It knows sessions, and decides nothing about calls.
package delivery

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"callchain/engine/bus"
	"callchain/engine/cluster"
	"callchain/engine/observe"
	"callchain/engine/owner"
	"callchain/engine/replies"
	"callchain/engine/rpc"
	"callchain/engine/submit"
	"callchain/transports"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"
)

// Config says what a Delivery works with.
type Config struct {
	Node          string
	Run           string        // of this process among those of its node
	Process       string        // this process among all
	ClientTimeout time.Duration // of a device's call
	Sender        *submit.Sender
	Callers       *replies.Callers
	// Body reads the body of a call; damaged: no retry can succeed.
	Body func(ctx context.Context, tenant, call uuid.UUID) (body rpc.Body, damaged bool, err error)
	// Age is the age of the oldest command that waits for the owner of a partition.
	Age     func(partition int32, lane bus.Lane) time.Duration
	Peers   Peers           // nil: there are no other nodes
	Tracer  *observe.Tracer // nil: no spans are made
	Metrics *observe.Metrics
	Log     *slog.Logger
}

// Peers are the other nodes.
type Peers interface {
	// Send gives a process a message. It does not block.
	Send(process string, m cluster.Message)
	// Epoch is the newest known epoch of a partition.
	Epoch(partition int32) int64
}

// Delivery knows the sessions of this process. It is safe for concurrent use.
type Delivery struct {
	Config
	sessions *sessions
	loader   *loader
	revoking sync.Mutex // a change of revoked
	revoked  *lru.Cache[uuid.UUID, revocation]
	// callers are the processes with callers of one-way calls that are on their way to a session here. Evicted callers get only the end of
	// the call.
	callers *lru.Cache[uuid.UUID, []string]
}

// The bounds of the caches.
const (
	callersMost = 20_000 // one-way calls
	revokedMost = 20_000 // devices
)

// New makes a Delivery. Close ends its goroutines.
func New(c Config) *Delivery {
	return &Delivery{
		Config: c, sessions: newSessions(), loader: newLoader(c.Body, c.Log),
		revoked: newCache[revocation](revokedMost), callers: newCache[[]string](callersMost),
	}
}

func newCache[V any](most int) *lru.Cache[uuid.UUID, V] {
	c, err := lru.New[uuid.UUID, V](most)
	if err != nil {
		panic("delivery: " + err.Error()) // the size is positive
	}
	return c
}

// Close stops the loader.
func (d *Delivery) Close() { d.loader.close() }

// Count is the number of devices that are connected over a transport.
func (d *Delivery) Count(transport string) int { return d.sessions.count(transport) }

// Has reports whether a session is open here.
func (d *Delivery) Has(session uuid.UUID) bool { return d.sessions.get(session) != nil }

// Connected are the devices that have a session here, with the oldest version of credentials that one was made with.
func (d *Delivery) Connected() map[uuid.UUID]int64 { return d.sessions.devices() }

// Local is a session of this process, with the commands that report it to a new owner.
type Local struct {
	owner.LocalSession
	Session   uuid.UUID
	Transport string
}

// Local are the sessions of partitions.
func (d *Delivery) Local(mine func(partition int32) bool) []Local {
	var out []Local
	for _, s := range d.sessions.inPartitions(mine) {
		one := Local{Session: s.ID, Transport: s.Transport}
		one.Partition, one.Device, one.Actions = s.Identity.Partition, s.Identity.Device, []rpc.Action{d.resumed(&s)}
		if s.subscribed {
			one.Actions = append(one.Actions, rpc.Subscribe{Session: s.ID, Once: s.Once, Resumed: true})
		}
		out = append(out, one)
	}
	return out
}

// resumed is the Connect of a session that is older than its owner.
func (d *Delivery) resumed(s *session) rpc.Connect {
	return rpc.Connect{Session: s.ID, Transport: s.Transport, Remote: s.Remote, Node: d.Node, Process: d.Run, Since: rpc.At(s.since)}
}

// Disconnected reports to its owner that a session is not here (any more).
func (d *Delivery) Disconnected(partition int32, device, session uuid.UUID) error {
	return d.put(partition, device, submit.Durable, submit.Meta("system", "node"), rpc.Disconnect{Session: session, Why: string(transports.ReasonNodeLost)})
}
