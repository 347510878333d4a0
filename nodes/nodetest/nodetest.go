// Package nodetest is the suite that every kind of node must pass.
package nodetest

import (
	"maps"
	"reflect"
	"strings"
	"testing"

	"callchain/nodes"

	"github.com/google/uuid"
)

// Messages are messages as the engine makes them, and some that nobody should send. Each call makes them anew.
func Messages() map[string]nodes.Msg {
	device := nodes.Entity{Type: nodes.Device, ID: uuid.MustParse("11111111-1111-4111-8111-111111111111")}
	base := nodes.Msg{
		ID: uuid.MustParse("22222222-2222-4222-8222-222222222222"), TS: 1700000000000, Now: 1700000000500000, Originator: device,
	}
	message := func(typ, data string, md nodes.Metadata) nodes.Msg {
		m := base
		m.Type, m.Data, m.Metadata = typ, nodes.Raw([]byte(data)), md
		return m
	}
	named := nodes.Metadata{"deviceName": "t1", "deviceType": "default"}
	session := nodes.Metadata{"requestId": "7", "serviceId": "n1", "sessionId": "33333333-3333-4333-8333-333333333333"}
	call := nodes.Metadata{
		"requestUUID": "44444444-4444-4444-8444-444444444444", "originServiceId": "callchain", "expirationTime": "1700000060000",
		"oneway": "false", "persistent": "false",
	}
	asset := message(nodes.PostTelemetry, `{"temperature":20}`, named)
	asset.Originator.Type = "ASSET"
	return map[string]nodes.Msg{
		"telemetry":    message(nodes.PostTelemetry, `{"temperature":42,"humidity":0.5}`, named.With("ts", "1700000000000")),
		"timed":        message(nodes.PostTelemetry, `[{"ts":1,"values":{"a":1}},{"ts":2,"values":{"a":"x"}}]`, named),
		"attributes":   message(nodes.PostAttributes, `{"firmware":"1.2","n":null}`, named),
		"call":         message(nodes.CallToDevice, `{"method":"setGpio","params":"{\"pin\":7}","additionalInfo":null}`, call),
		"device call":  message(nodes.CallFromDevice, `{"method":"getTime","params":{}}`, session),
		"life cycle":   message(nodes.RPCTimeout, `{"status":"TIMEOUT"}`, nodes.Metadata{}),
		"own type":     message("MY_TYPE", `{"a":{"b":[1,2,{"c":null}]}}`, nil),
		"list":         message(nodes.PostTelemetry, `[]`, named),
		"text":         message(nodes.PostTelemetry, `"hot"`, named),
		"no JSON":      message(nodes.PostTelemetry, `{"temperature":`, named),
		"no UTF-8":     message(nodes.PostTelemetry, "\xff\xfe", named),
		"empty":        message(nodes.PostAttributes, ``, named),
		"asset":        asset,
		"without data": {Type: "MY_TYPE", Originator: device},
	}
}

// Run puts a kind through everything that the contract demands.
func Run(t *testing.T, k nodes.Kind) {
	t.Helper()
	t.Run("misspelt field is refused", func(t *testing.T) { misspelt(t, k) })
	for name, m := range Messages() {
		t.Run(name, func(t *testing.T) { process(t, k, m) })
	}
	t.Run("documentation", func(t *testing.T) {
		page := k.Markdown()
		for _, f := range k.Fields() {
			if f.Doc == "" || !strings.Contains(page, "`"+f.Name+"`") {
				t.Errorf("the field %s is not documented", f.Name)
			}
		}
	})
}

func example(t *testing.T, k nodes.Kind) map[string]any {
	t.Helper()
	config, err := nodes.Raw([]byte(k.Example)).Object()
	if err != nil {
		t.Fatalf("the example of %q: %v", k.Type, err)
	}
	return config
}

func build(t *testing.T, k nodes.Kind) nodes.Node {
	t.Helper()
	n, err := k.New(example(t, k))
	if err != nil {
		t.Fatalf("the example of %q does not build: %v", k.Type, err)
	}
	if named, ok := n.(nodes.Named); ok {
		n = named.Named("out")
	}
	return n
}

func misspelt(t *testing.T, k nodes.Kind) {
	config := maps.Clone(example(t, k))
	if config == nil {
		config = map[string]any{}
	}
	config["noSuchField"] = int64(1)
	if _, err := k.New(config); err == nil || !strings.Contains(err.Error(), `unknown field "noSuchField"`) {
		t.Errorf("a config with an unknown field gives %v", err)
	}
}

func process(t *testing.T, k nodes.Kind, m nodes.Msg) {
	n := build(t, k)
	before := written(t, m)
	out := n.Process(m)
	if again := build(t, k).Process(m); !reflect.DeepEqual(outline(t, out), outline(t, again)) {
		t.Errorf("the same message gives\n%+v and then\n%+v", outline(t, out), outline(t, again))
	}
	check(t, k, m, out)
	if out.Reads != nil {
		reader, ok := n.(nodes.Reader)
		if !ok {
			t.Fatal("the node reads, but is no Reader")
		}
		check(t, k, m, reader.ProcessWith(m, nil))
		values := nodes.Values{}
		for _, key := range out.Reads {
			values[key] = nodes.Value{JSON: []byte("12"), TS: 5}
		}
		found := reader.ProcessWith(m, values)
		if found.Reads != nil {
			t.Error("the node reads again after it was given values")
		}
		check(t, k, m, found)
	}
	if out.Ask != nil {
		resumer, ok := n.(nodes.Resumer)
		if !ok {
			t.Fatal("the node asks, but is no Resumer")
		}
		for _, a := range answers(out.Ask) {
			check(t, k, m, resumer.Resume(m, a))
		}
	}
	if after := written(t, m); after != before {
		t.Errorf("the node changed the message that it was given\nfrom %s\nto   %s", before, after)
	}
}

func answers(a nodes.Ask) []nodes.Answer {
	switch a.(type) {
	case nodes.CallDevice:
		return []nodes.Answer{nodes.CallEnded{Body: []byte(`{"ok":true}`)}, nodes.CallEnded{}, nodes.CallEnded{Error: "TIMEOUT"}}
	case nodes.ReplyCall:
		return []nodes.Answer{nodes.Replied{}, nodes.Replied{Error: "nobody waits"}}
	}
	return []nodes.Answer{nodes.Waited{}}
}

// check demands that what a node answers can be interpreted.
func check(t *testing.T, k nodes.Kind, m nodes.Msg, out nodes.Out) {
	t.Helper()
	if len(out.Emits) == 0 && out.Reads == nil && out.Ask == nil && out.Enter == nil && out.Leave == "" {
		t.Error("the node swallows the message")
	}
	if out.Reads != nil && len(out.Emits)+len(out.Writes)+len(out.Logs) > 0 {
		t.Error("the node reads and acts at the same time; what it does would be done twice")
	}
	for _, e := range out.Emits {
		if !k.Emits(e.Relation) {
			t.Errorf("the node emits along %q, which its Spec does not name", e.Relation)
		}
		if e.Relation == nodes.Failure && e.Msg.Metadata["error"] == "" {
			t.Error("the node fails without a reason in metadata error")
		}
		if e.Msg.ID != m.ID || e.Msg.Now != m.Now {
			t.Error("the node changes the id or the time of a message")
		}
	}
	for _, w := range out.Writes {
		if _, err := nodes.ParseJSON(w.Value.JSON); err != nil && !w.Delete {
			t.Errorf("the node writes %q as %s: %v", w.Value.JSON, w.Key.Name, err)
		}
	}
}

// written is everything in a message as text.
func written(t *testing.T, m nodes.Msg) string {
	t.Helper()
	data, err := m.Data.Bytes()
	var b strings.Builder
	b.Write(data)
	if err != nil {
		b.WriteString(err.Error())
	}
	if v, err := m.Data.Value(); err == nil {
		text, err := nodes.AppendJSON([]byte(" = "), v)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(text)
	}
	all := make(map[string]any, len(m.Metadata))
	for k, v := range m.Metadata {
		all[k] = v
	}
	md, err := nodes.AppendJSON(nil, all)
	if err != nil {
		t.Fatal(err)
	}
	return m.Type + " " + m.ID.String() + " " + m.Originator.Type + string(md) + b.String()
}

// outline is an Out in which messages are text, so that two can be compared.
func outline(t *testing.T, out nodes.Out) any {
	t.Helper()
	var emits []string
	for _, e := range out.Emits {
		emits = append(emits, e.Relation+" "+written(t, e.Msg))
	}
	rest := out
	rest.Emits, rest.Left = nil, nodes.Msg{}
	if rest.Enter != nil {
		enter := *rest.Enter
		enter.Msg = nodes.Msg{}
		rest.Enter = &enter
	}
	return struct {
		Emits []string
		Rest  nodes.Out
	}{emits, rest}
}
