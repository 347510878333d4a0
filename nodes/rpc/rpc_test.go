package rpc_test

import (
	"reflect"
	"testing"
	"time"

	"callchain/nodes"
	"callchain/nodes/rpc"

	"github.com/google/uuid"
)

func node(t *testing.T, k nodes.Kind, config string) nodes.Resumer {
	t.Helper()
	c, err := nodes.Raw([]byte(config)).Object()
	if err != nil {
		t.Fatal(err)
	}
	n, err := k.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return n.(nodes.Resumer)
}

var device = nodes.Entity{Type: nodes.Device, ID: uuid.MustParse("11111111-1111-4111-8111-111111111111")}

func message(typ, data string, md nodes.Metadata) nodes.Msg {
	return nodes.Msg{Type: typ, Originator: device, Metadata: md, Data: nodes.Raw([]byte(data)), Now: 1}
}

func TestRequestAsks(t *testing.T) {
	three := 3
	id := uuid.MustParse("44444444-4444-4444-8444-444444444444")
	for name, c := range map[string]struct {
		m    nodes.Msg
		want nodes.CallDevice
	}{
		"application's call": {
			message(nodes.CallToDevice, `{"method":"set","params":"{\"b\":1,\"a\":2}","additionalInfo":"{\"x\":1}"}`, nodes.Metadata{
				"originServiceId": "s", "requestUUID": id.String(), "expirationTime": "1700000060000", "oneway": "true", "persistent": "true", "retries": "3",
			}),
			nodes.CallDevice{
				ID: id, Method: "set", Params: []byte(`{"b":1,"a":2}`), Oneway: true, Persistent: true, FromREST: true, Expires: 1700000060000000,
				Retries: &three, Info: []byte(`{"x":1}`),
			},
		},
		"without origin": {
			message(nodes.CallToDevice, `{"method":"set","params":"null"}`, nodes.Metadata{"originServiceId": " ", "oneway": "yes", "retries": ""}),
			nodes.CallDevice{Method: "set", Params: []byte("null")},
		},
		"object":     {message("T", `{"method":"set","params":{"b":1,"a":[2]}}`, nil), nodes.CallDevice{Method: "set", Params: []byte(`{"a":[2],"b":1}`)}},
		"null":       {message("T", `{"method":"set","params":null}`, nil), nodes.CallDevice{Method: "set", Params: []byte("null")}},
		"number":     {message("T", `{"method":"set","params":5}`, nil), nodes.CallDevice{Method: "set", Params: []byte("5")}},
		"plain text": {message("T", `{"method":"set","params":"on now"}`, nil), nodes.CallDevice{Method: "set", Params: []byte(`"on now"`)}},
	} {
		c.want.Timeout = 5 * time.Second
		out := node(t, rpc.Request, `{"timeoutInSeconds":5}`).Process(c.m)
		if !reflect.DeepEqual(out, nodes.Out{Ask: c.want}) {
			t.Errorf("%s: %+v; want %+v", name, out, c.want)
		}
	}
}

func failure(out nodes.Out) string {
	if len(out.Emits) != 1 || out.Emits[0].Relation != nodes.Failure {
		return "no failure"
	}
	return out.Emits[0].Msg.Metadata["error"]
}

// ThingsBoard's texts, in ThingsBoard's order.
func TestRequestFails(t *testing.T) {
	asset := message("T", `{}`, nil)
	asset.Originator.Type = "ASSET"
	for want, m := range map[string]nodes.Msg{
		"Message originator is not a device entity!":               asset,
		"Method is not present in the message!":                    message("T", `{}`, nil),
		"Params are not present in the message!":                   message("T", `{"method":"m"}`, nil),
		"message data is not a JSON object":                        message("T", `[]`, nil),
		`metadata requestUUID is no UUID: "x"`:                     message("T", `{"method":"m","params":1}`, nodes.Metadata{"requestUUID": "x"}),
		`metadata expirationTime is no time in milliseconds: "1s"`: message("T", `{"method":"m","params":1}`, nodes.Metadata{"expirationTime": "1s"}),
		`metadata retries is no number: "x"`:                       message("T", `{"method":"m","params":1}`, nodes.Metadata{"retries": "x"}),
		"Method is 5, but must be text!":                           message("T", `{"method":5,"params":1}`, nil),
	} {
		if got := failure(node(t, rpc.Request, `{}`).Process(m)); got != want {
			t.Errorf("%q; want %q", got, want)
		}
	}
}

func TestRequestResumes(t *testing.T) {
	m := message("T", `{"method":"m","params":1}`, nodes.Metadata{"k": "v"})
	for _, c := range []struct {
		answer         nodes.Answer
		relation, data string
		reason         string
	}{
		{nodes.CallEnded{Body: []byte(`{"ok":1}`)}, nodes.Success, `{"ok":1}`, ""},
		{nodes.CallEnded{Body: []byte(`plain`)}, nodes.Success, `plain`, ""},
		{nodes.CallEnded{}, nodes.Success, `{}`, ""},
		{nodes.CallEnded{Error: "NO_ACTIVE_CONNECTION"}, nodes.Failure, `{"error":"NO_ACTIVE_CONNECTION"}`, "NO_ACTIVE_CONNECTION"},
	} {
		out := node(t, rpc.Request, `{}`).Resume(m, c.answer)
		data, err := out.Emits[0].Msg.Data.Bytes()
		if e := out.Emits[0]; err != nil || e.Relation != c.relation || string(data) != c.data || e.Msg.Metadata["error"] != c.reason || e.Msg.Metadata["k"] != "v" {
			t.Errorf("%+v: %+v %s %v", c.answer, e, data, err)
		}
	}
}

func session() nodes.Metadata {
	return nodes.Metadata{"requestId": "7", "serviceId": "n1", "sessionId": "33333333-3333-4333-8333-333333333333"}
}

func TestReply(t *testing.T) {
	want := nodes.Out{Ask: nodes.ReplyCall{
		Service: "n1", Session: uuid.MustParse("33333333-3333-4333-8333-333333333333"), Request: 7, Body: []byte(`{"time":1}`),
	}}
	m := message(nodes.CallFromDevice, `{"time":1}`, session())
	if out := node(t, rpc.Reply, `{}`).Process(m); !reflect.DeepEqual(out, want) {
		t.Errorf("%+v; want %+v", out, want)
	}
	renamed := m
	renamed.Metadata = nodes.Metadata{"r": "7", "serviceId": "n1", "s": "33333333-3333-4333-8333-333333333333"}
	n := node(t, rpc.Reply, `{"requestIdMetaDataAttribute":"r","serviceIdMetaDataAttribute":" ","sessionIdMetaDataAttribute":"s"}`)
	if out := n.Process(renamed); !reflect.DeepEqual(out, want) {
		t.Errorf("%+v; want %+v", out, want)
	}
	if out := n.Resume(m, nodes.Replied{}); !reflect.DeepEqual(out, nodes.Emit(nodes.Success, m)) {
		t.Errorf("%+v", out)
	}
	if out := n.Resume(m, nodes.Replied{Error: "late"}); out.Emits[0].Relation != nodes.Success || out.Emits[0].Msg.Metadata["replyError"] != "late" {
		t.Errorf("%+v", out)
	}
}

// Each row takes away what the next check needs, so the order of the checks is ThingsBoard's, too.
func TestReplyFails(t *testing.T) {
	m := message(nodes.CallFromDevice, " ", session())
	without := func(m nodes.Msg, key string) nodes.Msg { return m.WithMetadata(key, "") }
	with := func(key, value string) nodes.Msg {
		return m.WithData(nodes.Raw([]byte("{}"))).WithMetadata(key, value)
	}
	asset := without(m, "requestId")
	asset.Originator.Type = "ASSET"
	for want, m := range map[string]nodes.Msg{
		"Message originator is not a device entity!":          asset,
		"Request id is not present in the metadata!":          without(without(without(m, "requestId"), "serviceId"), "sessionId"),
		"Service id is not present in the metadata!":          without(without(m, "serviceId"), "sessionId"),
		"Session id is not present in the metadata!":          without(m, "sessionId"),
		"Request body is empty!":                              m,
		"metadata edgeId is set, but there are no edges here": with("edgeId", "e"),
		`Request id is no number: "7.5"`:                      with("requestId", "7.5"),
		`Session id is no UUID: "x"`:                          with("sessionId", "x"),
	} {
		if got := failure(node(t, rpc.Reply, `{}`).Process(m)); got != want {
			t.Errorf("%q; want %q", got, want)
		}
	}
}
