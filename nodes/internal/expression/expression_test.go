package expression_test

import (
	"reflect"
	"strings"
	"testing"

	"callchain/nodes"
	"callchain/nodes/internal/expression"

	"github.com/google/uuid"
)

var message = nodes.Msg{
	TS: 1700000000000, Now: 1700000000123456, Type: nodes.PostTelemetry,
	Originator: nodes.Entity{Type: nodes.Device, ID: uuid.MustParse("11111111-1111-4111-8111-111111111111")},
	Metadata:   nodes.Metadata{"deviceType": "thermostat", "ts": "1700000000000"},
	Data:       nodes.Raw([]byte(`{"temperature":42,"humidity":0.5,"tags":["b","a"],"room":{"z":1,"a":2},"name":"x"}`)),
}

func TestValue(t *testing.T) {
	for source, want := range map[string]any{
		`msg.temperature`:                            int64(42),
		`msg.temperature > 30`:                       true,
		`msg.missing`:                                nil,
		`metadata.missing`:                           nil,
		`msg.missing?.deeper`:                        nil,
		`msg.missing ?? 7`:                           int64(7),
		`keys(metadata)`:                             []any{"deviceType", "ts"},
		`metadata?.deviceType`:                       "thermostat",
		`metadata["deviceType"]`:                     "thermostat",
		`metadata.missing?.deeper`:                   nil,
		`metadata[type] ?? "none"`:                   "none",
		`metadata["device" + "Type"] + metadata.ts`:  "thermostat1700000000000",
		`$env.metadata.ts`:                           "1700000000000",
		`"ts" in metadata`:                           true,
		`metadata.deviceType`:                        "thermostat",
		`type`:                                       nodes.PostTelemetry,
		`originator.type + "/" + type`:               "DEVICE/POST_TELEMETRY_REQUEST",
		`originator.id`:                              "11111111-1111-4111-8111-111111111111",
		`ts`:                                         int64(1700000000000),
		`now()`:                                      int64(1700000000123),
		`isoTime(now())`:                             "2023-11-14T22:13:20.123Z",
		`parseTime("2023-11-14T22:13:20Z")`:          int64(1700000000000),
		`msg.temperature + 1`:                        int64(43),
		`msg.temperature + msg.humidity`:             42.5,
		`{"t": msg.temperature, "l": [1, 2.5, nil]}`: map[string]any{"t": int64(42), "l": []any{int64(1), 2.5, nil}},
		`keys(msg.room)`:                             []any{"a", "z"},
		`values(msg.room)`:                           []any{int64(2), int64(1)},
		`toPairs(msg.room)`:                          []any{[]any{"a", int64(2)}, []any{"z", int64(1)}},
		`map(1..3, # * 2)`:                           []any{int64(2), int64(4), int64(6)},
		`count(msg.tags, # == "a")`:                  int64(1),
		`filter(msg.tags, # != "a")[0]`:              "b",
		`reduce([1, 2, 3], #acc + #, 0)`:             int64(6),
		`string(msg.room)`:                           `{"a":2,"z":1}`,
		`string(12)`:                                 "12",
		`toJSON(msg.tags)`:                           `["b","a"]`,
		`fromJSON("[1, 2.5]")`:                       []any{int64(1), 2.5},
		`replace("a-b-c", "-", "")`:                  "abc",
		`repeat("ab", 2)`:                            "abab",
		`join(msg.tags, ",")`:                        "b,a",
		`join(map(1..2, string(#)))`:                 "12",
		`"temperature" in msg`:                       true,
		`{"type": type, "ts": ts}`:                   map[string]any{"type": nodes.PostTelemetry, "ts": int64(1700000000000)},
		`let a = msg.temperature; a * 2`:             int64(84),
	} {
		e, err := expression.Compile(source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		got, err := e.Value(expression.NewScope(message))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s = %#v, %v; want %#v", source, got, err, want)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	for source, want := range map[string]string{
		``:                               "the expression is empty",
		`msg.temperature >`:              "unexpected token EOF (column 17 of the expression)",
		`mgs.temperature > 3`:            "unknown name mgs (column 1 of the expression)",
		`date("2026-01-01")`:             "unknown name date (column 1 of the expression)",
		`timezone("UTC")`:                "unknown name timezone (column 1 of the expression)",
		strings.Repeat("1+", 5000) + "1": "the expression has 10001 bytes, more than 8192",
	} {
		if _, err := expression.Compile(source); err == nil || err.Error() != want {
			t.Errorf("%.30s: %v; want %s", source, err, want)
		}
	}
}

func TestRunFails(t *testing.T) {
	for source, want := range map[string]string{
		`msg.missing > 3`:         "invalid operation: nil > int",
		`msg.a.b`:                 "cannot fetch b from nil",
		`1 / 0 + msg.temperature`: "+Inf is no JSON number",
		`msg.temperature ? 1 : 2`: "a value is number where it must be bool",
		`now(1)`:                  "now wants no arguments",
		`keys(msg.tags)`:          "keys wants an object, not a list",
		`replace("a", "b")`:       "replace wants 4 arguments",
	} {
		e, err := expression.Compile(source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if v, err := e.Value(expression.NewScope(message)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s = %v, %v; want %s", source, v, err, want)
		}
	}
}

// Each of these would run for minutes or fill the memory without the budget.
func TestBudget(t *testing.T) {
	doubled := "let a = [1, 1]; "
	grown := `let a = repeat("x", 1000); `
	for c := 'b'; c <= 'z'; c++ {
		doubled += "let " + string(c) + " = [" + string(c-1) + ", " + string(c-1) + "]; "
		grown += "let " + string(c) + " = " + string(c-1) + " + " + string(c-1) + "; "
	}
	for _, source := range []string{
		`count(1..1000, count(1..1000, count(1..1000, true) > 0) > 0)`,
		`all(1..90000, all(1..90000, true))`,
		`sum(map(1..1000, sum(1..1000)))` + strings.Repeat(" + sum(map(1..1000, sum(map(1..1000, #))))", 2),
		`repeat("x", 10000000)`,
		`repeat(repeat("x", 1000), 100000)`,
		`replace(repeat("x", 1000), "", repeat("y", 10000))`,
		`join(map(1..10000, repeat("x", 1000)))`,
		`reduce(1..60, [#acc, #acc], 1)`,
		`toJSON(reduce(1..60, ({"a": #acc, "b": #acc}), 1))`,
		doubled + "z",
		grown + "z",
	} {
		e, err := expression.Compile(source)
		if err != nil {
			t.Errorf("%.60s: %v", source, err)
			continue
		}
		if _, err := e.Value(expression.NewScope(message)); err == nil || !strings.Contains(err.Error(), "costs too much") && !strings.Contains(err.Error(), "memory budget") {
			t.Errorf("%.60s: %v; want it to exceed its budget", source, err)
		}
	}
}

func BenchmarkCondition(b *testing.B) {
	e, err := expression.Compile(`msg.temperature > 30 && metadata.deviceType == "thermostat"`)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if ok, err := e.Bool(expression.NewScope(message)); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
