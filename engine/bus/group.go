package bus

import "context"

// Group assigns the partitions to its members.
type Group interface {
	// Join takes part until ctx ends, then leaves, so that the others take over at once. It retries while the brokers are away.
	Join(ctx context.Context, m Member) error
}

// Member is a node of the group.
type Member interface {
	// Assigned gives all partitions that are this node's now, sorted. It does not block. It is also called when this node rejoins after a lost session:
	// it has lost the partitions that are missing then.
	Assigned(partitions []int32)
	// Revoked asks for partitions that go to another node, which gets them when Revoked returns or ctx ends. It is also called, with all partitions,
	// when this node leaves.
	Revoked(ctx context.Context, partitions []int32)
}
