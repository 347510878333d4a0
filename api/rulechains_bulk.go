package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"callchain/chains"
	"callchain/chains/stored"
	"callchain/chains/thingsboard"
	"callchain/registry"
	"callchain/registry/auth"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
)

// listRuleChains serves GET /api/ruleChains. Of ?type= EDGE there are none.
func listRuleChains(s *server, c *gin.Context, who *auth.Principal) error {
	p, err := askedPage(c)
	if err != nil {
		return err
	}
	p.Size = min(p.Size, listMax)
	if kind := c.Query("type"); kind != "" && kind != thingsboard.Core {
		return writePage(c, p, 0, nil, func(v *ruleChainView) any { return v })
	}
	list, total, err := s.dir.Chains(c.Request.Context(), who.Tenant, p)
	if err != nil {
		return err
	}
	views, err := s.ruleChainViews(list)
	if err != nil {
		return err
	}
	return writePage(c, p, total, views, func(v *ruleChainView) any { return v })
}

func (s *server) ruleChainViews(list []registry.Chain) ([]ruleChainView, error) {
	views := make([]ruleChainView, len(list))
	for i := range list {
		tb, err := s.forThingsBoard(&list[i])
		if err != nil {
			return nil, err
		}
		views[i] = ruleChainViewOf(&list[i], &tb)
	}
	return views, nil
}

// namedRuleChains serves GET /api/ruleChains/list?ruleChainIds=a,b; ids that name nothing are left out.
func namedRuleChains(s *server, c *gin.Context, who *auth.Principal) error {
	names := strings.Split(c.Query("ruleChainIds"), ",")
	if len(names) > listMax {
		return badQuery("ruleChainIds", "there are %d, more than %d", len(names), listMax)
	}
	list := []registry.Chain{}
	for _, name := range names {
		id, err := parseUUID(strings.TrimSpace(name))
		if err != nil {
			return err
		}
		ch, err := s.dir.Chain(c.Request.Context(), who.Tenant, id)
		if errors.Is(err, registry.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		list = append(list, ch)
	}
	views, err := s.ruleChainViews(list)
	if err != nil {
		return err
	}
	return writeValue(c, views)
}

// ruleChainsView is ThingsBoard's RuleChainData: many chains, and what is in them.
type ruleChainsView struct {
	Chains   []ruleChainView        `json:"ruleChains"`
	Metadata []thingsboard.Metadata `json:"metadata"`
}

// exportRuleChains serves GET /api/ruleChains/export?limit=.
func exportRuleChains(s *server, c *gin.Context, who *auth.Principal) error {
	limit, err := askedInt(c, "limit", 1)
	if err != nil {
		return err
	}
	list, _, err := s.dir.Chains(c.Request.Context(), who.Tenant, registry.Page{Size: min(limit, listMax)})
	if err != nil {
		return err
	}
	out := ruleChainsView{Chains: []ruleChainView{}, Metadata: []thingsboard.Metadata{}}
	for i := range list {
		tb, err := s.forThingsBoard(&list[i])
		if err != nil {
			return err
		}
		out.Chains = append(out.Chains, ruleChainViewOf(&list[i], &tb))
		out.Metadata = append(out.Metadata, metadataOf(&list[i], tb.Metadata))
	}
	return writeValue(c, out)
}

// importedView is ThingsBoard's RuleChainImportResult.
type importedView struct {
	Tenant  entity  `json:"tenantId"`
	Chain   entity  `json:"ruleChainId"`
	Name    string  `json:"ruleChainName"`
	Updated bool    `json:"updated"`
	Error   *string `json:"error"`
}

// arrival is a chain on its way in.
type arrival struct {
	id      uuid.UUID
	chain   thingsboard.Chain
	updated bool
}

// importRuleChains serves POST /api/ruleChains/import?overwrite=: the chains of any export of ThingsBoard. With overwrite a chain
// takes the place of one with the same name. All are checked before the first is stored.
func importRuleChains(s *server, c *gin.Context, who *auth.Principal) error {
	overwrite, err := optionalBool(c, "overwrite")
	if err != nil {
		return err
	}
	b, err := s.readBody(c, s.config.Body)
	if err != nil {
		return err
	}
	defer b.release()
	list, err := thingsboard.ReadExport("", b.bytes)
	if err != nil {
		return asFaults(err)
	}
	arrivals, err := s.arrivals(c.Request.Context(), who, list, overwrite != nil && *overwrite)
	if err != nil {
		return err
	}
	if err := s.checkArrivals(arrivals); err != nil {
		return err
	}
	out := []importedView{}
	for _, a := range arrivals {
		ch, err := s.keep(c.Request.Context(), who, a.id, 0, a.chain)
		if err != nil {
			return err
		}
		out = append(out, importedView{Tenant: entity{"TENANT", who.Tenant}, Chain: entity{"RULE_CHAIN", ch.ID}, Name: ch.Name, Updated: a.updated})
	}
	return writeValue(c, out)
}

// arrivals gives each chain an id, and leads the nodes that go from one of them to another to the new ids.
func (s *server) arrivals(ctx context.Context, who *auth.Principal, list []thingsboard.Chain, overwrite bool) ([]arrival, error) {
	known := map[string]uuid.UUID{}
	if overwrite {
		present, _, err := s.dir.Chains(ctx, who.Tenant, registry.Page{Size: listMax, Sort: "createdTime", Desc: true})
		if err != nil {
			return nil, err
		}
		for i := range present {
			known[present[i].Name] = present[i].ID // of several the oldest
		}
	}
	out, ids := make([]arrival, len(list)), map[uuid.UUID]uuid.UUID{}
	for i, chain := range list {
		id, found := known[chain.Head.Name]
		if !found {
			id = s.newID()
		}
		if was := cameAs(&chain); was != uuid.Nil {
			ids[was] = id
		}
		chain.Head.ID = nil
		out[i] = arrival{id, chain, found}
	}
	for i := range out {
		m := &out[i].chain.Metadata
		m.Retarget(ids)
		if !out[i].updated {
			m.Nodes = withoutIDs(m.Nodes)
		}
		m.Settle(out[i].id, s.now().UnixMilli(), s.newID)
	}
	return out, nil
}

// cameAs is the id that a chain has in its file.
func cameAs(c *thingsboard.Chain) uuid.UUID {
	switch {
	case c.Head.ID != nil:
		return c.Head.ID.ID
	case c.Metadata.RuleChainID != nil:
		return c.Metadata.RuleChainID.ID
	}
	return uuid.Nil
}

// withoutIDs makes nodes new ones: those that they were copied from may be here, too.
func withoutIDs(list []thingsboard.Node) []thingsboard.Node {
	list = slices.Clone(list)
	for i := range list {
		list[i].ID, list[i].CreatedTime = nil, 0
	}
	return list
}

// checkArrivals tells the mistakes of all chains at once, each with the chain's name for its file.
func (s *server) checkArrivals(list []arrival) error {
	var all chains.Problems
	for _, a := range list {
		text, err := a.chain.Text()
		if err == nil {
			_, err = stored.Text{File: a.chain.Head.Name, Format: thingsboard.Format, Body: text}.Compile(s.nodes, a.id, 1)
		}
		var problems chains.Problems
		if err != nil && !errors.As(err, &problems) {
			return fmt.Errorf("checking the chain %q: %w", a.chain.Head.Name, err)
		}
		all = append(all, problems...)
	}
	if len(all) > 0 {
		return faultsError(all)
	}
	return nil
}
