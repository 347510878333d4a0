package memory

import "callchain/engine/bus"

// laneTopics are the names by which the lanes are known elsewhere.
var laneTopics = [bus.Lanes]string{bus.RPC: "callchain.inbox", bus.Data: "callchain.data"}

// Renew recreates the topic of a lane, empty, with another id. Its readers get a LostError.
func (c *Cluster) Renew(l bus.Lane) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lanes[l] = c.makeLane()
	for n := range c.nodes {
		if len(n.in.parts[l]) > 0 {
			n.in.lose(l, 0, "the topic was made anew while it was read")
		}
	}
}

// Trim removes the messages of a partition before an offset.
func (c *Cluster) Trim(l bus.Lane, partition int32, before int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := &c.lanes[l].parts[partition]
	gone := min(max(before-k.first, 0), int64(len(k.records)))
	k.first, k.records = k.first+gone, k.records[gone:]
	for n := range c.nodes {
		n.in.read()
	}
}

// Corrupt adds bytes that no inbox wrote to a partition.
func (c *Cluster) Corrupt(l bus.Lane, partition int32, bytes []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := &c.lanes[l].parts[partition]
	k.records = append(k.records, record{bytes: bytes})
	for n := range c.nodes {
		n.in.read()
	}
}
