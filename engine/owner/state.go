package owner

import (
	"bytes"
	"slices"

	"callchain/engine/rpc"
	"callchain/engine/step"
)

// State is a partition's memory for checks: its devices, and its parked runs by id. The caller must not change it.
func (o *Owner) State(partition int32) (devices []rpc.Device, runs []step.Run) {
	for _, d := range o.mem.tables.inPartition(partition) {
		devices = append(devices, d.state)
	}
	for _, r := range o.mem.tables.runs {
		if r.device.partition == partition {
			runs = append(runs, r.run)
		}
	}
	slices.SortFunc(runs, func(a, b step.Run) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return devices, runs
}

// Stored reports whether everything that was decided is stored.
func (o *Owner) Stored() bool { return o.appending == nil && o.rec.batch.empty() }
