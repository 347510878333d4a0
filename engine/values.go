package engine

import (
	"callchain/nodes"

	"github.com/google/uuid"
)

// seen is a value at hand, under the claim of its device's partition.
type seen struct {
	nodes.Value
	epoch int64
}

// valueOf is a value at hand. Those of devices that this owner has are so until it has them no more; with other nodes about, those of others
// only while one command is stepped.
func (o *owner) valueOf(k nodes.Key) (nodes.Value, bool) {
	epoch, mine := o.epochOf(k.Entity.ID)
	if !mine {
		v, ok := o.foreign[k]
		return v, ok
	}
	v, ok := o.values.get(k)
	if !ok || v.epoch != epoch {
		return nodes.Value{}, false
	}
	return v.Value, true
}

func (o *owner) setValue(k nodes.Key, v nodes.Value) {
	epoch, mine := o.epochOf(k.Entity.ID)
	if !mine {
		o.foreign[k] = v
		return
	}
	o.values.set(k, seen{v, epoch}, len(v.JSON)+len(k.Name)+96)
}

// epochOf is the epoch of a device's partition, and whether only this owner writes its values.
func (o *owner) epochOf(entity uuid.UUID) (int64, bool) {
	if o.e.group == nil {
		return 0, true
	}
	dh := o.devices[entity]
	if dh == nil {
		return 0, false
	}
	return o.parts[dh.partition].cp.Epoch, true
}

// partitionOf is the partition of a device that is at hand.
func (o *owner) partitionOf(device uuid.UUID) int32 {
	if dh := o.devices[device]; dh != nil {
		return dh.partition
	}
	return 0
}
