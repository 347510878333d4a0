package stored_test

import (
	"errors"
	"strings"
	"testing"

	"callchain/chains"
	"callchain/chains/stored"
	"callchain/chains/thingsboard"
	"callchain/nodes/builtin"

	"github.com/google/uuid"
)

// The same chain in each form.
var forms = map[string]string{
	"yaml":             "name: c\nnodes:\n  - name: ack\n    type: acknowledge\n",
	"json":             `{"name": "c", "nodes": [{"name": "ack", "type": "acknowledge"}]}`,
	thingsboard.Format: `{"ruleChain": {"name": "c"}, "metadata": {"firstNodeIndex": 0, "nodes": [{"name": "ack", "type": "org.thingsboard.rule.engine.flow.TbAckNode"}]}}`,
}

func TestEveryFormIsTheSameChain(t *testing.T) {
	kinds, id := builtin.Registry(), uuid.UUID{1}
	for format, text := range forms {
		s := stored.Text{File: "f", Format: format, Body: []byte(text)}
		d, err := s.Definition(kinds)
		if err != nil || d.Name != "c" || len(d.Nodes) != 1 || d.Nodes[0].Type != "acknowledge" {
			t.Errorf("%s: %v, %+v", format, err, d)
		}
		p, err := s.Compile(kinds, id, 7)
		if err != nil || p.ID != id || p.Version != 7 || p.Name != "c" {
			t.Errorf("%s: %v, %+v", format, err, p)
		}
		tb, err := s.ThingsBoard(kinds, id)
		if err != nil || tb.Head.Name != "c" || tb.Metadata.Nodes[0].Type != "org.thingsboard.rule.engine.flow.TbAckNode" {
			t.Errorf("%s: %v, %+v", format, err, tb)
		}
	}
}

func TestMistakesAreTold(t *testing.T) {
	for format, text := range forms {
		broken := strings.NewReplacer("acknowledge", "nothing", "TbAckNode", "TbNothing").Replace(text)
		s := stored.Text{File: "f", Format: format, Body: []byte(broken)}
		_, err := s.Compile(builtin.Registry(), uuid.UUID{1}, 1)
		problems, ok := errors.AsType[chains.Problems](err)
		if !ok || len(problems) != 1 || problems[0].Node != "ack" || problems[0].File != "f" {
			t.Errorf("%s: %v", format, err)
		}
		s.Body = []byte("{")
		if _, err := s.Compile(builtin.Registry(), uuid.UUID{1}, 1); err == nil {
			t.Errorf("%s: half a brace compiles", format)
		}
		if _, err := s.ThingsBoard(builtin.Registry(), uuid.UUID{1}); err == nil {
			t.Errorf("%s: half a brace has a form", format)
		}
	}
}
