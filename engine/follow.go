package engine

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"callchain/eventstore"
)

// feed notifies followers of commits. They read the events from the store themselves, so that a slow follower costs no memory and misses none.
type feed struct {
	mu        sync.Mutex
	seqs      []int64
	changed   chan struct{} // closed and replaced when seqs grow
	followers int
	stop      context.CancelFunc // stops polling the commits of other nodes
}

func newFeed(partitions int32) *feed {
	return &feed{seqs: make([]int64, partitions), changed: make(chan struct{})}
}

// committed moves the positions to the seqs of these checkpoints.
func (f *feed) committed(checkpoints []eventstore.Checkpoint) {
	f.mu.Lock()
	defer f.mu.Unlock()
	grown := false
	for i := range checkpoints {
		cp := &checkpoints[i]
		grown = grown || cp.Seq > f.seqs[cp.Partition]
		f.seqs[cp.Partition] = max(f.seqs[cp.Partition], cp.Seq)
	}
	if grown {
		close(f.changed)
		f.changed = make(chan struct{})
	}
}

// now is a copy of the positions and the signal of the next change.
func (f *feed) now() ([]int64, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]int64(nil), f.seqs...), f.changed
}

// remotePollPeriod is how often followers poll the commits of other nodes.
const remotePollPeriod = 200 * time.Millisecond

// readRemoteCommits updates the positions with the commits of other nodes.
func (e *Engine) readRemoteCommits(ctx context.Context) error {
	if e.members == nil {
		return nil
	}
	checkpoints, err := e.Store.Checkpoints(ctx)
	if err != nil {
		return fmt.Errorf("reading what other nodes have committed: %w", err)
	}
	e.feed.committed(slices.DeleteFunc(checkpoints, func(cp eventstore.Checkpoint) bool { return cp.Partition >= e.config.Partitions }))
	return nil
}

// watchRemoteCommits polls the commits of other nodes while there is a follower. The returned function ends that.
func (e *Engine) watchRemoteCommits(ctx context.Context) (end func()) {
	if e.members == nil {
		return func() {}
	}
	e.feed.mu.Lock()
	defer e.feed.mu.Unlock()
	if e.feed.followers++; e.feed.followers == 1 {
		looking, stop := context.WithCancel(context.WithoutCancel(ctx))
		e.feed.stop = stop
		go e.pollRemoteCommits(looking)
	}
	return func() {
		e.feed.mu.Lock()
		defer e.feed.mu.Unlock()
		if e.feed.followers--; e.feed.followers == 0 {
			e.feed.stop()
		}
	}
}

func (e *Engine) pollRemoteCommits(ctx context.Context) {
	look := time.NewTicker(remotePollPeriod)
	defer look.Stop()
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
		if err := e.readRemoteCommits(ctx); err != nil && ctx.Err() == nil {
			e.Log.Debug("followers see what other nodes have committed later", "error", err)
		}
	}
}

// Follow hands over every committed event after a cursor, in the order of each partition, until ctx ends or each fails. The cursor given with an event is the position
// after it; an empty cursor begins now. Errors: ErrCursor, ctx's, each's, or a failed read.
func (e *Engine) Follow(ctx context.Context, after string, each func(cursor string, ev *eventstore.Event) error) error {
	if err := e.readRemoteCommits(ctx); err != nil {
		return err
	}
	defer e.watchRemoteCommits(ctx)()
	at, _ := e.feed.now()
	if after != "" {
		if err := readCursor(after, at); err != nil {
			return err
		}
	}
	const pause = 5 * time.Millisecond // under load, many commits are read at once
	for {
		seqs, changed := e.feed.now()
		for p := range seqs {
			if err := e.follow(ctx, at, int32(p), seqs[p], each); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (e *Engine) follow(ctx context.Context, at []int64, partition int32, upTo int64, each func(string, *eventstore.Event) error) error {
	const events, bytes = 500, 4 << 20 // at once
	for at[partition] < upTo {
		page, err := e.Store.Page(ctx, partition, at[partition], events, bytes)
		if err != nil {
			return fmt.Errorf("reading partition %d: %w", partition, err)
		}
		if len(page) == 0 {
			return nil
		}
		for i := range page {
			at[partition] = page[i].Seq
			if err := each(cursor(at), &page[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// cursor encodes the positions: the seqs of all partitions as varints, in base64.
func cursor(at []int64) string {
	buf := make([]byte, 0, 2*len(at))
	for _, seq := range at {
		buf = binary.AppendUvarint(buf, uint64(seq))
	}
	return base64.RawURLEncoding.EncodeToString(buf)
}

// ErrCursor: a cursor is not one of this installation.
var ErrCursor = errors.New("the cursor is not one of this server's; leave it out to begin now")

func readCursor(text string, into []int64) error {
	buf, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return ErrCursor
	}
	for i := range into {
		seq, n := binary.Uvarint(buf)
		if n <= 0 || seq > uint64(into[i]) {
			return ErrCursor
		}
		into[i], buf = int64(seq), buf[n:]
	}
	if len(buf) > 0 {
		return ErrCursor
	}
	return nil
}
