package serve

import (
	"log/slog"
	"testing"

	"callchain/examples"

	"github.com/google/uuid"
)

// TestChainOfAnotherNode: a chain that another node has made a moment ago, of which nobody has told yet, is found when a profile names it; before that
// the root chain would run in its place.
func TestChainOfAnotherNode(t *testing.T) {
	server, c := run(t, load(t, t.TempDir(), nil))
	there := newPrograms(server.registry, server.kinds, slog.New(slog.DiscardHandler))
	if err := there.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	tenant := server.first.Tenant.ID
	root := there.of(t.Context(), tenant, uuid.Nil)
	if nobodys := uuid.New(); root == nil || there.of(t.Context(), tenant, nobodys) != root || there.look(t.Context(), nobodys) {
		t.Error("of a chain that is not there the root chain takes the place, and it is looked for once")
	}
	chain, err := c.CreateChain(t.Context(), examples.GetTime)
	if err != nil {
		t.Fatal(err)
	}
	if got := there.of(t.Context(), tenant, mustUUID(t, chain.ID)); got == nil || got.ID.String() != chain.ID {
		t.Errorf("the chain is not found: %v", got)
	}
}
