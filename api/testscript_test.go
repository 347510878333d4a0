package api

import (
	"encoding/json"
	"strings"
	"testing"
)

// tried is a case of trying a script; in the output and the error only a part is looked for, the words are the script's.
type tried struct{ lang, body, output, fails string }

func TestScriptsAreTriedWithTheNodeThatHasThem(t *testing.T) {
	h := newHouse(t)
	if got := h.do("GET", "/api/ruleChain/tbelEnabled", "tenant", "").Body.String(); got != "true" && got != "false" {
		t.Errorf("tbelEnabled is %s", got)
	}
	for _, test := range []tried{
		{"JS", `{"script":"return {};","scriptType":"generate","msg":"{}"}`, "", `no node with scripts of the type "generate"`},
		{"TBEL", `{"script":"return '\\nIncoming message:\\n' + JSON.stringify(msg) + '\\nIncoming metadata:\\n' + JSON.stringify(metadata);","scriptType":"string",
			"argNames":["msg","metadata","msgType"],"msg":"{\"a\":1}","metadata":{"k":"v"},"msgType":"T"}`, `{"a":1}`, ""},
	} {
		var got triedView
		w := h.do("POST", "/api/ruleChain/testScript?scriptLang="+test.lang, "tenant", test.body)
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
			t.Fatalf("%s: %d %s", test.body, w.Code, w.Body)
		}
		if !strings.Contains(got.Output, test.output) || !strings.Contains(got.Error, test.fails) || (got.Error != "") != (test.fails != "") {
			t.Errorf("%s: %+v", test.body, got)
		}
	}
	if w := h.do("POST", "/api/ruleChain/testScript?scriptLang=PERL", "tenant", "{}"); w.Code != 400 {
		t.Errorf("PERL: %d %s", w.Code, w.Body)
	}
}
