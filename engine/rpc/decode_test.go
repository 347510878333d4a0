package rpc_test

import (
	"encoding/json"
	"reflect"
	"testing"

	"callchain/engine/rpc"
)

// hot are the facts that are decoded by hand, as pointers for encoding/json.
var hot = map[string]func() any{
	"Requested": func() any { return new(rpc.Requested) },
	"Queued":    func() any { return new(rpc.Queued) },
	"Sent":      func() any { return new(rpc.Sent) },
	"Delivered": func() any { return new(rpc.Delivered) },
	"Succeeded": func() any { return new(rpc.Succeeded) },
}

// sameAsPlain holds DecodeFact against encoding/json: the same value, or an error of both.
func sameAsPlain(t *testing.T, name, data string) {
	t.Helper()
	want := hot[name]()
	plain := json.Unmarshal([]byte(data), want)
	got, err := rpc.DecodeFact(name, rpc.DataVersion, []byte(data))
	switch {
	case (plain == nil) != (err == nil):
		t.Errorf("%s %s: DecodeFact says %v, encoding/json %v", name, data, err, plain)
	case err == nil && !reflect.DeepEqual(got, reflect.ValueOf(want).Elem().Interface()):
		t.Errorf("%s %s\nDecodeFact     %#v\nencoding/json  %#v", name, data, got, reflect.ValueOf(want).Elem())
	}
}

// odd are stored forms at the edge of what is decoded by hand.
var odd = []struct{ name, data string }{
	{"Requested", `{"method":"m","expires":1}`},
	{"Requested", `{"method":"","params":null,"expires":-0,"retries":-1,"order":3,"info":[1,{"a":"]"}],"content":"AAECAw==","request":-7}`},
	{"Requested", `{"direction":1,"method":"é","expires":9223372036854775807,"session":"5a1c0f5e-0000-4000-8000-000000000001"}`},
	{"Requested", `{"direction":0,"method":"m","expires":1}`},
	{"Requested", `{"method":"m","expires":01}`},
	{"Requested", `{"method":"m","expires":-9223372036854775808}`},
	{"Requested", `{"method":"m","expires":9223372036854775808}`},
	{"Requested", `{"method":"m","expires":1.0}`},
	{"Requested", `{"method":"m","expires":1,"order":256}`},
	{"Requested", `{"method":"m","expires":1,"order":-1}`},
	{"Requested", `{"method":"m","expires":1,"content":""}`},
	{"Requested", `{"method":"m","expires":1,"content":"A"}`},
	{"Requested", `{"method":"m","expires":1,"session":"x"}`},
	{"Requested", `{"method":"m","expires":1,"session":"{5a1c0f5e-0000-4000-8000-000000000001}"}`},
	{"Requested", `{"method":"m","params":{"a":1]},"expires":1}`},
	{"Requested", `{"method":"m","params": {"a":1} ,"expires":1}`},
	{"Requested", `{"method":"m","params":{"a":"\"}"},"expires":1}`},
	{"Requested", `{"method":"m","params":,"expires":1}`},
	{"Requested", `{"method":"a\"b","expires":1}`},
	{"Requested", "{\"method\":\"a\xff\",\"expires\":1}"},
	{"Requested", "{\"method\":\"a\xff\",\"params\":\"\xff\",\"expires\":1}"},
	{"Requested", "{\"method\":\"a\nb\",\"expires\":1}"},
	{"Requested", `{"expires":1,"method":"m"}`},
	{"Requested", `{"Method":"m","expires":1}`},
	{"Requested", `{"method":"a","method":"b","expires":1}`},
	{"Requested", `{"method":"m","expires":1,"later":true}`},
	{"Requested", `{"method":"m","expires":1}}`},
	{"Requested", `{"method":"m","expires":1`},
	{"Requested", `{"method":"m`},
	{"Queued", `{"wire":2147483648}`},
	{"Queued", `{"wire":-2147483648,"method":"","params":[],"run":"5a1c0f5e-0000-4000-8000-000000000001","again":true}`},
	{"Queued", `{"wire":1,"method":null}`},
	{"Queued", `{"wire":1,"again":false}`},
	{"Queued", `{"wire":}`},
	{"Queued", `{"wire":-}`},
	{"Sent", `{"session":"5a1c0f5e-0000-4000-8000-000000000001","attempt":1,"ack":true}`},
	{"Sent", `{"attempt":32768}`},
	{"Sent", `{"attempt":1} `},
	{"Delivered", `{"evidence":"puback"}`},
	{"Delivered", `{"evidence":"a","evidence":"b"}`},
	{"Succeeded", `{"response":{}}`},
	{"Succeeded", `{"response":null}`},
	{"Succeeded", `{"response":{"json":null}}`},
	{"Succeeded", `{"response":{"json":}}`},
	{"Succeeded", `{"response":{"json":1,"text":"x"}}`},
	{"Succeeded", `{"response":{"text":"","json":2}}`},
	{"Succeeded", `{"response":{"text":""}}`},
	{"Succeeded", `{"response":{"text":null}}`},
	{"Succeeded", `{"response":{"base64":"//4="}}`},
	{"Succeeded", ``},
}

func TestDecodingByHandIsDecoding(t *testing.T) {
	for _, o := range odd {
		sameAsPlain(t, o.name, o.data)
	}
}

// FuzzDecodeFact: whatever is stored, decoding by hand gives what encoding/json gives.
func FuzzDecodeFact(f *testing.F) {
	for _, o := range odd {
		f.Add(o.name, o.data)
	}
	f.Fuzz(func(t *testing.T, name, data string) {
		if hot[name] != nil {
			sameAsPlain(t, name, data)
		}
	})
}
