package nodes_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"callchain/nodes"
)

func TestParseJSON(t *testing.T) {
	for text, want := range map[string]any{
		`null`:                   nil,
		` true `:                 true,
		`0`:                      int64(0),
		`-12`:                    int64(-12),
		`9223372036854775807`:    int64(math.MaxInt64),
		`9223372036854775808`:    9223372036854775808.0,
		`1.0`:                    1.0,
		`1e3`:                    1000.0,
		`-2.5E-1`:                -0.25,
		`"a\n\"\\\/\u00e9"`:      "a\n\"\\/é",
		`"\ud83d\ude00"`:         "😀",
		`"\ud83d"`:               "\ufffd",
		`"\ud83dx"`:              "\ufffdx",
		`[]`:                     []any{},
		`[1,"a",[{}]]`:           []any{int64(1), "a", []any{map[string]any{}}},
		`{"a":{"b":null},"a":2}`: map[string]any{"a": int64(2)},
	} {
		got, err := nodes.ParseJSON([]byte(text))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s = %#v, %v; want %#v", text, got, err, want)
		}
	}
}

func TestParseJSONRefuses(t *testing.T) {
	for text, want := range map[string]string{
		``:                         "message data is empty",
		"  \n":                     "message data is empty",
		`{`:                        "ends where a key should be",
		`{"a"}`:                    `byte 4 is '}' where a colon should be`,
		`[1,]`:                     `byte 3 is ']' where a value should be`,
		`[1 2]`:                    "a comma or ]",
		`{"a":1 "b":2}`:            "a comma or }",
		`01`:                       "the end",
		`1.`:                       "a digit",
		`-`:                        "a digit",
		`+1`:                       "a value",
		`1e999`:                    "out of range",
		`tru`:                      "a value",
		`"a`:                       "a closing quote",
		"\"a\nb\"":                 "a printable character",
		`"\x"`:                     "an escape",
		`"\u12g4"`:                 "four hexadecimal digits",
		`{} {}`:                    "the end",
		"\xff":                     "not UTF-8",
		strings.Repeat("[", 10000): "nested deeper than 128 levels",
	} {
		if v, err := nodes.ParseJSON([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q = %v, %v; want %s", text, v, err, want)
		}
	}
}

// The parser takes exactly what encoding/json takes, with the same meaning.
func FuzzParseJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5,"x\u00e9",null,true]}`, `"\ud800\udc00"`, `-0`, `1e400`, ` [ ] `, `{"":{}}`, "\"\x7f\""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		v, err := nodes.ParseJSON(raw)
		var want any
		if std := json.Unmarshal(raw, &want); (std == nil) != (err == nil) {
			if err != nil && (strings.Contains(err.Error(), "deeper") || strings.Contains(err.Error(), "UTF-8")) {
				return
			}
			t.Fatalf("%q: %v, encoding/json says %v", raw, err, std)
		}
		if err != nil {
			return
		}
		text, err := nodes.AppendJSON(nil, v)
		if err != nil {
			t.Fatal(err)
		}
		var got any
		if err := json.Unmarshal(text, &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q became %s (%v)", raw, text, err)
		}
		again, err := nodes.ParseJSON(text)
		if err != nil || !reflect.DeepEqual(again, v) && !bytes.Contains(text, []byte("-0")) && !hasBigWhole(v) {
			t.Fatalf("%#v became %#v by %s (%v)", v, again, text, err)
		}
	})
}

// hasBigWhole: 2.0 is written as 2 and read back as a whole number, which is the same JSON.
func hasBigWhole(v any) bool {
	switch v := v.(type) {
	case float64:
		return v == math.Trunc(v)
	case []any:
		for _, item := range v {
			if hasBigWhole(item) {
				return true
			}
		}
	case map[string]any:
		for _, item := range v {
			if hasBigWhole(item) {
				return true
			}
		}
	}
	return false
}

func TestAppendJSON(t *testing.T) {
	for want, v := range map[string]any{
		`{"a":1,"b":[true,null],"c":"\u0001\n\t\r\"\\é<>"}`: map[string]any{"c": "\x01\n\t\r\"\\é<>", "a": 1, "b": []any{true, nil}},
		`[1,2.5,1e+21,1e-7,0.000001]`:                       []any{int64(1), 2.5, 1e21, 1e-7, 1e-6},
		"\"\ufffd\"":                                        "\xff",
		`["a","b"]`:                                         []string{"a", "b"},
		`{"k":"v"}`:                                         nodes.Metadata{"k": "v"},
		`"2026-01-31T00:00:00Z"`:                            time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC),
		`1500`:                                              1500 * time.Millisecond,
	} {
		if got, err := nodes.AppendJSON(nil, v); err != nil || string(got) != want {
			t.Errorf("%#v = %s, %v; want %s", v, got, err, want)
		}
	}
	for _, v := range []any{math.NaN(), math.Inf(1), struct{}{}, []any{func() {}}} {
		if got, err := nodes.AppendJSON(nil, v); err == nil {
			t.Errorf("%v has the form %s", v, got)
		}
	}
}

func TestPlainKeepsWhatIsShared(t *testing.T) {
	list := []any{int64(1), map[string]any{"a": 2}}
	plain, err := nodes.Plain(list)
	if err != nil || !reflect.DeepEqual(plain, []any{int64(1), map[string]any{"a": int64(2)}}) {
		t.Errorf("%#v, %v", plain, err)
	}
	if list[1].(map[string]any)["a"] != 2 {
		t.Error("Plain changed what it was given")
	}
	same := map[string]any{"a": []any{int64(1)}}
	if got, err := nodes.Plain(same); err != nil || reflect.ValueOf(got).Pointer() != reflect.ValueOf(same).Pointer() {
		t.Error("Plain copied what was plain already")
	}
}

func TestDoc(t *testing.T) {
	asked := 0
	lazy := nodes.Lazy(func() ([]byte, error) { asked++; return []byte(`{"a":1}`), nil })
	if asked != 0 {
		t.Error("the text of a lazy Doc is made before anybody looks")
	}
	for range 2 {
		if o, err := lazy.Object(); err != nil || o["a"] != int64(1) {
			t.Errorf("%v, %v", o, err)
		}
		if b, err := lazy.Bytes(); err != nil || string(b) != `{"a":1}` {
			t.Errorf("%s, %v", b, err)
		}
	}
	if asked != 1 {
		t.Errorf("the text was made %d times", asked)
	}
	broken := nodes.Lazy(func() ([]byte, error) { return nil, errors.New("gone") })
	for range 2 {
		if _, err := broken.Value(); err == nil || err.Error() != "gone" {
			t.Errorf("the error of a lazy Doc: %v", err)
		}
	}
	bad := nodes.Raw([]byte("x"))
	if _, err := bad.Value(); err == nil {
		t.Error("x is taken for JSON")
	}
	if b, err := bad.Bytes(); err != nil || string(b) != "x" {
		t.Errorf("text that is no JSON cannot be read any more: %s, %v", b, err)
	}
	if _, err := nodes.Raw([]byte("[]")).Object(); err == nil {
		t.Error("a list is taken for an object")
	}
	var none *nodes.Doc
	if b, err := none.Bytes(); b != nil || err != nil {
		t.Errorf("no Doc has the text %s, %v", b, err)
	}
	if _, err := none.Value(); err == nil {
		t.Error("no Doc has a value")
	}
}
