package bus

import "context"

// Group assigns the partitions to the nodes that are members.
type Group interface {
	// Join is a member until ctx ends, then leaves, so that the others take over at once. It retries while the brokers are away. It returns when it has
	// left.
	Join(ctx context.Context, m Member) error
}

// Member is a node of the group.
type Member interface {
	// Assigned receives all partitions of this node, sorted: those it keeps and those that it gets. It must not block. It is also called when this node
	// is back after its session expired: it does not own the partitions that are missing then.
	Assigned(partitions []int32)
	// Revoked receives partitions that go to another node, which gets them when Revoked has returned or ctx has ended. It is also called, with all
	// partitions, when this node leaves because the ctx of Join ended.
	Revoked(ctx context.Context, partitions []int32)
}
