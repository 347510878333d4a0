package filter_test

import (
	"strings"
	"testing"

	"callchain/nodes"
	"callchain/nodes/filter"
)

// route is where a node sends a message: its relations, or the reason of its failure.
func route(t *testing.T, k nodes.Kind, config map[string]any, m nodes.Msg) string {
	t.Helper()
	n, err := k.New(config)
	if err != nil {
		t.Fatal(err)
	}
	var ways []string
	for _, e := range n.Process(m).Emits {
		if e.Relation == nodes.Failure {
			ways = append(ways, e.Msg.Metadata["error"])
			continue
		}
		ways = append(ways, e.Relation)
	}
	return strings.Join(ways, ",")
}

func TestTypeSwitch(t *testing.T) {
	for typ, want := range map[string]string{
		nodes.PostTelemetry: "Post telemetry", nodes.PostAttributes: "Post attributes", nodes.CallToDevice: "RPC Request to Device",
		nodes.CallFromDevice: "RPC Request from Device", nodes.RPCQueued: "RPC Queued", nodes.RPCDeleted: "RPC Deleted",
		nodes.Connected: "Connect Event", nodes.AttributesUpdate: "Attributes Updated", "ALARM_ACK": "Alarm Acknowledged",
		"ALARM_DELETE": "Other", "PROVISION_SUCCESS": "Other", "MY_TYPE": "Other", "": "Other",
	} {
		if got := route(t, filter.TypeSwitch, nil, nodes.Msg{Type: typ}); got != want {
			t.Errorf("%s goes along %q, want %q", typ, got, want)
		}
	}
}

func TestTypeFilter(t *testing.T) {
	for typ, want := range map[string]string{nodes.PostTelemetry: "True", nodes.CallFromDevice: "True", nodes.CallToDevice: "False"} {
		if got := route(t, filter.TypeFilter, nil, nodes.Msg{Type: typ}); got != want {
			t.Errorf("%s goes along %q by default, want %q", typ, got, want)
		}
	}
	if got := route(t, filter.TypeFilter, map[string]any{"messageTypes": []any{"X"}}, nodes.Msg{Type: "X"}); got != "True" {
		t.Errorf("X goes along %q", got)
	}
}

func TestCondition(t *testing.T) {
	m := nodes.Msg{Metadata: nodes.Metadata{"room": "kitchen"}, Data: nodes.Raw([]byte(`{"t":42}`))}
	for condition, want := range map[string]string{
		`msg.t > 30`:              "True",
		`metadata.room == "bath"`: "False",
		`msg.t`:                   "the expression gives 42, not true or false",
		`metadata.room`:           "the expression gives text, not true or false",
		`msg.none`:                "the expression gives nil, not true or false",
		`msg.none > 1`:            "invalid operation: nil > int (column 10 of the expression)",
	} {
		if got := route(t, filter.Condition, map[string]any{"condition": condition}, m); got != want {
			t.Errorf("%s: %s; want %s", condition, got, want)
		}
	}
}

// A condition that does not look at the data does not care whether it is JSON.
func TestConditionReadsOnlyWhatItNeeds(t *testing.T) {
	m := nodes.Msg{Type: "T", Data: nodes.Raw([]byte("no json"))}
	if got := route(t, filter.Condition, map[string]any{"condition": `type == "T"`}, m); got != "True" {
		t.Error(got)
	}
	if got := route(t, filter.Condition, map[string]any{"condition": `msg.a == 1`}, m); !strings.HasPrefix(got, "message data is not JSON") {
		t.Error(got)
	}
}

func TestSwitch(t *testing.T) {
	m := nodes.Msg{Data: nodes.Raw([]byte(`{"to":["a","b"],"n":1}`))}
	for relation, want := range map[string]string{
		`"hot"`:                 "hot",
		`msg.to`:                "a,b",
		`[]`:                    "",
		`msg.n`:                 "the expression gives 1, which is no name of a relation",
		`nil`:                   "the expression gives <nil>, which is no name of a relation",
		`["a", ""]`:             "the expression gives , which is no name of a relation",
		`map(1..51, string(#))`: "the expression names 51 relations, more than 50",
	} {
		if got := route(t, filter.Switch, map[string]any{"relation": relation}, m); got != want {
			t.Errorf("%s: %s; want %s", relation, got, want)
		}
	}
}
