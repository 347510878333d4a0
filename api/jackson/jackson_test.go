package jackson_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"callchain/api/jackson"
)

// The first block is recorded from a ThingsBoard server (params on their way to the device, answers on their way back).
func TestAppendWritesAsJacksonDoes(t *testing.T) {
	for _, c := range []struct{ in, out string }{
		{`{"a":{"b":[1.50,1e3,"\u00e9"]},"z":1,"y":2}`, `{"a":{"b":[1.5,1000.0,"é"]},"z":1,"y":2}`},
		{`{"v":1.50,"b":1, "a" : 2}`, `{"v":1.5,"b":1,"a":2}`},
		{`{ "b" : 1, "a":2 }`, `{"b":1,"a":2}`},
		{`"text"`, `"text"`},
		{` 42 `, `42`},
		{`true`, `true`},
		{`null`, `null`},
		{`[1,2]`, `[1,2]`},

		{`[]`, `[]`},
		{`[ [ ] , { } ]`, `[[],{}]`},
		{`-0`, `0`},
		{`-0.0`, `-0.0`},
		{`0.001`, `0.001`},
		{`0.0001`, `1.0E-4`},
		{`9999999.5`, `9999999.5`},
		{`1e7`, `1.0E7`},
		{`1.25e-10`, `1.25E-10`},
		{`123456789012345678901234567890`, `123456789012345678901234567890`},
		{`1e400`, `"Infinity"`},
		{`-1e400`, `"-Infinity"`},
		{`1e-400`, `0.0`},
		{`"a\/b\u0001\u001f\n\t\"\\"`, `"a/b\u0001\u001F\n\t\"\\"`},
		{`"\ud83d\ude80"`, `"🚀"`},
		{`"\ud83d x"`, "\"\uFFFD x\""},
		{`{"a":1,"b":2,"a":[3,4]}`, `{"a":[3,4],"b":2}`},
		{`{"a":[3,4],"b":2,"c":{"b":1,"b":2},"a":1,"b":3}`, `{"a":1,"b":3,"c":{"b":2}}`},
	} {
		got, err := jackson.Append([]byte("x"), []byte(c.in))
		if err != nil || string(got) != "x"+c.out {
			t.Errorf("Append(%s) = %s, %v; want %s", c.in, got, err, c.out)
		}
	}
}

func TestAppendReplacesTheFirstOfManyMembers(t *testing.T) {
	var in bytes.Buffer
	in.WriteString(`{"first":1`)
	for i := range 100 {
		in.WriteString(`,"k` + strings.Repeat("i", i) + `":0`)
	}
	in.WriteString(`,"kiii":"again","first":"again"}`)
	got, err := jackson.Append(nil, in.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(got, []byte(`{"first":"again","k":0,"ki":0,"kii":0,"kiii":"again","kiiii":0`)) || bytes.Count(got, []byte("again")) != 2 {
		t.Errorf("got %s", got)
	}
}

func TestAppendRefusesWhatIsNotJSON(t *testing.T) {
	for _, in := range []string{
		``, ` `, `{`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{a:1}`, `{'a':1}`, `[`, `[1`, `[1,`, `[1,]`, `[,]`, `[1 2]`,
		`plain text`, `nul`, `tru`, `1.`, `.5`, `+1`, `01`, `-`, `1e`, `1e+`, `"open`, `"\x"`, `"\u12"`, `"\`, "\"\n\"", "\"\xff\"",
		`{} {}`, `1 2`, `NaN`, strings.Repeat("1", 1001), strings.Repeat("[", 1001) + strings.Repeat("]", 1001),
	} {
		got, err := jackson.Append([]byte("x"), []byte(in))
		if !errors.Is(err, jackson.ErrSyntax) || string(got) != "x" {
			t.Errorf("Append(%.40q) = %.40q, %v; want ErrSyntax", in, got, err)
		}
	}
	deep := strings.Repeat("[", 1000) + strings.Repeat("]", 1000)
	if _, err := jackson.Append(nil, []byte(deep)); err != nil {
		t.Errorf("1000 levels are refused: %v", err)
	}
}

func TestMembers(t *testing.T) {
	var got []string
	err := jackson.Members([]byte(` { "a" : 1.50 , "\u0062" : [ 1 ] , "a" : null } `), func(name string, v jackson.Value) error {
		got = append(got, name+"="+string(v))
		return nil
	})
	if want := []string{"a=1.5", "b=[1]", "a=null"}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	for _, in := range []string{`[1]`, `"abc"`, `null`, ``, `{"a":1} x`, `{"a":1,}`, "{\"\xff\":1}"} {
		err := jackson.Members([]byte(in), func(string, jackson.Value) error { return nil })
		if !errors.Is(err, jackson.ErrSyntax) {
			t.Errorf("Members(%q): %v, want ErrSyntax", in, err)
		}
	}
	stop := errors.New("stop")
	if err := jackson.Members([]byte(`{"a":1}`), func(string, jackson.Value) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the walk went on: %v", err)
	}
}

func TestCoercions(t *testing.T) {
	for _, c := range []struct {
		in    string
		text  string
		long  int64
		int32 int
		bool  bool
	}{
		{`"abc"`, "abc", 0, 0, false},
		{`"a\"b\n"`, "a\"b\n", 0, 0, false},
		{`" 12 "`, " 12 ", 12, 12, false},
		{`"+12"`, "+12", 12, 12, false},
		{`"1e3"`, "1e3", 1000, 1000, false},
		{`" true "`, " true ", 0, 0, true},
		{`"TRUE"`, "TRUE", 0, 0, false},
		{`5`, "5", 5, 5, true},
		{`0`, "0", 0, 0, false},
		{`-1`, "-1", -1, -1, true},
		{`1.5`, "1.5", 1, 1, false},
		{`1e3`, "1000.0", 1000, 1000, false},
		{`3000000000`, "3000000000", 3000000000, 2147483647, true},
		{`1e30`, "1.0E30", 9223372036854775807, 2147483647, false},
		{`true`, "true", 1, 1, true},
		{`false`, "false", 0, 0, false},
		{`null`, "null", 0, 0, false},
		{`{"a":1}`, "", 0, 0, false},
		{`[1]`, "", 0, 0, false},
	} {
		raw, err := jackson.Append(nil, []byte(c.in))
		if err != nil {
			t.Fatal(err)
		}
		v := jackson.Value(raw)
		if v.Text() != c.text || v.Long() != c.long || v.Int() != c.int32 || v.Bool() != c.bool {
			t.Errorf("%s: text %q long %d int %d bool %v, want %q %d %d %v", c.in, v.Text(), v.Long(), v.Int(), v.Bool(), c.text, c.long, c.int32, c.bool)
		}
	}
}

// FuzzAppend compares with encoding/json: the same texts are accepted (but for bytes that are not UTF-8, depth and length of numbers),
// and what is written has the same meaning and is a fixed point.
func FuzzAppend(f *testing.F) {
	for _, s := range []string{`{"a":[1.5,1e3,"\u00e9",null,true]}`, `{"a":1,"b":2,"a":3}`, `"\ud800"`, `-0`, ` [ ] `, `1e999`, `{`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := jackson.Append(nil, in)
		if err != nil {
			return
		}
		var want, have any
		if wantErr := json.Unmarshal(in, &want); wantErr != nil {
			if strings.Contains(wantErr.Error(), "cannot unmarshal number") {
				return // out of float64's range
			}
			t.Fatalf("accepted %q, which is no JSON: %v", in, wantErr)
		}
		if err := json.Unmarshal(got, &have); err != nil || !reflect.DeepEqual(want, have) && !bytes.Contains(got, []byte("Infinity")) {
			t.Fatalf("%q became %q: %v", in, got, err)
		}
		again, err := jackson.Append(nil, got)
		if err != nil || !bytes.Equal(got, again) {
			t.Fatalf("%q is no fixed point: %q, %v", got, again, err)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	src := []byte(`{"method":"setGpio","params":{"pin": 7, "value": 1.50, "name": "l\u00e4mp"}}`)
	buf := make([]byte, 0, 128)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := jackson.Append(buf[:0], src); err != nil {
			b.Fatal(err)
		}
	}
}
