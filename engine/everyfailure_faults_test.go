package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"callchain/chains"
	"callchain/engine"
	"callchain/engine/bus"
	"callchain/engine/owner"
	"callchain/engine/step"
	"callchain/eventstore"
	"callchain/transports"

	"github.com/google/uuid"
)

// failure is how an operation fails.
type failure string

// The failures. A read has no failsAfterwards but for a read in parts: what it gave counts for nothing.
const (
	failsOnce       failure = "fails"
	failsThrice     failure = "fails three times"
	failsAfterwards failure = "is done and reported as failed"
	crashesBefore   failure = "crash before it"
	crashesAfter    failure = "crash after it"
)

var (
	errIO    = errors.New("the connection was reset")
	errPower = errors.New("there is no power")
)

// fault lets the n-th operation of a kind fail, counted from 1.
type fault struct {
	operation string
	n         int
	failure   failure
}

func (f *fault) String() string { return fmt.Sprintf("%s %d %s", f.operation, f.n, f.failure) }

// faults counts the operations of all processes of a world, and lets one of them fail.
type faults struct {
	mu    sync.Mutex
	count map[string]int
	reads map[string]bool // kinds of operations that change nothing
	plan  *fault          // nil: none fails
	until time.Time       // when the disturbance was over; zero: there was none yet
}

// at does an operation of a process, or lets it fail.
func (f *faults) at(p *process, operation string, do func() error) error {
	if p.dead.Load() {
		return errPower
	}
	switch how := f.next(operation); how {
	case failsOnce:
		return errIO
	case failsAfterwards:
		_ = do() // its result is lost
		return errIO
	case crashesBefore:
		p.crash()
		return errPower
	case crashesAfter:
		_ = do() // its result is lost
		p.crash()
		return errPower
	}
	return do()
}

// read does an operation that changes nothing.
func (f *faults) read(p *process, operation string, do func() error) error {
	f.mu.Lock()
	f.reads[operation] = true
	f.mu.Unlock()
	return f.at(p, operation, do)
}

// next counts an operation, and answers how it fails; "": it does not.
func (f *faults) next(operation string) failure {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count[operation]++
	p := f.plan
	if p == nil || p.operation != operation {
		return ""
	}
	n := f.count[operation]
	switch {
	case p.failure == failsThrice && n >= p.n && n < p.n+3:
		f.until = time.Now()
		return failsOnce
	case n == p.n && p.failure != failsThrice:
		f.until = time.Now()
		return p.failure
	}
	return ""
}

// over notes that what the fault has disturbed is restored.
func (f *faults) over() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.until = time.Now()
}

// faultyStore is the store of a process.
type faultyStore struct {
	eventstore.Store
	p *process
}

func (s faultyStore) Claim(ctx context.Context, node string, partitions []int32) (out []eventstore.Checkpoint, err error) {
	err = s.p.w.faults.at(s.p, "claim", func() (err error) {
		out, err = s.Store.Claim(ctx, node, partitions)
		return err
	})
	return out, err
}

func (s faultyStore) Append(ctx context.Context, b eventstore.Batch) (fenced []int32, err error) {
	err = s.p.w.faults.at(s.p, "append", func() (err error) {
		fenced, err = s.Store.Append(ctx, b)
		return err
	})
	return fenced, err
}

func (s faultyStore) Streams(ctx context.Context, streams []string, each func(*eventstore.Event) error) error {
	return s.p.w.faults.at(s.p, "read streams", func() error { return s.Store.Streams(ctx, streams, each) })
}

func (s faultyStore) Stream(ctx context.Context, name string, after int64, limit int) (out []eventstore.Event, err error) {
	err = s.p.w.faults.read(s.p, "read a stream", func() (err error) {
		out, err = s.Store.Stream(ctx, name, after, limit)
		return err
	})
	return out, err
}

func (s faultyStore) Partition(ctx context.Context, partition int32, after int64, limit int) (out []eventstore.Event, err error) {
	err = s.p.w.faults.read(s.p, "read a partition", func() (err error) {
		out, err = s.Store.Partition(ctx, partition, after, limit)
		return err
	})
	return out, err
}

func (s faultyStore) Page(ctx context.Context, partition int32, after int64, limit, bytes int) (out []eventstore.Event, err error) {
	err = s.p.w.faults.read(s.p, "read a page", func() (err error) {
		out, err = s.Store.Page(ctx, partition, after, limit, bytes)
		return err
	})
	return out, err
}

func (s faultyStore) Checkpoints(ctx context.Context) (out []eventstore.Checkpoint, err error) {
	err = s.p.w.faults.read(s.p, "read checkpoints", func() (err error) {
		out, err = s.Store.Checkpoints(ctx)
		return err
	})
	return out, err
}

func (s faultyStore) Rows(ctx context.Context, q eventstore.Query) (out [][]any, err error) {
	err = s.p.w.faults.read(s.p, "read rows of "+q.Table.Name, func() (err error) {
		out, err = s.Store.Rows(ctx, q)
		return err
	})
	return out, err
}

func (s faultyStore) Count(ctx context.Context, q eventstore.Query) (n int64, err error) {
	err = s.p.w.faults.read(s.p, "count", func() (err error) {
		n, err = s.Store.Count(ctx, q)
		return err
	})
	return n, err
}

func (s faultyStore) Now(ctx context.Context) (now time.Time, err error) {
	err = s.p.w.faults.read(s.p, "read the clock", func() (err error) {
		now, err = s.Store.Now(ctx)
		return err
	})
	return now, err
}

// faultyDirectory is the registry of a process. It has nothing in memory but the active chain.
type faultyDirectory struct {
	directory
	p *process
}

func (d faultyDirectory) Cached(uuid.UUID) (owner.Device, bool) { return owner.Device{}, false }

func (d faultyDirectory) Generation() uint64 { return 1 }

func (d faultyDirectory) Device(ctx context.Context, id uuid.UUID) (row owner.Device, err error) {
	err = d.p.w.faults.read(d.p, "read a device", func() (err error) {
		row, err = d.directory.Device(ctx, id)
		return err
	})
	return row, err
}

func (d faultyDirectory) Version(ctx context.Context, v step.Version) (chain *chains.Program, err error) {
	err = d.p.w.faults.read(d.p, "read a chain", func() (err error) {
		chain, err = d.directory.Version(ctx, v)
		return err
	})
	return chain, err
}

var _ engine.Directory = faultyDirectory{}

// faultyInbox is the inbox of a process. One that keeps nothing does no I/O.
type faultyInbox struct {
	bus.Inbox
	p *process
}

func (in faultyInbox) Put(m bus.Message) error {
	if m.Ephemeral || !in.Durable() {
		return in.Inbox.Put(m)
	}
	var once atomic.Bool // Put fails, or calls Done
	if done := m.Done; done != nil {
		m.Done = func(err error) {
			if once.CompareAndSwap(false, true) {
				done(err)
			}
		}
	}
	err := in.p.w.faults.at(in.p, "put", func() error { return in.Inbox.Put(m) })
	if errors.Is(err, errIO) || errors.Is(err, errPower) {
		if !once.CompareAndSwap(false, true) {
			return nil
		}
		return fmt.Errorf("%w: %w", bus.ErrAway, err)
	}
	return err
}

func (in faultyInbox) Begin(ctx context.Context, from []bus.From) error {
	if !in.Durable() {
		return in.Inbox.Begin(ctx, from)
	}
	return in.p.w.faults.at(in.p, "begin", func() error { return in.Inbox.Begin(ctx, from) })
}

// faultyTopics are the topics of a process.
type faultyTopics struct {
	bus.Topics
	p *process
}

// heartbeatsMost: of those that are alike, so many fail.
const heartbeatsMost = 3

func (t faultyTopics) Publish(ctx context.Context, topic bus.Topic, records []bus.Record) error {
	operation := "publish to " + string(topic)
	if strings.HasPrefix(string(topic), string(bus.NodeTopic(""))) {
		operation = "publish to a node"
	}
	return t.p.w.faults.at(t.p, operation, func() error { return t.Topics.Publish(ctx, topic, records) })
}

// Send implements transports.Link. What does not leave is reported, as a transport does it.
func (l *link) Send(c transports.Command) {
	l.d.w.sends(l, &c)
	err := l.p.w.faults.at(l.p, "send", func() error {
		l.take(c)
		return nil
	})
	if errors.Is(err, errIO) {
		go l.p.engine.Inbound().Failed(l.session, c.Call, transports.FailedGone)
	}
}

// Respond implements transports.Link. If it does not leave, the connection is lost.
func (l *link) Respond(r transports.Response) {
	err := l.p.w.faults.at(l.p, "respond", func() error {
		l.d.responded(r)
		return nil
	})
	if err != nil {
		l.end()
	}
}
