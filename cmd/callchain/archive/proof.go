package archive

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"callchain/eventstore"
)

// Summary is what a copy holds.
type Summary struct {
	Partitions int              `json:"partitions"`
	Events     int64            `json:"events"`
	Rows       map[string]int64 `json:"rows"`   // by table, without events and checkpoints
	Heads      []Head           `json:"heads"`  // by partition
	Digest     string           `json:"digest"` // SHA-256 over all heads: two databases with the same events have the same
}

// Head is where the hash chain of a partition ends.
type Head struct {
	Partition int32  `json:"partition"`
	Seq       int64  `json:"seq"`
	Hash      string `json:"hash"`
}

// Progress is told how many events were copied, of how many.
type Progress func(events, of int64)

// proof passes a copy on and follows the hash chain of each partition meanwhile: it must end where the checkpoint says.
type proof struct {
	sink     // nil: the copy is only read
	progress Progress
	list     []eventstore.Checkpoint
	chains   map[int32]*chain
	total    int64
	sum      Summary
}

type chain struct {
	seq  int64
	head eventstore.Hash
}

func newProof(s sink, progress Progress) *proof {
	return &proof{sink: s, progress: progress, chains: map[int32]*chain{}, sum: Summary{Rows: map[string]int64{}}}
}

// Checkpoints implements sink.
func (p *proof) Checkpoints(ctx context.Context, list []eventstore.Checkpoint) error {
	for _, c := range list {
		p.total += c.Seq
	}
	p.list = append(p.list, list...)
	if p.sink == nil {
		return nil
	}
	return p.sink.Checkpoints(ctx, list)
}

// Rows implements sink.
func (p *proof) Rows(ctx context.Context, t *eventstore.Table, rows [][]any) error {
	p.sum.Rows[t.Name] += int64(len(rows))
	if p.sink == nil {
		return nil
	}
	return p.sink.Rows(ctx, t, rows)
}

// Events implements sink.
func (p *proof) Events(ctx context.Context, list []eventstore.Event) error {
	for i := range list {
		e := &list[i]
		c := p.chains[e.Partition]
		if c == nil {
			c = &chain{}
			p.chains[e.Partition] = c
		}
		if e.Seq != c.seq+1 {
			return fmt.Errorf("partition %d: event %d follows event %d: callchain events verify tells what the log lacks", e.Partition, e.Seq, c.seq)
		}
		c.seq, c.head = e.Seq, eventstore.Link(c.head, e.Hash)
	}
	p.sum.Events += int64(len(list))
	if p.progress != nil {
		p.progress(p.sum.Events, p.total)
	}
	if p.sink == nil {
		return nil
	}
	return p.sink.Events(ctx, list)
}

// finish compares the ends of the chains with the checkpoints.
func (p *proof) finish() (Summary, error) {
	all := sha256.New()
	for _, cp := range p.list {
		c := p.chains[cp.Partition]
		if c == nil {
			c = &chain{}
		}
		delete(p.chains, cp.Partition)
		if c.seq != cp.Seq || c.head != cp.Head {
			return p.sum, fmt.Errorf("partition %d: the events end at %d with head %x, the checkpoint says %d and %x: callchain events verify tells what is wrong",
				cp.Partition, c.seq, c.head[:4], cp.Seq, cp.Head[:4])
		}
		p.sum.Heads = append(p.sum.Heads, Head{cp.Partition, c.seq, hex.EncodeToString(c.head[:])})
		place := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, uint32(cp.Partition)), uint64(c.seq))
		all.Write(append(place, c.head[:]...)) // a hash never fails
	}
	for partition := range p.chains {
		return p.sum, fmt.Errorf("partition %d has events and no checkpoint: callchain events verify tells what is wrong", partition)
	}
	p.sum.Partitions = len(p.list)
	p.sum.Digest = hex.EncodeToString(all.Sum(nil))
	return p.sum, nil
}

// anew forgets what the checkpoints say about topics: where to go on in the inbox, and what was published.
type anew struct{ sink }

// Checkpoints implements sink.
func (a anew) Checkpoints(ctx context.Context, list []eventstore.Checkpoint) error {
	changed := make([]eventstore.Checkpoint, len(list))
	for i, c := range list {
		c.Positions, c.Relayed = [eventstore.Lanes]eventstore.Position{}, 0
		changed[i] = c
	}
	return a.sink.Checkpoints(ctx, changed)
}
