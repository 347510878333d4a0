package api

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"callchain/engine/projection"
	"callchain/eventstore"
	"callchain/registry"
	"callchain/registry/auth"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
)

// traceRoutes: what rule nodes did with messages, in our own form and in ThingsBoard's (EventController).
var traceRoutes = []route{
	{"GET", "/api/traces", tenantAdmins, listTraces, ordinary},
	{"GET", "/api/events/:entityType/:entityId", tenantAdmins, listRuleEvents, ordinary},
	{"GET", "/api/events/:entityType/:entityId/:eventType", tenantAdmins, listRuleEvents, ordinary},
	{"POST", "/api/events/:entityType/:entityId", tenantAdmins, filterRuleEvents, ordinary},
	{"GET", "/api/ruleNode/:ruleNodeId/debugIn", tenantAdmins, lastInput, ordinary},
}

// traceView is a message that a rule node got (IN) or sent on (OUT).
type traceView struct {
	ID        uuid.UUID         `json:"id"`
	At        instant           `json:"at"`
	Node      uuid.UUID         `json:"nodeId"`
	NodeName  string            `json:"nodeName"`
	Chain     uuid.UUID         `json:"chainId"`
	Version   int               `json:"chainVersion"`
	Direction string            `json:"direction"`
	Message   uuid.UUID         `json:"messageId"`
	Call      uuid.UUID         `json:"callId,omitzero"`
	Entity    entity            `json:"originator"`
	Type      string            `json:"type"`
	Relation  string            `json:"relation,omitempty"`
	Data      string            `json:"data"`
	Metadata  map[string]string `json:"metadata"`
	Error     string            `json:"error,omitempty"`
}

func traceViewOf(t *projection.Trace) traceView {
	return traceView{
		ID: t.ID, At: instant(t.At), Node: t.Node, NodeName: t.Body.Name, Chain: t.Body.Chain, Version: t.Body.Version, Direction: t.Direction,
		Message: t.Message, Call: t.Call, Entity: entity{t.Body.EntityType, t.Body.Entity}, Type: t.Body.Type, Relation: t.Body.Relation, Data: t.Body.Data,
		Metadata: t.Body.Metadata, Error: t.Body.Error,
	}
}

// tracesOf selects the tenant's traces that are not too old.
func (s *server) tracesOf(tenant uuid.UUID) eventstore.Query {
	q := eventstore.Query{
		Table: projection.Traces, Where: []eventstore.Cond{{Column: "tenant", Op: eventstore.Eq, Value: tenant}},
		Order: []eventstore.Order{{Column: "at", Desc: true}, {Column: "id", Desc: true}},
	}
	if s.config.Traces > 0 {
		q.Where = append(q.Where, eventstore.Cond{Column: "at", Op: eventstore.Ge, Value: s.now().Add(-s.config.Traces).UnixMicro()})
	}
	return q
}

// listTraces serves GET /api/traces?messageId=&callId=&nodeId=&from=&to=&pageSize=&page=, the newest first.
func listTraces(s *server, c *gin.Context, who *auth.Principal) error {
	size, err := optionalInt(c, "pageSize", 1, callsPagePreset)
	if err != nil {
		return err
	}
	number, err := optionalInt(c, "page", 0, 0)
	if err != nil {
		return err
	}
	q := s.tracesOf(who.Tenant)
	for parameter, column := range map[string]string{"messageId": "message", "callId": "call", "nodeId": "node"} {
		id, err := optionalUUID(c, parameter)
		if err != nil {
			return err
		}
		if id != uuid.Nil {
			q.Where = append(q.Where, eventstore.Cond{Column: column, Op: eventstore.Eq, Value: id})
		}
	}
	if err := within(c, &q, "from", "to"); err != nil {
		return err
	}
	p := registry.Page{Size: min(size, callsPageMax), Number: number}
	list, total, err := s.traces(c.Request.Context(), q, p)
	if err != nil {
		return err
	}
	return writePage(c, p, total, list, func(t *projection.Trace) any { return traceViewOf(t) })
}

// within adds the bounds of a time.
func within(c *gin.Context, q *eventstore.Query, from, to string) error {
	for _, bound := range []struct {
		name string
		op   eventstore.Op
	}{{from, eventstore.Ge}, {to, eventstore.Le}} {
		at, err := optionalTime(c, bound.name)
		if err != nil {
			return err
		}
		if !at.IsZero() {
			q.Where = append(q.Where, eventstore.Cond{Column: "at", Op: bound.op, Value: at.UnixMicro()})
		}
	}
	return nil
}

// traces is a page of what a query selects, and how many there are.
func (s *server) traces(ctx context.Context, q eventstore.Query, p registry.Page) ([]projection.Trace, int, error) {
	total, err := s.store.Count(ctx, q)
	if err != nil {
		return nil, 0, err
	}
	q.Limit, q.Offset = p.Size, p.Size*p.Number
	rows, err := s.store.Rows(ctx, q)
	if err != nil {
		return nil, 0, err
	}
	out := make([]projection.Trace, len(rows))
	for i, r := range rows {
		if out[i], err = projection.ReadTrace(r); err != nil {
			return nil, 0, err
		}
	}
	return out, int(total), nil
}

// ruleEventView is ThingsBoard's EventInfo of a RuleNodeDebugEvent.
type ruleEventView struct {
	ID      entityID      `json:"id"`
	Created int64         `json:"createdTime"`
	Tenant  entity        `json:"tenantId"`
	Type    string        `json:"type"`
	UID     string        `json:"uid"`
	Entity  entity        `json:"entityId"`
	Body    ruleEventBody `json:"body"`
}

type ruleEventBody struct {
	Server     string    `json:"server"`
	Type       string    `json:"type"` // IN or OUT
	Entity     uuid.UUID `json:"entityId"`
	EntityType string    `json:"entityType"`
	Message    uuid.UUID `json:"msgId"`
	MsgType    string    `json:"msgType"`
	DataType   string    `json:"dataType"`
	Relation   string    `json:"relationType"`
	Data       string    `json:"data"`
	Metadata   string    `json:"metadata"`
	Error      *string   `json:"error,omitempty"`
}

// The words of ThingsBoard's events that there are here.
const (
	ruleNodeEntity = "RULE_NODE"
	ruleNodeEvent  = "DEBUG_RULE_NODE"
)

func ruleEventOf(t *projection.Trace) (ruleEventView, error) {
	metadata, err := marshal(t.Body.Metadata)
	if err != nil {
		return ruleEventView{}, err
	}
	v := ruleEventView{
		ID: entityID{t.ID.String()}, Created: t.At / 1000, Tenant: entity{"TENANT", t.Tenant}, Type: ruleNodeEvent, UID: t.ID.String(),
		Entity: entity{ruleNodeEntity, t.Node}, Body: ruleEventBody{
			Type: t.Direction, Entity: t.Body.Entity, EntityType: t.Body.EntityType, Message: t.Message, MsgType: t.Body.Type, DataType: "JSON",
			Relation: t.Body.Relation, Data: t.Body.Data, Metadata: string(metadata),
		},
	}
	if t.Body.Error != "" {
		v.Body.Error = &t.Body.Error
	}
	return v, nil
}

// ruleEventFilter is ThingsBoard's RuleNodeDebugEventFilter. Texts are found in any case.
type ruleEventFilter struct {
	EventType string `json:"eventType"`
	Direction string `json:"msgDirectionType"`
	Entity    string `json:"entityId"`
	Message   string `json:"msgId"`
	Type      string `json:"msgType"`
	Relation  string `json:"relationType"`
	Data      string `json:"dataSearch"`
	Metadata  string `json:"metadataSearch"`
	IsError   bool   `json:"isError"`
	Error     string `json:"errorStr"`
}

func (f *ruleEventFilter) empty() bool { return *f == ruleEventFilter{EventType: f.EventType} }

func (f *ruleEventFilter) takes(v *ruleEventView) bool {
	text := ""
	if v.Body.Error != nil {
		text = *v.Body.Error
	}
	for _, pair := range [][2]string{
		{f.Direction, v.Body.Type},
		{f.Entity, v.Body.Entity.String()},
		{f.Message, v.Body.Message.String()},
		{f.Type, v.Body.MsgType},
		{f.Relation, v.Body.Relation},
		{f.Data, v.Body.Data},
		{f.Metadata, v.Body.Metadata},
		{f.Error, text},
	} {
		if !strings.Contains(strings.ToLower(pair[1]), strings.ToLower(pair[0])) {
			return false
		}
	}
	return !f.IsError || text != ""
}

// listRuleEvents serves GET /api/events/{entityType}/{entityId}[/{eventType}]?pageSize=&page=&startTime=&endTime=&sortOrder=. There are
// debug events of rule nodes only; of all else there are none.
func listRuleEvents(s *server, c *gin.Context, who *auth.Principal) error {
	kind := cmp.Or(c.Param("eventType"), ruleNodeEvent)
	return s.writeRuleEvents(c, who, ruleEventFilter{EventType: kind})
}

// filterRuleEvents serves POST /api/events/{entityType}/{entityId}: the same with a filter in the body.
func filterRuleEvents(s *server, c *gin.Context, who *auth.Principal) error {
	var f ruleEventFilter
	if err := s.readJSON(c, s.config.Body, &f); err != nil {
		return err
	}
	return s.writeRuleEvents(c, who, f)
}

// eventsFiltered is how many of the newest events of a node a filter looks at.
const eventsFiltered = 2000

func (s *server) writeRuleEvents(c *gin.Context, who *auth.Principal, f ruleEventFilter) error {
	p, err := askedPage(c)
	if err != nil {
		return err
	}
	p.Size = min(p.Size, listMax)
	id, err := pathUUID(c, "entityId")
	if err != nil {
		return err
	}
	if c.Param("entityType") != ruleNodeEntity || f.EventType != ruleNodeEvent {
		return writePage(c, p, 0, nil, func(v *ruleEventView) any { return v })
	}
	q := s.tracesOf(who.Tenant)
	q.Where = append(q.Where, eventstore.Cond{Column: "node", Op: eventstore.Eq, Value: id})
	if p.Sort != "" && !p.Desc {
		q.Order = []eventstore.Order{{Column: "at"}, {Column: "id"}}
	}
	if err := within(c, &q, "startTime", "endTime"); err != nil {
		return err
	}
	views, total, err := s.ruleEvents(c.Request.Context(), q, p, &f)
	if err != nil {
		return err
	}
	return writePage(c, p, total, views, func(v *ruleEventView) any { return v })
}

// ruleEvents is a page of events. A filter looks at the newest only, and in memory: it knows words in texts.
func (s *server) ruleEvents(ctx context.Context, q eventstore.Query, p registry.Page, f *ruleEventFilter) ([]ruleEventView, int, error) {
	read := p
	if !f.empty() {
		read = registry.Page{Size: eventsFiltered}
	}
	list, total, err := s.traces(ctx, q, read)
	if err != nil {
		return nil, 0, err
	}
	views := make([]ruleEventView, len(list))
	for i := range list {
		if views[i], err = ruleEventOf(&list[i]); err != nil {
			return nil, 0, err
		}
	}
	if f.empty() {
		return views, total, nil
	}
	views = slices.DeleteFunc(views, func(v ruleEventView) bool { return !f.takes(&v) })
	from := min(len(views), p.Size*p.Number)
	return views[from:min(len(views), from+p.Size)], len(views), nil
}

// lastInput serves GET /api/ruleNode/{ruleNodeId}/debugIn: the newest message that the node got, for trying a script with it.
func lastInput(s *server, c *gin.Context, who *auth.Principal) error {
	id, err := pathUUID(c, "ruleNodeId")
	if err != nil {
		return err
	}
	q := s.tracesOf(who.Tenant)
	q.Where = append(q.Where, eventstore.Cond{Column: "node", Op: eventstore.Eq, Value: id},
		eventstore.Cond{Column: "direction", Op: eventstore.Eq, Value: projection.TraceIn})
	list, _, err := s.traces(c.Request.Context(), q, registry.Page{Size: 1})
	if err != nil {
		return err
	}
	if len(list) == 0 {
		writeJSON(c, http.StatusOK, json.RawMessage("null"))
		return nil
	}
	v, err := ruleEventOf(&list[0])
	if err != nil {
		return err
	}
	return writeValue(c, v.Body)
}
