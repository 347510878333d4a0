package action

import (
	"strings"
	"unicode/utf8"

	"callchain/nodes"
	"callchain/nodes/internal/template"
)

// Log is ThingsBoard's "log". Its scripts are replaced by a text with placeholders.
var Log = nodes.Define(nodes.Spec{
	Type: "log", Class: "org.thingsboard.rule.engine.action.TbLogNode", Category: nodes.Action,
	Summary: "Writes a line into the server's log.",
	Doc: "`${key}` is a metadata value, `$[a.b]` a part of the data, `${*}` and `$[*]` all of them. A line ends after 4096 bytes. " +
		"ThingsBoard's default script is understood; another one is refused.",
	Relations: []string{nodes.Success, nodes.Failure}, Terminal: true,
	Example: `{"text": "${deviceName} says $[*]"}`,
}, newLog)

type logConfig struct {
	Text       string `json:"text" max:"2000" default:"Incoming message: $[*] Incoming metadata: ${*}" doc:"The line, with placeholders."`
	ScriptLang string `json:"scriptLang" default:"TBEL" enum:"TBEL|JS" doc:"Accepted for ThingsBoard's sake."`
	JSScript   string `json:"jsScript" doc:"Only ThingsBoard's default script is accepted."`
	TBELScript string `json:"tbelScript" doc:"Only ThingsBoard's default script is accepted."`
}

type log struct{ text string }

// lineMax is the most bytes of a line; a longer one is cut at a letter.
const lineMax = 4096

func newLog(c logConfig) (nodes.Node, error) {
	for _, s := range []struct{ field, script string }{{"jsScript", c.JSScript}, {"tbelScript", c.TBELScript}} {
		if s.script != "" && !isDefaultScript(s.script) {
			return nil, nodes.Wrong(s.field, `scripts are not run here; write the line into "text", with ${key} for metadata and $[key] for data`)
		}
	}
	return log{c.Text}, nil
}

// isDefaultScript knows the script that ThingsBoard itself does not run either, because it is so common.
func isDefaultScript(script string) bool {
	bare := strings.NewReplacer(" ", "", "\n", "", "\r", "", "\t", "", ";", "").Replace(script)
	return strings.HasPrefix(bare, `return'\nIncomingmessage:\n'+JSON.stringify(msg)+'\nIncomingmetadata:\n'+JSON.stringify(metadata)`)
}

func (n log) Process(m nodes.Msg) nodes.Out {
	line := template.Fill(n.text, m)
	if len(line) > lineMax {
		cut := lineMax
		for cut > 0 && !utf8.RuneStart(line[cut]) {
			cut--
		}
		line = line[:cut] + "…"
	}
	out := nodes.Emit(nodes.Success, m)
	out.Logs = []nodes.Log{{Text: line}}
	return out
}
