package thingsboard_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"callchain/chains"
	"callchain/chains/thingsboard"
	"callchain/nodes"
	"callchain/nodes/builtin"
	"callchain/nodes/script/goja"

	"github.com/cockroachdb/datadriven"
	"github.com/google/uuid"
)

var chainID = uuid.MustParse("6f1a2f9e-6d0a-4d9e-9f0b-2f5f3f1c9a11")

// The scripts in testdata/golden show both ways; rewrite them with -rewrite:
//
//	import   the input is an export; shown are the chains as YAML, what is wrong, and what has no effect
//	export   the input is a chain as YAML; shown is ThingsBoard's form
func TestGolden(t *testing.T) {
	datadriven.Walk(t, "testdata/golden", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "import":
				return imported([]byte(d.Input))
			case "export":
				return exported(t, []byte(d.Input))
			}
			t.Fatalf("unknown directive %q", d.Cmd)
			return ""
		})
	})
}

func imported(text []byte) string {
	list, err := thingsboard.ReadExport("chain.json", text)
	if err != nil {
		return err.Error() + "\n"
	}
	var out strings.Builder
	for _, c := range list {
		if _, err := c.Compile("chain.json", builtin.WithScripts(goja.New(0)), chainID, 1); err != nil {
			out.WriteString(err.Error() + "\n")
		} else {
			d, _ := c.Definition("chain.json", builtin.WithScripts(goja.New(0)))
			out.Write(chains.Print(d))
		}
		for _, p := range c.Ignored("", builtin.WithScripts(goja.New(0))) {
			out.WriteString("ignored: " + p.Error() + "\n")
		}
	}
	return out.String()
}

func exported(t *testing.T, text []byte) string {
	d, err := chains.Parse("chain.yaml", text)
	if err != nil {
		return err.Error() + "\n"
	}
	c, err := thingsboard.FromDefinition(d, builtin.WithScripts(goja.New(0)), chainID)
	if err != nil {
		t.Fatal(err)
	}
	out, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out) + "\n"
}

// What is stored says all that was written, in the same words.
func TestStoredChainsAreReadBackAsTheyWere(t *testing.T) {
	files, err := filepath.Glob("testdata/exports/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no exports: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		list, err := thingsboard.ReadExport(file, text)
		if err != nil {
			t.Fatal(err)
		}
		kept, err := list[0].Text()
		if err != nil {
			t.Fatal(err)
		}
		again, err := thingsboard.Parse(kept)
		if err != nil || !reflect.DeepEqual(compact(t, list[0]), compact(t, again)) {
			t.Errorf("%s: %v\n%s\n%s", file, err, compact(t, list[0]), compact(t, again))
		}
		var was, is map[string]any
		if err := json.Unmarshal(text, &was); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(kept, &is); err != nil {
			t.Fatal(err)
		}
		kept1, was1 := is["metadata"].(map[string]any)["nodes"].([]any), was["metadata"].(map[string]any)["nodes"].([]any)
		for i, n := range was1 {
			for key, v := range n.(map[string]any) {
				if got := kept1[i].(map[string]any)[key]; !reflect.DeepEqual(got, v) {
					t.Errorf("%s: node %d: %s was %v, is %v", file, i, key, v, got)
				}
			}
		}
	}
}

func compact(t *testing.T, c thingsboard.Chain) string {
	t.Helper()
	text, err := c.Text()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A chain that goes to ThingsBoard's form and back does the same.
func TestThereAndBack(t *testing.T) {
	files, err := filepath.Glob("../../examples/chains/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d example chains: %v", len(files), err)
	}
	kinds, tried := builtin.WithScripts(goja.New(0)), 0
	for _, file := range append(files, "../standard/root.yaml") {
		if _, tests := chains.SuiteOf(file); tests {
			continue
		}
		tried++
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		d, err := chains.Parse(file, text)
		if err != nil {
			t.Fatal(err)
		}
		there, err := thingsboard.FromDefinition(d, kinds, chainID)
		if err != nil {
			t.Fatal(err)
		}
		back, problems := there.Definition(file, kinds)
		if problems != nil {
			t.Fatal(problems)
		}
		again, err := thingsboard.FromDefinition(back, kinds, chainID)
		if err != nil {
			t.Fatal(err)
		}
		if one, two := compact(t, there), compact(t, again); one != two {
			t.Errorf("%s becomes\n%s\nand then\n%s", file, one, two)
		}
		if _, err := there.Compile(file, kinds, chainID, 1); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if len(back.Nodes) != len(d.Nodes) || back.Name != d.Name {
			t.Errorf("%s: %d nodes became %d", file, len(d.Nodes), len(back.Nodes))
		}
	}
	if tried < 3 {
		t.Errorf("%d chains were tried", tried)
	}
}

func TestSettle(t *testing.T) {
	made := 0
	newID := func() uuid.UUID { made++; return uuid.UUID{15: byte(made)} }
	own := uuid.UUID{1}
	target := uuid.MustParse("11111111-1111-4111-8111-111111111111")
	version := int64(3)
	m := thingsboard.Metadata{
		Version: &version,
		Nodes: []thingsboard.Node{
			{Type: "a", ID: thingsboard.NodeID(own), CreatedTime: 5, DebugMode: true},
			{Type: "b", ID: thingsboard.NodeID(own), DebugSettings: &thingsboard.DebugSettings{AllEnabledUntil: 1 << 60}},
			{Type: "c"},
		},
		RuleChainConnections: []thingsboard.ChainConnection{{FromIndex: 2, TargetRuleChainID: *thingsboard.ChainID(target), Type: "Success"}},
	}
	const now, end = int64(1_700_000_000_000), int64(1_700_000_900_000)
	m.Settle(chainID, now, newID)
	if m.Version != nil || m.RuleChainID.ID != chainID || len(m.Nodes) != 4 || m.RuleChainConnections != nil {
		t.Fatalf("%+v", m)
	}
	a, b, c, d := m.Nodes[0], m.Nodes[1], m.Nodes[2], m.Nodes[3]
	if a.ID.ID != own || a.CreatedTime != 5 || *a.DebugSettings != (thingsboard.DebugSettings{FailuresEnabled: true, AllEnabledUntil: end}) || a.DebugMode {
		t.Errorf("a known node is %+v %+v", a, a.DebugSettings)
	}
	if b.ID.ID == own || b.DebugSettings.AllEnabledUntil != end {
		t.Errorf("the second with the same id is %+v %+v", b, b.DebugSettings)
	}
	if c.ID == nil || c.CreatedTime != now || c.DebugSettings != nil {
		t.Errorf("a new node is %+v", c)
	}
	if m.Connections[0] != (thingsboard.Connection{FromIndex: 2, ToIndex: 3, Type: "Success"}) || !strings.Contains(string(d.Configuration), target.String()) {
		t.Errorf("the connection of the old kind became %+v, %s", m.Connections, d.Configuration)
	}
	other := uuid.MustParse("22222222-2222-4222-8222-222222222222")
	m.Retarget(map[uuid.UUID]uuid.UUID{target: other})
	if got := string(m.Nodes[3].Configuration); !strings.Contains(got, other.String()) || !strings.Contains(got, "forwardMsg") {
		t.Errorf("after the target moved: %s", got)
	}
}

// A hint about a missing node is wrong as soon as the node is there.
func TestHintsAreAboutMissingNodes(t *testing.T) {
	for _, class := range thingsboard.Missing() {
		if _, there := builtin.WithScripts(goja.New(0)).LookupClass(class); there {
			t.Errorf("%s is there, but a hint says that it is not", class)
		}
	}
}

// ThingsBoard counts a message as processed that comes to a chain without an entry, also from another chain.
func TestChainWithoutEntry(t *testing.T) {
	compile := func(id uuid.UUID, text string) *chains.Program {
		list, err := thingsboard.ReadExport("chain.json", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		p, err := list[0].Compile("chain.json", builtin.WithScripts(goja.New(0)), id, 1)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	empty := compile(uuid.UUID{9}, `{"ruleChain": {"name": "Empty"}, "metadata": {"nodes": []}}`)
	loose := compile(chainID, `{"ruleChain": {"name": "Loose"}, "metadata": {"nodes": [{"type": "org.thingsboard.rule.engine.flow.TbAckNode", "name": "ack"}]}}`)
	caller := compile(uuid.UUID{8}, `{"ruleChain": {"name": "Caller"}, "metadata": {"firstNodeIndex": 0, "nodes": [
		{"type": "org.thingsboard.rule.engine.flow.TbRuleChainInputNode", "name": "in", "configuration": {"ruleChainId": "`+chainID.String()+`"}}]}}`)
	env := chains.Env{Chain: func(uuid.UUID) *chains.Program { return loose }}
	for _, p := range []*chains.Program{empty, loose} {
		if res := p.Run(env, nodes.Msg{}); !res.Acked || res.Steps != 0 || res.Failures != nil {
			t.Errorf("%s: %+v", p.Name, res)
		}
	}
	if res := caller.Run(env, nodes.Msg{}); res.Steps != 1 || res.Failures != nil {
		t.Errorf("called from another chain: %+v", res)
	}
}

// Traces are found by the ids that ThingsBoard's clients know, for as long as they asked for.
func TestTracedNodesAreNamed(t *testing.T) {
	own := uuid.UUID{7}
	first := 0
	c := thingsboard.Chain{Head: thingsboard.Head{Name: "c"}, Metadata: thingsboard.Metadata{FirstNodeIndex: &first, Nodes: []thingsboard.Node{{
		Type: "acknowledge", Name: "ack", ID: thingsboard.NodeID(own), DebugSettings: &thingsboard.DebugSettings{AllEnabledUntil: 5},
	}}}}
	p, err := c.Compile("", builtin.WithScripts(goja.New(0)), chainID, 1)
	if err != nil {
		t.Fatal(err)
	}
	var seen []chains.TraceEntry
	p.Run(chains.Env{Trace: func(e chains.TraceEntry) { seen = append(seen, e) }}, nodes.Msg{})
	if len(seen) != 1 || seen[0].ID != own || !seen[0].Debug.All(4999) || seen[0].Debug.All(5000) {
		t.Errorf("traced %+v", seen)
	}
}

// A label that another node still has is not renamed: what comes back along it must not move.
func TestRenamedLabels(t *testing.T) {
	content := func(names ...string) thingsboard.Metadata {
		var m thingsboard.Metadata
		for i, name := range names {
			m.Nodes = append(m.Nodes, thingsboard.Node{
				ID: thingsboard.NodeID(uuid.UUID{byte(i + 1)}), Type: "org.thingsboard.rule.engine.flow.TbRuleChainOutputNode", Name: name,
			})
		}
		return m
	}
	was := content("Done", "Done", "Gone")
	for _, test := range []struct {
		next []string
		want map[string]string
	}{
		{[]string{"Done", "Done", "Gone"}, map[string]string{}},
		{[]string{"Finished", "Done"}, map[string]string{}},
		{[]string{"Finished", "Finished", "Lost"}, map[string]string{"Done": "Finished", "Gone": "Lost"}},
	} {
		next := content(test.next...)
		if got := was.Renamed(&next); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%v: %v, want %v", test.next, got, test.want)
		}
	}
	caller := thingsboard.Metadata{
		Nodes: []thingsboard.Node{
			{Type: "org.thingsboard.rule.engine.flow.TbRuleChainInputNode", Configuration: json.RawMessage(`{"ruleChainId":"` + chainID.String() + `"}`)},
			{Type: "org.thingsboard.rule.engine.flow.TbAckNode"},
		},
		Connections: []thingsboard.Connection{{FromIndex: 0, ToIndex: 1, Type: "Done"}, {FromIndex: 1, ToIndex: 0, Type: "Done"}, {FromIndex: 7, Type: "Done"}},
	}
	renamed := map[string]string{"Done": "Finished"}
	if caller.Relabel(uuid.UUID{9}, renamed) || !caller.Relabel(chainID, renamed) || caller.Connections[0].Type != "Finished" || caller.Connections[1].Type != "Done" {
		t.Errorf("%+v", caller.Connections)
	}
}
