package engine

import (
	"sync/atomic"

	"callchain/engine/cluster"
)

// held are the epochs of the partitions that this process owns now, 0 of those that it does not. Anybody may look.
type held []atomic.Int64

func (h held) has(partition int32) bool {
	return partition >= 0 && int(partition) < len(h) && h[partition].Load() != 0
}

func (h held) set(partition int32, epoch int64) { h[partition].Store(epoch) }

// claims are the partitions that are owned.
func (h held) claims() []cluster.Claim {
	var out []cluster.Claim
	for p := range h {
		if epoch := h[p].Load(); epoch != 0 {
			out = append(out, cluster.Claim{Partition: int32(p), Epoch: epoch})
		}
	}
	return out
}

// count is the number of partitions that are owned.
func (h held) count() (n int) {
	for p := range h {
		if h[p].Load() != 0 {
			n++
		}
	}
	return n
}
