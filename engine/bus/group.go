package bus

import "context"

// Group shares the partitions out among the nodes that take part.
type Group interface {
	// Join takes part until ctx ends, then leaves, so that the others take over at once. It waits out times when the brokers are away. It returns when it has left.
	Join(ctx context.Context, m Member) error
}

// Member is a node that takes part.
type Member interface {
	// Assigned tells all partitions that are this node's now, sorted: those it had and keeps, and those that came. It does not block. It is also called after this node was out of the group for a while (a lost session) and is back: what is missing then is gone.
	Assigned(partitions []int32)
	// Revoked tells that these are to go to another node, which gets them when Revoked has returned (or ctx ended: then the node is no longer waited for). Called also, with all of them, when this node leaves because Join's ctx ended.
	Revoked(ctx context.Context, partitions []int32)
}
