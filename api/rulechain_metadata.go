package api

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"callchain/chains"
	"callchain/chains/thingsboard"
	"callchain/registry"
	"callchain/registry/auth"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
)

// asFaults makes a 400 of mistakes in a chain.
func asFaults(err error) error {
	var problems chains.Problems
	if errors.As(err, &problems) {
		return faultsError(problems)
	}
	return err
}

// getRuleChainMetadata serves GET /api/ruleChain/{ruleChainId}/metadata: what is in a chain, as it was written.
func getRuleChainMetadata(s *server, c *gin.Context, who *auth.Principal) error {
	return withRuleChain(c, func(id uuid.UUID) error {
		ch, tb, err := s.ruleChain(c.Request.Context(), who, id)
		if err != nil {
			return err
		}
		return writeValue(c, metadataOf(&ch, tb.Metadata))
	})
}

// metadataOf leaves nothing null: ThingsBoard's generated clients refuse that, although its server sends it.
func metadataOf(ch *registry.Chain, m thingsboard.Metadata) thingsboard.Metadata {
	version := int64(ch.Version)
	m.RuleChainID, m.Version = thingsboard.ChainID(ch.ID), &version
	if m.FirstNodeIndex == nil {
		nowhere := -1
		m.FirstNodeIndex = &nowhere
	}
	if m.RuleChainConnections == nil {
		m.RuleChainConnections = []thingsboard.ChainConnection{}
	}
	if m.Nodes == nil {
		m.Nodes = []thingsboard.Node{}
	}
	if m.Connections == nil {
		m.Connections = []thingsboard.Connection{}
	}
	return m
}

// saveRuleChainMetadata serves POST /api/ruleChain/metadata?updateRelated=: a new version of the chain, which runs at once. Unless told
// otherwise, the connections of other chains follow when an output node is renamed.
func saveRuleChainMetadata(s *server, c *gin.Context, who *auth.Principal) error {
	var in thingsboard.Metadata
	if err := s.readJSON(c, s.config.Body, &in); err != nil {
		return err
	}
	follow, err := optionalBool(c, "updateRelated")
	if err != nil {
		return err
	}
	if in.RuleChainID == nil || in.RuleChainID.ID == uuid.Nil {
		return badBody(errors.New("ruleChainId: it is missing"))
	}
	id, edited := in.RuleChainID.ID, 0
	_, tb, err := s.ruleChain(c.Request.Context(), who, id)
	if err != nil {
		return namedRuleChain(id, err)
	}
	if in.Version != nil {
		edited = int(*in.Version)
	}
	in.Settle(id, s.now().UnixMilli(), s.newID)
	renamed := tb.Metadata.Renamed(&in)
	tb.Metadata = in
	ch, err := s.keep(c.Request.Context(), who, id, edited, tb)
	if err != nil {
		return namedRuleChain(id, err)
	}
	if len(renamed) > 0 && (follow == nil || *follow) {
		if err := s.relabel(c.Request.Context(), who, id, renamed); err != nil {
			return err
		}
	}
	return writeValue(c, metadataOf(&ch, tb.Metadata))
}

// relabel lets the chains that lead into one follow its renamed output nodes. A chain that was written as YAML or JSON stays as its
// author wrote it.
func (s *server) relabel(ctx context.Context, who *auth.Principal, chain uuid.UUID, renamed map[string]string) error {
	list, _, err := s.dir.Chains(ctx, who.Tenant, registry.Page{Size: listMax, Sort: "name"})
	if err != nil {
		return err
	}
	for i := range list {
		ch := &list[i]
		if ch.Format != thingsboard.Format || ch.ID == chain {
			continue
		}
		tb, err := s.forThingsBoard(ch)
		if err != nil {
			return err
		}
		if !tb.Metadata.Relabel(chain, renamed) {
			continue
		}
		if _, err := s.keep(ctx, who, ch.ID, ch.Version, tb); err != nil {
			return fmt.Errorf("renaming the connections of the rule chain %q: %w", ch.Name, err)
		}
	}
	return nil
}

// ruleChainLabels serves GET /api/ruleChain/{ruleChainId}/output/labels: the relations along which the chain goes back.
func ruleChainLabels(s *server, c *gin.Context, who *auth.Principal) error {
	return withRuleChain(c, func(id uuid.UUID) error {
		_, tb, err := s.ruleChain(c.Request.Context(), who, id)
		if err != nil {
			return err
		}
		return writeValue(c, tb.Metadata.Labels())
	})
}

// labelUsageView is ThingsBoard's RuleChainOutputLabelsUsage: a node of another chain that leads into this one, and the relations
// that are connected behind it.
type labelUsageView struct {
	Chain     entity   `json:"ruleChainId"`
	Node      entity   `json:"ruleNodeId"`
	ChainName string   `json:"ruleChainName"`
	NodeName  string   `json:"ruleNodeName"`
	Labels    []string `json:"labels"`
}

// ruleChainLabelUsage serves GET /api/ruleChain/{ruleChainId}/output/labels/usage.
func ruleChainLabelUsage(s *server, c *gin.Context, who *auth.Principal) error {
	return withRuleChain(c, func(id uuid.UUID) error {
		_, tb, err := s.ruleChain(c.Request.Context(), who, id)
		if err != nil {
			return err
		}
		list, _, err := s.dir.Chains(c.Request.Context(), who.Tenant, registry.Page{Size: listMax, Sort: "name"})
		if err != nil {
			return err
		}
		out := []labelUsageView{}
		for i := range list {
			other, err := s.forThingsBoard(&list[i])
			if err != nil {
				return err
			}
			out = append(out, usage(&list[i], &other.Metadata, id, tb.Metadata.Labels())...)
		}
		return writeValue(c, out)
	})
}

func usage(ch *registry.Chain, m *thingsboard.Metadata, target uuid.UUID, labels []string) []labelUsageView {
	var out []labelUsageView
	for i, n := range m.Nodes {
		if n.Target() != target || n.ID == nil {
			continue
		}
		v := labelUsageView{Chain: entity{"RULE_CHAIN", ch.ID}, Node: entity{"RULE_NODE", n.ID.ID}, ChainName: ch.Name, NodeName: n.Name, Labels: []string{}}
		for _, x := range m.Connections {
			if x.FromIndex == i && slices.Contains(labels, x.Type) && !slices.Contains(v.Labels, x.Type) {
				v.Labels = append(v.Labels, x.Type)
			}
		}
		if len(v.Labels) > 0 {
			slices.Sort(v.Labels)
			out = append(out, v)
		}
	}
	return out
}
