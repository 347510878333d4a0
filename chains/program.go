package chains

import (
	"strings"

	"callchain/nodes"

	"github.com/google/uuid"
)

// Program is a compiled version of a chain. It is immutable and may be shared.
type Program struct {
	ID      uuid.UUID
	Version int
	Name    string
	Root    bool

	nodes  []step
	byName map[string]int
	first  int // nowhere: messages end at once
}

// nowhere is the first node of a chain without an entry.
const nowhere = -1

// step is a node in its place.
type step struct {
	name  string
	id    uuid.UUID
	debug Debug
	node  nodes.Node
	to    []way
}

// way leads along a relation. The match is case-insensitive, as ThingsBoard's.
type way struct {
	relation string
	targets  []int
}

// along are the nodes that a relation leads to.
func (s *step) along(relation string) []int {
	for i := range s.to {
		if w := &s.to[i]; strings.EqualFold(w.relation, relation) {
			return w.targets
		}
	}
	return nil
}
