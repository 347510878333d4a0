package thingsboard_test

import (
	"os"
	"testing"

	"callchain/chains"
	"callchain/chains/thingsboard"
	"callchain/nodes/builtin"

	"github.com/google/uuid"
)

// Whatever a file holds, it is read or refused; what compiles can be printed, exported, and stored.
func FuzzExport(f *testing.F) {
	root, err := os.ReadFile("testdata/exports/root.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(root)
	f.Add([]byte(`{"ruleChain":{"name":"a","id":null},"metadata":{"firstNodeIndex":-5,"nodes":[null,{"type":"output","name":"x","id":{}},{"type":"output","name":"x"}],
		"connections":[{"fromIndex":1,"toIndex":2,"type":"x"},null],"ruleChainConnections":[{"fromIndex":9}],"notes":5}}`))
	f.Add([]byte(`{"ruleChains":[{"name":"a","id":{"id":"11111111-1111-4111-8111-111111111111"}}],"metadata":[null,{"ruleChainId":{"id":"11111111-1111-4111-8111-111111111111"}}]}`))
	f.Add([]byte(`{"entityType":"RULE_CHAIN","entity":{},"metaData":{}}`))
	kinds := builtin.Registry()
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := thingsboard.ReadExport("f", text)
		if err != nil {
			return
		}
		for _, c := range list {
			c.Metadata.Settle(chainID, 1, func() uuid.UUID { return uuid.UUID{1} })
			c.Ignored("f", kinds)
			if _, err := c.Compile("f", kinds, chainID, 1); err != nil {
				continue
			}
			if _, err := c.Text(); err != nil {
				t.Error(err)
			}
			d, problems := c.Definition("f", kinds)
			if problems != nil {
				t.Error(problems)
			}
			if _, err := chains.Parse("f", chains.Print(d)); err != nil {
				t.Errorf("what is printed cannot be read: %v\n%s", err, chains.Print(d))
			}
			if _, err := thingsboard.FromDefinition(d, kinds, chainID); err != nil {
				t.Error(err)
			}
		}
	})
}
