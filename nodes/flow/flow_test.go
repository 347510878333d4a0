package flow_test

import (
	"reflect"
	"testing"
	"time"

	"callchain/nodes"
	"callchain/nodes/flow"

	"github.com/google/uuid"
)

func build(t *testing.T, k nodes.Kind, config map[string]any) nodes.Node {
	t.Helper()
	n, err := k.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestDelay(t *testing.T) {
	m := nodes.Msg{Metadata: nodes.Metadata{"wait": " 90 ", "bad": "soon"}, Data: nodes.Raw([]byte(`{"s":5}`))}
	pattern := func(p string) map[string]any {
		return map[string]any{"useMetadataPeriodInSecondsPatterns": true, "periodInSecondsPattern": p}
	}
	for _, c := range []struct {
		config map[string]any
		want   time.Duration
	}{{nil, time.Minute}, {map[string]any{"periodInSeconds": int64(3)}, 3 * time.Second}, {pattern("${wait}"), 90 * time.Second}, {pattern("$[s]"), 5 * time.Second}} {
		n := build(t, flow.Delay, c.config)
		if out := n.Process(m); !reflect.DeepEqual(out, nodes.Out{Ask: nodes.Wait{For: c.want}}) {
			t.Errorf("%v: %+v", c.config, out)
		}
		if out := n.(nodes.Resumer).Resume(m, nodes.Waited{}); !reflect.DeepEqual(out, nodes.Emit(nodes.Success, m)) {
			t.Errorf("%v goes on with %+v", c.config, out)
		}
	}
	for _, p := range []string{"${bad}", "${none}", "-1", "99999999999"} {
		out := build(t, flow.Delay, pattern(p)).Process(m)
		if out.Ask != nil || out.Emits[0].Relation != nodes.Failure {
			t.Errorf("%s: %+v", p, out)
		}
	}
	if out := build(t, flow.Delay, map[string]any{"periodInSeconds": int64(0)}).Process(m); out.Ask != nil || out.Emits[0].Relation != nodes.Success {
		t.Errorf("no wait: %+v", out)
	}
	if _, err := flow.Delay.New(map[string]any{"useMetadataPeriodInSecondsPatterns": true}); err == nil {
		t.Error("a pattern is asked for, none is given, and that builds")
	}
}

func TestChainAndOutput(t *testing.T) {
	id := "6f1a2f9e-6d0a-4d9e-9f0b-2f5f3f1c9a11"
	m := nodes.Msg{Type: "T"}
	out := build(t, flow.Chain, map[string]any{"ruleChainId": id, "forwardMsgToDefaultRuleChain": true}).Process(m)
	if want := (&nodes.Enter{Chain: uuid.MustParse(id), Default: true, Msg: m}); !reflect.DeepEqual(out.Enter, want) {
		t.Errorf("%+v", out.Enter)
	}
	named := build(t, flow.Output, nil).(nodes.Named).Named("Hot")
	if out := named.Process(m); out.Leave != "Hot" || out.Left.Type != "T" {
		t.Errorf("%+v", out)
	}
	named = build(t, flow.Output, map[string]any{"relation": "Cold"}).(nodes.Named).Named("second way out")
	if out := named.Process(m); out.Leave != "Cold" {
		t.Errorf("%+v", out)
	}
}

func TestAck(t *testing.T) {
	m := nodes.Msg{Type: "T"}
	if out := build(t, flow.Ack, nil).Process(m); !out.Ack || out.Emits[0].Relation != nodes.Success {
		t.Errorf("%+v", out)
	}
}
