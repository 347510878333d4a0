package devicejson_test

import (
	"errors"
	"reflect"
	"testing"

	"callchain/transports/internal/devicejson"
)

func TestCommands(t *testing.T) {
	for want, got := range map[string][]byte{
		`{"method":"a<b>&\"","params":{"x":[1.50]}}`:  devicejson.Command(`a<b>&"`, []byte("{ \"x\": [1.50]\n}")),
		`{"method":"m","params":null}`:                devicejson.Command("m", nil),
		`{"id":-2147483648,"method":"m","params":""}`: devicejson.NumberedCommand(-2147483648, "m", []byte(`""`)),
		`{"id":0,"method":"m","params":null}`:         devicejson.NumberedCommand(0, "m", nil),
	} {
		if string(got) != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestKeys(t *testing.T) {
	for list, want := range map[string][]string{"": {}, " a , ,b": {"a", "b"}, ",": {}} {
		if got := devicejson.Keys(list); got == nil || !reflect.DeepEqual(got, want) {
			t.Errorf("keys of %q are %q, want %q", list, got, want)
		}
	}
}

// FuzzParse: what is no call is refused with ErrFormat, and what is taken can be sent.
func FuzzParse(f *testing.F) {
	for _, s := range []string{`{"method":"m","params":{"a":[]}}`, `{"method":5}`, `null`, `[1]`, "\xff", `{"clientKeys":"a,b"}`, `{"method":null}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		method, params, err := devicejson.ParseCall(payload)
		if err != nil {
			if !errors.Is(err, devicejson.ErrFormat) {
				t.Fatalf("%q: %v", payload, err)
			}
			return
		}
		again, _, err := devicejson.ParseCall(devicejson.Command(method, params))
		if err != nil || again != method {
			t.Fatalf("%q: the call %q came back as %q, %v", payload, method, again, err)
		}
	})
}
