package api

import (
	"errors"
	"fmt"
	"strings"

	"callchain/chains/thingsboard"
	"callchain/nodes"
	"callchain/registry/auth"

	"github.com/gin-gonic/gin"
)

// scriptRoutes: what ThingsBoard's editor needs to try a script.
var scriptRoutes = []route{
	{"GET", "/api/ruleChain/tbelEnabled", tenantAdmins, tbelEnabled, ordinary},
	{"POST", "/api/ruleChain/testScript", tenantAdmins, testScript, ordinary},
}

// tbelEnabled serves GET /api/ruleChain/tbelEnabled: whether there are nodes with scripts.
func tbelEnabled(s *server, c *gin.Context, _ *auth.Principal) error {
	class, _ := thingsboard.ScriptClass("update")
	_, there := s.nodes.LookupClass(class)
	return writeValue(c, there)
}

// scriptBody is ThingsBoard's request to try a script.
type scriptBody struct {
	Script   string            `json:"script"`
	Type     string            `json:"scriptType"`
	Msg      string            `json:"msg"`
	Metadata map[string]string `json:"metadata"`
	MsgType  string            `json:"msgType"`
}

// triedView is what a script gave, or why it gave nothing. ThingsBoard answers both with 200.
type triedView struct {
	Output string `json:"output"`
	Error  string `json:"error"`
}

// testScript serves POST /api/ruleChain/testScript?scriptLang=JS|TBEL: the node that has such scripts is run with the message, with the
// same limits as in a chain.
func testScript(s *server, c *gin.Context, _ *auth.Principal) error {
	var in scriptBody
	if err := s.readJSON(c, s.config.Body, &in); err != nil {
		return err
	}
	lang := strings.ToUpper(c.DefaultQuery("scriptLang", "JS"))
	if lang != "JS" && lang != "TBEL" {
		return badQuery("scriptLang", "must be JS or TBEL, is '%s'", clip(lang, 20))
	}
	var v triedView
	output, err := s.try(&in, lang)
	if err != nil {
		v.Error = err.Error()
	} else {
		v.Output = output
	}
	return writeValue(c, v)
}

func (s *server) try(in *scriptBody, lang string) (string, error) {
	class, known := thingsboard.ScriptClass(in.Type)
	kind, there := s.nodes.LookupClass(class)
	if !known || !there {
		return "", fmt.Errorf("there is no node with scripts of the type %q", clip(in.Type, 40))
	}
	node, err := kind.New(map[string]any{"scriptLang": lang, strings.ToLower(lang) + "Script": in.Script})
	if err != nil {
		return "", err
	}
	m := nodes.Msg{ID: s.newID(), Type: in.MsgType, Metadata: in.Metadata, Data: nodes.Raw([]byte(in.Msg)), TS: s.now().UnixMilli(), Now: s.now().UnixMicro()}
	out := node.Process(m)
	for _, e := range out.Emits {
		if strings.EqualFold(e.Relation, nodes.Failure) {
			return "", errors.New(e.Msg.Metadata["error"])
		}
	}
	return shownOutput(in.Type, &out)
}

// shownOutput is what a script gave, in the words of ThingsBoard's editor.
func shownOutput(scriptType string, out *nodes.Out) (string, error) {
	var shown any
	switch scriptType {
	case "string":
		lines := make([]string, len(out.Logs))
		for i, l := range out.Logs {
			lines[i] = l.Text
		}
		return strings.Join(lines, "\n"), nil
	case "filter":
		return fmt.Sprint(len(out.Emits) > 0 && out.Emits[0].Relation == nodes.True), nil
	case "switch":
		relations := []any{}
		for _, e := range out.Emits {
			relations = append(relations, e.Relation)
		}
		shown = relations
	default:
		messages := []any{}
		for _, e := range out.Emits {
			data, err := e.Msg.Data.Value()
			if err != nil {
				return "", err
			}
			messages = append(messages, map[string]any{"msg": data, "metadata": map[string]string(e.Msg.Metadata), "msgType": e.Msg.Type})
		}
		if shown = messages; len(messages) == 1 {
			shown = messages[0]
		}
	}
	text, err := nodes.AppendJSON(nil, shown)
	return string(text), err
}
