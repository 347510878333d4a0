package enrich_test

import (
	"fmt"
	"reflect"
	"testing"

	"callchain/nodes"
	"callchain/nodes/enrich"
)

func list(names ...any) []any { return names }

func message() nodes.Msg {
	return nodes.Msg{
		Originator: nodes.Entity{Type: nodes.Device}, Metadata: nodes.Metadata{"which": "limit"}, Data: nodes.Raw([]byte(`{"t":1}`)),
	}
}

func stored(k nodes.Key) nodes.Value {
	return map[string]nodes.Value{
		"fw": {JSON: []byte(`"1.2"`), TS: 1}, "limit": {JSON: []byte(`80`), TS: 2}, "zone": {JSON: []byte(`{"a":[1]}`), TS: 3},
		"temp": {JSON: []byte(`21.5`), TS: 4}, "broken": {JSON: []byte(`{`), TS: 5},
	}[k.Name]
}

// enriched runs the node with what is stored, and tells relation, metadata and data.
func enriched(t *testing.T, config map[string]any, m nodes.Msg) string {
	t.Helper()
	n, err := enrich.OriginatorAttributes.New(config)
	if err != nil {
		t.Fatal(err)
	}
	out := n.Process(m)
	if out.Reads != nil {
		values := nodes.Values{}
		for _, k := range out.Reads {
			if v := stored(k); v.JSON != nil {
				values[k] = v
			}
		}
		out = n.(nodes.Reader).ProcessWith(m, values)
	}
	e := out.Emits[0]
	data, err := e.Msg.Data.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(e.Relation, " ", e.Msg.Metadata, " ", string(data))
}

func TestOriginatorAttributes(t *testing.T) {
	for want, config := range map[string]map[string]any{
		`Success map[which:limit] {"t":1}`: {},
		`Success map[cs_fw:1.2 shared_limit:80 ss_zone:{"a":[1]} temp:21.5 which:limit] {"t":1}`: {
			"clientAttributeNames": list("fw"), "sharedAttributeNames": list("${which}"), "serverAttributeNames": list("zone"), "latestTsKeyNames": list("temp"),
		},
		`Success map[which:limit] {"cs_fw":"1.2","shared_limit":80,"t":1,"temp":{"ts":4,"value":21.5}}`: {
			"clientAttributeNames": list("fw"), "sharedAttributeNames": list("limit"), "latestTsKeyNames": list("temp"),
			"fetchTo": "DATA", "getLatestValueWithTs": true,
		},
		`Failure map[cs_fw:1.2 error:these values of the originator do not exist: CLIENT_SCOPE none, time series gone which:limit] {"t":1}`: {
			"clientAttributeNames": list("fw", "none"), "latestTsKeyNames": list("gone"),
		},
		`Success map[cs_fw:1.2 which:limit] {"t":1}`: {"clientAttributeNames": list("fw", "none"), "tellFailureIfAbsent": false},
		`Failure map[error:the stored value of SERVER_SCOPE broken: message data is not JSON: it ends where a key should be which:limit] {"t":1}`: {
			"serverAttributeNames": list("broken"),
		},
	} {
		if got := enriched(t, config, message()); got != want {
			t.Errorf("%v:\n%s\nwant\n%s", config, got, want)
		}
	}
	m := message().WithData(nodes.Raw([]byte(`[1]`)))
	want := `Failure map[error:message data is not a JSON object which:limit] [1]`
	if got := enriched(t, map[string]any{"clientAttributeNames": list("fw"), "fetchTo": "DATA"}, m); got != want {
		t.Error(got)
	}
}

func TestOriginatorAttributesReads(t *testing.T) {
	n, err := enrich.OriginatorAttributes.New(map[string]any{"sharedAttributeNames": list("${which}"), "latestTsKeyNames": list("temp")})
	if err != nil {
		t.Fatal(err)
	}
	m := message()
	want := []nodes.Key{{Entity: m.Originator, Scope: nodes.SharedScope, Name: "limit"}, {Entity: m.Originator, Name: "temp"}}
	if got := n.Process(m); !reflect.DeepEqual(got, nodes.Out{Reads: want}) {
		t.Errorf("%+v", got)
	}
}
