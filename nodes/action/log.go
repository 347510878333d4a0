package action

import (
	"strings"
	"unicode/utf8"

	"callchain/nodes"
	"callchain/nodes/internal/template"
	"callchain/nodes/script"
)

// Log is ThingsBoard's "log". Its line is a text with placeholders, or what a script gives.
var Log = script.DefineWith(nodes.Spec{
	Type: "log", Class: "org.thingsboard.rule.engine.action.TbLogNode", Category: nodes.Action,
	Summary: "Writes a line into the server's log.",
	Doc: "The line is the `text`, or, if there is a script, the text that the script gives (in TBEL also anything else, as JSON). In the text `${key}` is " +
		"a metadata value, `$[a.b]` a part of the data, `${*}` and `$[*]` all of them. A line ends after 4096 bytes. ThingsBoard's default script is not run, " +
		"but written as text. " + script.Language,
	Relations: []string{nodes.Success, nodes.Failure}, Terminal: true,
	Example: `{"text": "${deviceName} says $[*]"}`,
}, newLog)

// plainLine is the line of ThingsBoard's default script.
const plainLine = "Incoming message: $[*] Incoming metadata: ${*}"

type logConfig struct {
	Text string `json:"text" max:"2000" default:"Incoming message: $[*] Incoming metadata: ${*}" doc:"The line, with placeholders."`
	Lang string `json:"scriptLang" enum:"JS|TBEL" doc:"Language; if left out it is JS if there is a jsScript, else TBEL."`
	JS   string `json:"jsScript" doc:"Body of a function in JavaScript that gives the line."`
	TBEL string `json:"tbelScript" doc:"Body of a function in TBEL that gives the line."`
}

type log struct{ text string }

// lineMax is the most bytes of a line; a longer one is cut at a letter.
const lineMax = 4096

func newLog(c logConfig, e script.Engine) (nodes.Node, error) {
	config := script.Config{Lang: c.Lang, JS: c.JS, TBEL: c.TBEL}
	lang, body, field := config.Chosen()
	switch {
	case body == "":
		return log{c.Text}, nil
	case isDefaultScript(body):
		return log{plainLine}, nil
	case e == nil:
		return nil, nodes.Wrong(field, `scripts are not run here; write the line into "text", with ${key} for metadata and $[key] for data`)
	}
	f, err := config.Compile(e)
	if err != nil {
		return nil, err
	}
	return scriptLog{f, lang}, nil
}

// isDefaultScript knows the script that ThingsBoard itself does not run either, because it is so common.
func isDefaultScript(script string) bool {
	bare := strings.NewReplacer(" ", "", "\n", "", "\r", "", "\t", "", ";", "").Replace(script)
	return bare == `return'\nIncomingmessage:\n'+JSON.stringify(msg)+'\nIncomingmetadata:\n'+JSON.stringify(metadata)`
}

func (n log) Process(m nodes.Msg) nodes.Out { return logged(m, template.Fill(n.text, m)) }

type scriptLog struct {
	line script.Function
	lang script.Lang
}

// Named lets failures tell the node's name.
func (n scriptLog) Named(name string) nodes.Node { return scriptLog{n.line.Named(name), n.lang} }

func (n scriptLog) Process(m nodes.Msg) nodes.Out {
	give := n.line.Text
	if n.lang == script.TBEL {
		give = n.line.AnyText
	}
	line, err := give(m)
	if err != nil {
		return nodes.Fail(m, err.Error())
	}
	return logged(m, line)
}

// logged sends the message on and writes the line.
func logged(m nodes.Msg, line string) nodes.Out {
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
