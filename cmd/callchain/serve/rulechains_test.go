package serve

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"callchain/chains/thingsboard"
	"callchain/cmd/callchain/client"
)

const classes = "org.thingsboard.rule.engine."

// saveRuleChain makes a chain as ThingsBoard's clients do: a head first, then what is in it.
func saveRuleChain(t *testing.T, c *client.Client, name, content string) (id string, m thingsboard.Metadata) {
	t.Helper()
	var head struct {
		ID client.Ref `json:"id"`
	}
	if err := c.Do(t.Context(), http.MethodPost, "/api/ruleChain", map[string]any{"name": name}, &head); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(content), &m); err != nil {
		t.Fatal(err)
	}
	m.RuleChainID = &thingsboard.EntityID{EntityType: "RULE_CHAIN", ID: mustUUID(t, head.ID.ID)}
	if err := c.Do(t.Context(), http.MethodPost, "/api/ruleChain/metadata", m, &m); err != nil {
		t.Fatal(err)
	}
	return head.ID.ID, m
}

// seen are the stored traces of a node, the newest first: direction, relation, data, error.
func seen(t *testing.T, c *client.Client, m *thingsboard.Metadata, node string) []string {
	t.Helper()
	i := slices.IndexFunc(m.Nodes, func(n thingsboard.Node) bool { return n.Name == node })
	var page struct {
		Data []struct {
			Direction, Relation, Data, Error string
		} `json:"data"`
	}
	if err := c.Do(t.Context(), http.MethodGet, "/api/traces?nodeId="+m.Nodes[i].ID.ID.String(), nil, &page); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, d := range page.Data {
		out = append(out, strings.Join([]string{d.Direction, d.Relation, d.Data, d.Error}, " "))
	}
	return out
}

func TestChainOfThingsBoardRunsNestedTracedAndChanged(t *testing.T) {
	server, c := run(t, load(t, t.TempDir(), nil))
	inner, content := saveRuleChain(t, c, "inner", `{"firstNodeIndex":0,"nodes":[
		{"type":"transform","name":"mark","configuration":{"msg":"{\"by\": 1}"}},
		{"type":"`+classes+`flow.TbRuleChainOutputNode","name":"Done","configuration":{"version":0}}],
		"connections":[{"fromIndex":0,"toIndex":1,"type":"Success"}]}`)
	outer, outerContent := saveRuleChain(t, c, "outer", `{"firstNodeIndex":0,"nodes":[
		{"type":"`+classes+`filter.TbMsgTypeSwitchNode","name":"switch","configuration":{"version":0}},
		{"type":"`+classes+`flow.TbRuleChainInputNode","name":"in","configuration":{"ruleChainId":"`+inner+`"}},
		{"type":"`+classes+`rpc.TbSendRPCReplyNode","name":"reply","configuration":{},"debugSettings":{"allEnabled":true}}],
		"connections":[{"fromIndex":0,"toIndex":1,"type":"RPC Request from Device"},{"fromIndex":1,"toIndex":2,"type":"Done"}]}`)
	if _, err := c.CreateProfile(t.Context(), "p", outer, nil); err != nil {
		t.Fatal(err)
	}
	_, f := device(t, server, c, "d", "p")
	ask := func(want string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if answer, err := f.Request(ctx, 0, "m", []byte("{}")); err != nil || string(answer) != want {
			t.Errorf("the chain answered %s, %v, want %s", answer, err, want)
		}
	}
	ask(`{"by":1}`)
	content.Nodes[0].Configuration = json.RawMessage(`{"msg":"{\"by\": 2}"}`)
	if err := c.Do(t.Context(), http.MethodPost, "/api/ruleChain/metadata", content, nil); err != nil {
		t.Fatal(err)
	}
	ask(`{"by":2}`)
	want := []string{`OUT Success {"by":2} `, `IN  {"by":2} `, `OUT Success {"by":1} `, `IN  {"by":1} `}
	until(t, func() bool { return len(seen(t, c, &outerContent, "reply")) == 4 }, "the node that is to be traced was not")
	if got := seen(t, c, &outerContent, "reply"); !slices.Equal(got, want) {
		t.Errorf("traced %q, want %q", got, want)
	}
	if got := seen(t, c, &outerContent, "in"); len(got) > 0 {
		t.Errorf("nobody asked for %q", got)
	}
	if err := c.Do(t.Context(), http.MethodDelete, "/api/ruleChain/"+outer, nil, nil); err == nil || !strings.Contains(err.Error(), "in_use") {
		t.Errorf("a chain that a profile names was deleted: %v", err)
	}
}
