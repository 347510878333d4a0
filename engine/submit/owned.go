package submit

import (
	"sync/atomic"

	"callchain/engine/cluster"
)

// Owned are the epochs of the partitions that this process owns now. It is safe for concurrent use.
type Owned struct{ epochs []atomic.Int64 }

// NewOwned owns none of a number of partitions.
func NewOwned(partitions int32) *Owned { return &Owned{make([]atomic.Int64, partitions)} }

// Has reports whether a partition is owned.
func (o *Owned) Has(partition int32) bool {
	return partition >= 0 && int(partition) < len(o.epochs) && o.epochs[partition].Load() != 0
}

// Set notes the epoch of a partition; 0: it is not owned.
func (o *Owned) Set(partition int32, epoch int64) { o.epochs[partition].Store(epoch) }

// Claims are the partitions that are owned.
func (o *Owned) Claims() []cluster.Claim {
	var out []cluster.Claim
	for p := range o.epochs {
		if epoch := o.epochs[p].Load(); epoch != 0 {
			out = append(out, cluster.Claim{Partition: int32(p), Epoch: epoch})
		}
	}
	return out
}
