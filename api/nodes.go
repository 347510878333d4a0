package api

import (
	"encoding/json"

	"callchain/nodes"
	"callchain/registry/auth"

	"github.com/gin-gonic/gin"
)

// nodeView is a kind of node: what a user needs to write one, and what an editor needs to offer it.
type nodeView struct {
	Type      string          `json:"type"`
	Class     string          `json:"class,omitempty"` // ThingsBoard's
	Category  nodes.Category  `json:"category"`
	Summary   string          `json:"summary"`
	Doc       string          `json:"doc,omitempty"`
	Relations []string        `json:"relations"`
	Custom    bool            `json:"customRelations"`
	Terminal  bool            `json:"terminal"` // a chain may end with it
	Version   int             `json:"configurationVersion"`
	Schema    map[string]any  `json:"schema"` // JSON Schema of the config
	Example   json.RawMessage `json:"example"`
}

// listNodes serves GET /api/nodes: every kind of node with JSON Schema, relations and docs.
func listNodes(s *server, c *gin.Context, _ *auth.Principal) error {
	kinds := s.nodes.Kinds()
	views := make([]nodeView, len(kinds))
	for i, k := range kinds {
		views[i] = nodeView{
			Type: k.Type, Class: k.Class, Category: k.Category, Summary: k.Summary, Doc: k.Doc, Relations: append([]string{}, k.Relations...),
			Custom: k.Custom, Terminal: k.Terminal, Version: k.Version, Schema: k.Schema(), Example: orNull(json.RawMessage(k.Example)),
		}
	}
	return writeValue(c, views)
}
