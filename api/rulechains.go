package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"callchain/chains/standard"
	"callchain/chains/stored"
	"callchain/chains/thingsboard"
	"callchain/registry"
	"callchain/registry/auth"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
)

// ruleChainRoutes: rule chains as ThingsBoard's clients have them (RuleChainController). They are the chains of /api/chains.
var ruleChainRoutes = []route{
	{"POST", "/api/ruleChain", tenantAdmins, saveRuleChain, ordinary},
	{"GET", "/api/ruleChain/:ruleChainId", tenantAdmins, getRuleChain, ordinary},
	{"DELETE", "/api/ruleChain/:ruleChainId", tenantAdmins, deleteRuleChain, ordinary},
	{"POST", "/api/ruleChain/:ruleChainId/root", tenantAdmins, makeRuleChainRoot, ordinary},
	{"POST", "/api/ruleChain/device/default", tenantAdmins, makeDeviceRuleChain, ordinary},
	{"GET", "/api/ruleChain/:ruleChainId/metadata", tenantAdmins, getRuleChainMetadata, ordinary},
	{"POST", "/api/ruleChain/metadata", tenantAdmins, saveRuleChainMetadata, ordinary},
	{"GET", "/api/ruleChain/:ruleChainId/output/labels", tenantAdmins, ruleChainLabels, ordinary},
	{"GET", "/api/ruleChain/:ruleChainId/output/labels/usage", tenantAdmins, ruleChainLabelUsage, ordinary},
	{"GET", "/api/ruleChains", tenantAdmins, listRuleChains, ordinary},
	{"GET", "/api/ruleChains/list", tenantAdmins, namedRuleChains, ordinary},
	{"GET", "/api/ruleChains/export", tenantAdmins, exportRuleChains, ordinary},
	{"POST", "/api/ruleChains/import", tenantAdmins, importRuleChains, ordinary},
	{"GET", "/api/components", tenantAdmins, listComponents, ordinary},
	{"GET", "/api/components/:componentType", tenantAdmins, listComponents, ordinary},
	{"GET", "/api/component/:componentClass", tenantAdmins, getComponent, ordinary},
}

// ruleChainView is ThingsBoard's RuleChain. Version is the version of the chain that is shown.
type ruleChainView struct {
	ID             entity          `json:"id"`
	Created        int64           `json:"createdTime"`
	Tenant         entity          `json:"tenantId"`
	Name           string          `json:"name"`
	Type           string          `json:"type"`
	FirstRuleNode  *entity         `json:"firstRuleNodeId"`
	Root           bool            `json:"root"`
	DebugMode      bool            `json:"debugMode"`
	Configuration  json.RawMessage `json:"configuration"`
	External       *entity         `json:"externalId"`
	Version        int             `json:"version"`
	AdditionalInfo json.RawMessage `json:"additionalInfo"`
}

func ruleChainViewOf(ch *registry.Chain, tb *thingsboard.Chain) ruleChainView {
	v := ruleChainView{
		ID: entity{"RULE_CHAIN", ch.ID}, Created: ch.Begun.UnixMilli(), Tenant: entity{"TENANT", ch.Tenant}, Name: ch.Name, Type: thingsboard.Core,
		Root: ch.Root, DebugMode: tb.Head.DebugMode, Configuration: orNull(tb.Head.Configuration), Version: ch.Version,
		AdditionalInfo: orNull(tb.Head.AdditionalInfo),
	}
	m := &tb.Metadata
	if i := m.FirstNodeIndex; i != nil && *i >= 0 && *i < len(m.Nodes) && m.Nodes[*i].ID != nil {
		v.FirstRuleNode = &entity{"RULE_NODE", m.Nodes[*i].ID.ID}
	}
	return v
}

// ruleChain is a chain of the tenant in the version that runs (the latest if none does), and its form for ThingsBoard's clients.
func (s *server) ruleChain(ctx context.Context, who *auth.Principal, id uuid.UUID) (registry.Chain, thingsboard.Chain, error) {
	ch, err := s.dir.Chain(ctx, who.Tenant, id)
	if err != nil {
		return ch, thingsboard.Chain{}, err
	}
	tb, err := s.forThingsBoard(&ch)
	return ch, tb, err
}

func (s *server) forThingsBoard(ch *registry.Chain) (thingsboard.Chain, error) {
	tb, err := s.stored(ch).ThingsBoard(s.nodes, ch.ID)
	if err != nil {
		return tb, fmt.Errorf("reading chain %s: %w", ch.ID, err)
	}
	return tb, nil
}

// withRuleChain reads the id in the path and names it when it is not found.
func withRuleChain(c *gin.Context, do func(uuid.UUID) error) error {
	id, err := pathUUID(c, "ruleChainId")
	if err != nil {
		return err
	}
	return namedRuleChain(id, do(id))
}

func namedRuleChain(id uuid.UUID, err error) error {
	if errors.Is(err, registry.ErrNotFound) {
		return notFound("Rule chain", id)
	}
	return err
}

// keep checks a chain, stores it and lets it run at once, as ThingsBoard does. edited is the version that was edited, 0 if that
// was not said.
func (s *server) keep(ctx context.Context, who *auth.Principal, id uuid.UUID, edited int, tb thingsboard.Chain) (registry.Chain, error) {
	text, err := s.checked(tb)
	if err != nil {
		return registry.Chain{}, err
	}
	ch, err := s.dir.SaveChain(ctx, registry.Chain{
		ID: id, Tenant: who.Tenant, Version: edited, Name: tb.Head.Name, Definition: text, Format: thingsboard.Format, Author: who.Actor,
	})
	if err != nil || ch.Active {
		return ch, err
	}
	return s.dir.ActivateChain(ctx, who.Tenant, ch.ID, ch.Version)
}

// checked is the stored form of a chain that has no mistakes.
func (s *server) checked(tb thingsboard.Chain) ([]byte, error) {
	text, err := tb.Text()
	if err == nil {
		_, err = s.compiled(stored.Text{Format: thingsboard.Format, Body: text})
	}
	return text, asFaults(err)
}

// ruleChainBody is what a request may say of a chain's head.
type ruleChainBody struct {
	ID             idBody          `json:"id"`
	Name           string          `json:"name"`
	Type           string          `json:"type"`
	Root           bool            `json:"root"`
	DebugMode      bool            `json:"debugMode"`
	Configuration  json.RawMessage `json:"configuration"`
	AdditionalInfo json.RawMessage `json:"additionalInfo"`
	Version        int             `json:"version"`
}

func (b *ruleChainBody) head() thingsboard.Head {
	h := thingsboard.Head{Name: b.Name, Type: b.Type, DebugMode: b.DebugMode, Configuration: given(b.Configuration), AdditionalInfo: given(b.AdditionalInfo)}
	if h.Type == "" {
		h.Type = thingsboard.Core
	}
	return h
}

// saveRuleChain serves POST /api/ruleChain: a new chain without content, or another head for a known one.
func saveRuleChain(s *server, c *gin.Context, who *auth.Principal) error {
	var in ruleChainBody
	if err := s.readJSON(c, s.config.Body, &in); err != nil {
		return err
	}
	tb, known, id := thingsboard.Chain{}, registry.Chain{}, in.ID.UUID
	if id != uuid.Nil {
		var err error
		if known, tb, err = s.ruleChain(c.Request.Context(), who, id); err != nil {
			return namedRuleChain(id, err)
		}
	}
	if in.Root && !known.Root {
		return badBody(errors.New("root: use POST /api/ruleChain/{ruleChainId}/root to make a chain the root chain"))
	}
	tb.Head = in.head()
	ch, err := s.keep(c.Request.Context(), who, id, in.Version, tb)
	if err != nil {
		return namedRuleChain(id, err)
	}
	return writeValue(c, ruleChainViewOf(&ch, &tb))
}

// getRuleChain serves GET /api/ruleChain/{ruleChainId}.
func getRuleChain(s *server, c *gin.Context, who *auth.Principal) error {
	return withRuleChain(c, func(id uuid.UUID) error {
		ch, tb, err := s.ruleChain(c.Request.Context(), who, id)
		if err != nil {
			return err
		}
		return writeValue(c, ruleChainViewOf(&ch, &tb))
	})
}

// deleteRuleChain serves DELETE /api/ruleChain/{ruleChainId}.
func deleteRuleChain(s *server, c *gin.Context, who *auth.Principal) error {
	return withRuleChain(c, func(id uuid.UUID) error {
		if err := s.dir.DeleteChain(c.Request.Context(), who.Tenant, id); err != nil {
			return err
		}
		writeEmpty(c, http.StatusOK)
		return nil
	})
}

// makeRuleChainRoot serves POST /api/ruleChain/{ruleChainId}/root.
func makeRuleChainRoot(s *server, c *gin.Context, who *auth.Principal) error {
	return withRuleChain(c, func(id uuid.UUID) error {
		if err := s.dir.SetRoot(c.Request.Context(), who.Tenant, id); err != nil {
			return err
		}
		ch, tb, err := s.ruleChain(c.Request.Context(), who, id)
		if err != nil {
			return err
		}
		return writeValue(c, ruleChainViewOf(&ch, &tb))
	})
}

// makeDeviceRuleChain serves POST /api/ruleChain/device/default: a chain that does what the standard root chain does.
func makeDeviceRuleChain(s *server, c *gin.Context, who *auth.Principal) error {
	var in struct {
		Name string `json:"name"`
	}
	if err := s.readJSON(c, s.config.Body, &in); err != nil {
		return err
	}
	if strings.TrimSpace(in.Name) == "" {
		return badBody(errors.New("name: it is missing"))
	}
	id := s.newID()
	tb, err := stored.Text{Body: standard.Root}.ThingsBoard(s.nodes, id)
	if err != nil {
		return err
	}
	tb.Head.Name, tb.Head.AdditionalInfo = in.Name, json.RawMessage(`{"description":""}`)
	tb.Metadata.Settle(id, s.now().UnixMilli(), s.newID)
	ch, err := s.keep(c.Request.Context(), who, id, 0, tb)
	if err != nil {
		return err
	}
	return writeValue(c, ruleChainViewOf(&ch, &tb))
}
