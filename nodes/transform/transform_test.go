package transform_test

import (
	"fmt"
	"strings"
	"testing"

	"callchain/nodes"
	"callchain/nodes/transform"
)

func TestTransform(t *testing.T) {
	m := nodes.Msg{Type: "T", Metadata: nodes.Metadata{"a": "1", "b": "2"}, Data: nodes.Raw([]byte(`{"t":42}`))}
	for want, config := range map[string]map[string]any{
		`Success T {"x":42} map[a:1 b:2]`:         {"msg": `{"x": msg.t}`},
		`Success U {"t":42} map[a:1 b:2]`:         {"type": `"U"`},
		`Success T [42] map[a:1 b:2]`:             {"msg": `[msg.t]`},
		`Success T {"t":42} map[a:42 c:{"t":42}]`: {"metadata": map[string]any{"a": "msg.t", "b": "nil", "c": "msg"}},
		`Success T 1 map[a:T b:2]`:                {"msg": "1", "metadata": map[string]any{"a": "type"}},
		`Failure T {"t":42} map[a:1 b:2 error:type: the expression gives 42, which is no message type]`:                          {"type": "msg.t"},
		`Failure T {"t":42} map[a:1 b:2 error:msg: cannot fetch b from nil (column 7 of the expression)]`:                        {"msg": "msg.a.b"},
		`Failure T {"t":42} map[a:1 b:2 error:metadata.x: a value is number where it must be bool (column 1 of the expression)]`: {"metadata": map[string]any{"x": "! msg.t"}},
	} {
		n, err := transform.Transform.New(config)
		if err != nil {
			t.Fatal(err)
		}
		e := n.Process(m).Emits[0]
		data, err := e.Msg.Data.Bytes()
		got := strings.Join([]string{e.Relation, e.Msg.Type, string(data), fmt.Sprint(e.Msg.Metadata)}, " ")
		if err != nil || got != want {
			t.Errorf("%v:\n%s\nwant\n%s", config, got, want)
		}
	}
	if fmt.Sprint(m.Metadata) != "map[a:1 b:2]" {
		t.Errorf("the node changed the metadata that it was given: %v", m.Metadata)
	}
}

func TestTransformRefuses(t *testing.T) {
	for want, config := range map[string]map[string]any{
		`changes nothing; give at least one of "msg", "metadata" and "type"`: {},
		"msg: unknown name mgs (column 1 of the expression)":                 {"msg": "mgs"},
		"metadata.a.b: unknown name x (column 1 of the expression)":          {"metadata": map[string]any{"a.b": "x"}},
	} {
		if _, err := transform.Transform.New(config); err == nil || err.Error() != want {
			t.Errorf("%v; want %s", err, want)
		}
	}
}
