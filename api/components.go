package api

import (
	"slices"
	"strings"

	"callchain/chains/thingsboard"
	"callchain/nodes"
	"callchain/registry/auth"

	"github.com/gin-gonic/gin"
)

// componentView is ThingsBoard's ComponentDescriptor: a kind of node as its editor needs it.
type componentView struct {
	Type       string              `json:"type"`
	Scope      string              `json:"scope"`
	Clustering string              `json:"clusteringMode"`
	Name       string              `json:"name"`
	Class      string              `json:"clazz"`
	Descriptor componentDescriptor `json:"configurationDescriptor"`
	Version    int                 `json:"configurationVersion"`
	Actions    *string             `json:"actions"`
	HasQueue   bool                `json:"hasQueueName"`
}

type componentDescriptor struct {
	Node nodeDefinitionView `json:"nodeDefinition"`
}

type nodeDefinitionView struct {
	Details     string         `json:"details"`
	Description string         `json:"description"`
	In          bool           `json:"inEnabled"`
	Out         bool           `json:"outEnabled"`
	Relations   []string       `json:"relationTypes"`
	Custom      bool           `json:"customRelations"`
	ChainNode   bool           `json:"ruleChainNode"`
	Preset      map[string]any `json:"defaultConfiguration"`
	Directive   string         `json:"configDirective"`
	Icon        string         `json:"icon"`
	IconURL     string         `json:"iconUrl"`
	DocURL      string         `json:"docUrl"`
}

func componentOf(k nodes.Kind) componentView {
	v := componentView{
		Type: strings.ToUpper(string(k.Category)), Scope: "TENANT", Clustering: "ENABLED", Name: k.Type, Class: thingsboard.ClassOf(k), Version: k.Version,
	}
	v.Descriptor.Node = nodeDefinitionView{
		Details: k.Doc, Description: k.Summary, In: true, Out: len(k.Relations) > 0 || k.Custom, Relations: append([]string{}, k.Relations...),
		Custom: k.Custom, ChainNode: thingsboard.EntersChain(k), Preset: thingsboard.Preset(k),
	}
	return v
}

// listComponents serves GET /api/components[/{componentType}]?componentTypes=FILTER,ACTION&ruleChainType=: the kinds of nodes. For edge
// chains there are none.
func listComponents(s *server, c *gin.Context, _ *auth.Principal) error {
	asked := c.Query("componentTypes")
	if one := c.Param("componentType"); one != "" {
		asked = one
	}
	out := []componentView{}
	if kind := c.Query("ruleChainType"); kind != "" && kind != thingsboard.Core {
		return writeValue(c, out)
	}
	for _, k := range s.nodes.Kinds() {
		if v := componentOf(k); asked == "" || slices.Contains(strings.Split(asked, ","), v.Type) {
			out = append(out, v)
		}
	}
	return writeValue(c, out)
}

// getComponent serves GET /api/component/{class}.
func getComponent(s *server, c *gin.Context, _ *auth.Principal) error {
	class := c.Param("componentClass")
	k, ok := thingsboard.KindOf(class, s.nodes)
	if !ok {
		return &apiError{status: 404, errorCode: codeNotFound, message: "Requested item wasn't found!", code: "not_found", detail: "there is no node " + clip(class, 200)}
	}
	return writeValue(c, componentOf(k))
}
