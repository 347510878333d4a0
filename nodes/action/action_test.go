package action_test

import (
	"fmt"
	"strings"
	"testing"

	"callchain/nodes"
	"callchain/nodes/action"
)

func build(t *testing.T, k nodes.Kind, config string) nodes.Node {
	t.Helper()
	c, err := nodes.Raw([]byte(config)).Object()
	if err != nil {
		t.Fatal(err)
	}
	n, err := k.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// summary is what a node stored, or why it failed.
func summary(out nodes.Out) string {
	var b strings.Builder
	for _, w := range out.Writes {
		fmt.Fprintf(&b, "%s=%s@%d ", w.Key.Name, w.Value.JSON, w.Value.TS)
	}
	for _, e := range out.Emits {
		b.WriteString(e.Relation)
		if e.Relation == nodes.Failure {
			b.WriteString(": " + e.Msg.Metadata["error"])
		}
	}
	return b.String()
}

func TestSaveTimeSeries(t *testing.T) {
	for data, want := range map[string]string{
		`{"a":1,"b":"x","c":{"d":[1]},"n":null}`:                              `a=1@50 b="x"@50 c={"d":[1]}@50 Success`,
		`{"ts":7,"values":{"a":1}}`:                                           `a=1@7 Success`,
		`[{"ts":9,"values":{"a":2}},{"ts":8,"values":{"a":1,"b":1}},{"c":3}]`: `a=2@9 b=1@8 c=3@50 Success`,
		`[{"ts":9,"values":{"a":2}},{"ts":9,"values":{"a":3}}]`:               `a=3@9 Success`,
		`{"ts":7}`:                      `ts=7@50 Success`,
		`{}`:                            `Failure: Msg body is empty`,
		`{"a":null}`:                    `Failure: Msg body is empty`,
		`"x"`:                           `Failure: message data is neither {"key": value} nor {"ts": …, "values": {…}} nor a list of them`,
		`[1]`:                           `Failure: item 0: message data is neither {"key": value} nor {"ts": …, "values": {…}} nor a list of them`,
		`[[{"a":1}]]`:                   `Failure: item 0: message data is neither {"key": value} nor {"ts": …, "values": {…}} nor a list of them`,
		`{"ts":"now","values":{"a":1}}`: `Failure: ts is now, but must be milliseconds since 1970`,
	} {
		m := nodes.Msg{Type: nodes.PostTelemetry, TS: 40, Now: 60000, Metadata: nodes.Metadata{"ts": "50"}, Data: nodes.Raw([]byte(data))}
		if got := summary(build(t, action.SaveTimeSeries, `{}`).Process(m)); got != want {
			t.Errorf("%s: %s; want %s", data, got, want)
		}
	}
}

func TestSaveTimeSeriesTakesTheRightTime(t *testing.T) {
	m := nodes.Msg{Type: nodes.PostTelemetry, TS: 40, Now: 60000, Data: nodes.Raw([]byte(`{"a":1}`))}
	if got := summary(build(t, action.SaveTimeSeries, `{}`).Process(m)); got != "a=1@40 Success" {
		t.Error(got)
	}
	if got := summary(build(t, action.SaveTimeSeries, `{"useServerTs":true}`).Process(m)); got != "a=1@60 Success" {
		t.Error(got)
	}
	m.Type = nodes.PostAttributes
	if got := summary(build(t, action.SaveTimeSeries, `{}`).Process(m)); got != "Failure: Unsupported msg type: POST_ATTRIBUTES_REQUEST" {
		t.Error(got)
	}
}

func TestSaveAttributes(t *testing.T) {
	m := nodes.Msg{Type: nodes.PostAttributes, Now: 60000, Data: nodes.Raw([]byte(`{"b":2,"a":"x","n":null}`))}
	n := build(t, action.SaveAttributes, `{"updateAttributesOnlyOnValueChange":false}`)
	out := n.Process(m)
	if got := summary(out); got != `a="x"@60 b=2@60 Success` || out.Writes[0].Key.Scope != nodes.ServerScope || out.Writes[0].Notify {
		t.Errorf("%s %+v", got, out.Writes)
	}
	reading := build(t, action.SaveAttributes, `{}`)
	out = reading.Process(m)
	if len(out.Reads) != 2 || len(out.Emits)+len(out.Writes) != 0 {
		t.Fatalf("%+v", out)
	}
	known := nodes.Values{out.Reads[0]: {JSON: []byte(`"x"`)}, out.Reads[1]: {JSON: []byte(`3`)}}
	if got := summary(reading.(nodes.Reader).ProcessWith(m, known)); got != `b=2@60 Success` {
		t.Error(got)
	}
	m.Type = nodes.PostTelemetry
	if got := summary(n.Process(m)); got != "Failure: Unsupported msg type: POST_TELEMETRY_REQUEST" {
		t.Error(got)
	}
}

// ThingsBoard tells the device of shared attributes if the flag is on, or if metadata notifyDevice is absent, empty or true.
func TestSaveAttributesNotifies(t *testing.T) {
	for _, c := range []struct {
		flag, metadata string
		want           bool
	}{{"false", "", true}, {"false", "true", true}, {"false", "false", false}, {"true", "false", true}} {
		n := build(t, action.SaveAttributes, `{"scope":"SHARED_SCOPE","updateAttributesOnlyOnValueChange":false,"notifyDevice":`+c.flag+`}`)
		out := n.Process(nodes.Msg{Type: nodes.PostAttributes, Metadata: nodes.Metadata{"notifyDevice": c.metadata}, Data: nodes.Raw([]byte(`{"a":1}`))})
		if out.Writes[0].Notify != c.want {
			t.Errorf("%+v: %t", c, out.Writes[0].Notify)
		}
	}
}

func TestLog(t *testing.T) {
	m := nodes.Msg{Metadata: nodes.Metadata{"k": "v"}, Data: nodes.Raw([]byte(`{"a":1}`))}
	for config, want := range map[string]string{
		`{}`:                      `Incoming message: {"a":1} Incoming metadata: {"k":"v"}`,
		`{"text":"${k} is $[a]"}`: "v is 1",
		`{"scriptLang":"JS","jsScript":"return '\\nIncoming message:\\n' + JSON.stringify(msg) + '\\nIncoming metadata:\\n' + JSON.stringify(metadata);"}`: `Incoming message: {"a":1} Incoming metadata: {"k":"v"}`,
	} {
		if out := build(t, action.Log.With(nil), config).Process(m); len(out.Logs) != 1 || out.Logs[0].Text != want {
			t.Errorf("%s: %+v; want %s", config, out.Logs, want)
		}
	}
	long := m.WithData(nodes.Raw([]byte(`"` + strings.Repeat("é", 4000) + `"`)))
	out := build(t, action.Log.With(nil), `{"text":"$[*]"}`).Process(long)
	if line := out.Logs[0].Text; len(line) > 4100 || !strings.HasSuffix(line, "é…") {
		t.Errorf("a long line has %d bytes and ends with %q", len(line), line[len(line)-6:])
	}
	if _, err := action.Log.With(nil).New(map[string]any{"tbelScript": "return msg.a;"}); err == nil || !strings.Contains(err.Error(), "scripts are not run here") {
		t.Errorf("a script gives %v", err)
	}
}
