package builtin_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"callchain/nodes"
	"callchain/nodes/builtin"
	"callchain/nodes/nodetest"
	"callchain/nodes/script/goja"
)

// kinds are all kinds; the budget is long, so that a busy machine changes no result.
var kinds = builtin.WithScripts(goja.New(500 * time.Millisecond))

// outcome is what a node with a script does to a message, by the type of the node, in words.
func outcome(t *testing.T, kind string, config map[string]any, m nodes.Msg) string {
	t.Helper()
	k, ok := kinds.Lookup(kind)
	if !ok {
		t.Fatalf("there is no kind %q", kind)
	}
	n, err := k.New(config)
	if err != nil {
		return "refused: " + err.Error()
	}
	if named, is := n.(nodes.Named); is {
		n = named.Named("my node")
	}
	out := n.Process(m)
	var all []string
	for _, e := range out.Emits {
		data, err := e.Msg.Data.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if e.Relation == nodes.Failure {
			all = append(all, "Failure: "+e.Msg.Metadata["error"])
			continue
		}
		all = append(all, strings.TrimSpace(fmt.Sprintf("%s %s %s", e.Relation, e.Msg.Type, data)))
	}
	for _, l := range out.Logs {
		all = append(all, "log "+l.Text)
	}
	return strings.Join(all, "; ")
}

func TestNodesWithScripts(t *testing.T) {
	m := nodetest.Messages()["telemetry"]
	const data = `POST_TELEMETRY_REQUEST {"temperature":42,"humidity":0.5}`
	for _, c := range []struct{ kind, lang, body, want string }{
		{"script filter", "JS", "return msg.temperature > 20;", "True " + data},
		{"script filter", "TBEL", "return msg.temperature > 50;", "False " + data},
		{"script filter", "JS", "return msg.temperature;", `Failure: Wrong result type: the script of node "my node" must give true or false, but gave the number 42`},
		{"script filter", "JS", "msg.temperature = 1; metadata.x = 1; throw 'boom-42';", `Failure: boom-42 (line 1, column 38 of the script of node "my node")`},
		{"script filter", "JS", "return msg.a.b", `Failure: TypeError: Cannot read property 'b' of undefined (line 1, column 14 of the script of node "my node")`},
		{"script filter", "JS", "return }", `refused: jsScript: brackets, braces or quotes do not match: something is not closed, or is closed twice (line 1, column 9 of the script)`},
		{"script filter", "TBEL", "foreach (x : msg) {}", `refused: tbelScript: TBEL's foreach is not JavaScript; write "for (let x of list) { … }" (line 1, column 1 of the script)`},
		{"script switch", "JS", "return ['a', msgType, 'a'];", "a " + data + "; POST_TELEMETRY_REQUEST " + data},
		{"script switch", "TBEL", "return 'one';", "one " + data},
		{"script switch", "JS", "return [];", ""},
		{"script switch", "JS", "return 7;", `Failure: Wrong result type: the script of node "my node" must give the name of a relation or a list of names, but gave the number 7`},
		{"script transform", "JS", "return {msg: {t: msg.temperature}, msgType: 'T'};", `Success T {"t":42}`},
		{"script transform", "TBEL", "msg.x = metadata.deviceName; return {msg: msg, metadata: metadata, msgType: msgType};", `Success POST_TELEMETRY_REQUEST {"humidity":0.5,"temperature":42,"x":"t1"}`},
		{"script transform", "JS", "return [{msg: 1}, {msg: 2}];", "Success POST_TELEMETRY_REQUEST 1; Success POST_TELEMETRY_REQUEST 2"},
		{"script transform", "JS", "return msg;", "Success " + data},
		{"log", "JS", "return 'T is ' + msg.temperature;", "Success " + data + "; log T is 42"},
		{"log", "TBEL", "return {t: msg.temperature};", "Success " + data + `; log {"t":42}`},
		{"log", "JS", "return {t: 1};", `Failure: Wrong result type: the script of node "my node" must give a text, but gave an object`},
		{
			"log", "JS", "return '\\nIncoming message:\\n' + JSON.stringify(msg) + '\\nIncoming metadata:\\n' + JSON.stringify(metadata) + 'x';",
			"Success " + data + "; log \nIncoming message:\n" + `{"humidity":0.5,"temperature":42}` + "\nIncoming metadata:\n" + `{"deviceName":"t1","deviceType":"default","ts":"1700000000000"}x`,
		},
	} {
		field := map[string]string{"JS": "jsScript", "TBEL": "tbelScript"}[c.lang]
		if got := outcome(t, c.kind, map[string]any{"scriptLang": c.lang, field: c.body}, m); got != c.want {
			t.Errorf("%s, %s: %s\n%s\nwant\n%s", c.kind, c.lang, c.body, got, c.want)
		}
	}
}

// ThingsBoard keeps the scripts of both languages; only the one that is chosen counts, whatever the other one holds.
func TestTheOtherScriptDoesNotCount(t *testing.T) {
	config := map[string]any{"scriptLang": "TBEL", "jsScript": "return }", "tbelScript": "return true;"}
	if got := outcome(t, "script filter", config, nodetest.Messages()["list"]); !strings.HasPrefix(got, "True") {
		t.Error(got)
	}
}
