package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/eventstore"
	"callchain/registry/auth"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
)

// callView is a call on the own paths: all that its events tell.
type callView struct {
	ID         uuid.UUID       `json:"id"`
	Device     uuid.UUID       `json:"deviceId"`
	Direction  string          `json:"direction"` // to_device, from_device
	Method     string          `json:"method"`
	Params     json.RawMessage `json:"params,omitempty"`
	Oneway     bool            `json:"oneway"`
	Persistent bool            `json:"persistent"`
	Phase      string          `json:"phase"`
	Status     string          `json:"status"` // as ThingsBoard would show it
	Code       rpc.Code        `json:"code,omitempty"`
	Detail     string          `json:"detail,omitempty"`
	Response   *rpc.Payload    `json:"response,omitempty"`
	Created    instant         `json:"created"`
	Queued     instant         `json:"queued,omitzero"`
	Expires    instant         `json:"expires"`
	Ended      instant         `json:"ended,omitzero"`
	Wire       *int32          `json:"wireId,omitempty"`
	Attempts   int16           `json:"attempts,omitempty"`
	Failures   int16           `json:"failures,omitempty"`
	Retries    *int            `json:"retries,omitempty"`
	Info       json.RawMessage `json:"additionalInfo,omitempty"`
	Removed    bool            `json:"removed,omitempty"`
	Version    int64           `json:"version"` // of the last event that is in it
}

func viewOf(call *projection.Call, wired bool) callView {
	st, b := &call.State, &call.Body
	v := callView{
		ID: st.ID, Device: call.Device, Direction: "to_device", Method: b.Method, Params: b.Params, Oneway: st.Oneway, Persistent: st.Persistent,
		Phase: st.Phase.String(), Status: st.Status.String(), Code: st.Reason, Detail: b.Error, Created: instant(st.Created), Queued: instant(st.QueuedAt),
		Expires: instant(st.Expires), Ended: instant(call.Ended), Attempts: st.Written, Failures: st.Failures, Retries: b.Retries, Info: b.Info,
		Removed: st.Removed, Version: call.Version,
	}
	if st.Direction == rpc.FromDevice {
		v.Direction = "from_device"
	}
	if wired {
		v.Wire = &st.Wire
	}
	if b.Response.Form != rpc.Empty {
		v.Response = &b.Response
	}
	return v
}

// marshal is encoding/json without the escapes for HTML, which nobody who reads an API wants.
func marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encoding an answer: %w", err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte{'\n'}), nil
}

// The bounds of one call's history in an answer. A call has a handful of events; one that a device keeps answering has more.
const (
	historyPage = 500
	historyMax  = 10_000
)

// history reads the events of a call of the tenant with versions greater than after; a 404 if there is no such call.
func (s *server) history(ctx context.Context, who *auth.Principal, id uuid.UUID, after int64) ([]eventstore.Event, error) {
	stream := projection.CallStream(who.Tenant, id)
	var all []eventstore.Event
	for len(all) < historyMax {
		page, err := s.store.Stream(ctx, stream, after, historyPage)
		if err != nil {
			return nil, fmt.Errorf("reading stream %s: %w", stream, err)
		}
		all = append(all, page...)
		if len(page) < historyPage {
			break
		}
		after = page[len(page)-1].Version
	}
	return all, nil
}

// readHistory is history from the beginning, for somebody who may read it.
func (s *server) readHistory(c *gin.Context, who *auth.Principal) (uuid.UUID, []eventstore.Event, error) {
	id, err := pathUUID(c, "callId")
	if err != nil {
		return id, nil, err
	}
	events, err := s.history(c.Request.Context(), who, id, 0)
	if err != nil {
		return id, nil, err
	}
	if len(events) == 0 {
		return id, nil, notFound("Call", id)
	}
	if err := s.mayRead(c.Request.Context(), who, events[0].Device); err != nil {
		return id, nil, err
	}
	c.Writer.Header()[headerCall] = []string{id.String()}
	return id, events, nil
}

// fold is the state of a call after events of its stream, from the first one on.
func fold(events []eventstore.Event) (projection.Call, error) {
	var call projection.Call
	for i := range events {
		if err := foldOne(&call, &events[i]); err != nil {
			return call, err
		}
	}
	return call, nil
}

func foldOne(call *projection.Call, e *eventstore.Event) error {
	if err := call.Fold(e, rpc.Settings{}); err != nil {
		return fmt.Errorf("folding %s at version %d: %w", e.Stream, e.Version, err)
	}
	return nil
}

// getCall serves GET /api/rpc/calls/{callId}, now, ?at=time or ?version=n.
func getCall(s *server, c *gin.Context, who *auth.Principal) error {
	at, err := optionalTime(c, "at")
	if err != nil {
		return err
	}
	upTo, err := optionalInt(c, "version", 1, 0)
	if err != nil {
		return err
	}
	id, events, err := s.readHistory(c, who)
	if err != nil {
		return err
	}
	events = asOf(events, at, int64(upTo))
	if len(events) == 0 {
		return notFound("Call", id).because("it did not exist yet at the time asked for")
	}
	return writeCall(c, events)
}

// asOf are the events that had happened at a time and up to a version; zero values do not restrict.
func asOf(events []eventstore.Event, at time.Time, version int64) []eventstore.Event {
	n := 0
	for n < len(events) && (at.IsZero() || events[n].At <= at.UnixMicro()) && (version == 0 || events[n].Version <= version) {
		n++
	}
	return events[:n]
}

func writeCall(c *gin.Context, events []eventstore.Event) error {
	call, err := fold(events)
	if err != nil {
		return err
	}
	return writeValue(c, viewOf(&call, call.State.QueuedAt != 0))
}

// getCallEvents serves GET /api/rpc/calls/{callId}/events.
func getCallEvents(s *server, c *gin.Context, who *auth.Principal) error {
	_, events, err := s.readHistory(c, who)
	if err != nil {
		return err
	}
	views := make([]projection.Event, len(events))
	for i := range events {
		views[i] = projection.EventOf(&events[i])
	}
	return writeValue(c, views)
}

// cancelCall serves POST /api/rpc/calls/{callId}/cancel and answers the state after it.
func cancelCall(s *server, c *gin.Context, who *auth.Principal) error {
	id, _, err := s.readHistory(c, who)
	if err != nil {
		return err
	}
	if err := s.engine.Cancel(c.Request.Context(), who.Tenant, id, who.Actor); err != nil {
		return answerTo(err).with(id)
	}
	_, events, err := s.readHistory(c, who)
	if err != nil {
		return err
	}
	return writeCall(c, events)
}

// callsPage are the bounds of a page of calls on the own path.
const (
	callsPagePreset = 100
	callsPageMax    = 1000
)

// callsView is a page of calls; next leads to the one after it.
type callsView struct {
	Data []callView `json:"data"`
	Next string     `json:"next,omitempty"`
}

// listCalls serves GET /api/rpc/calls, newest first. A page is asked for by number, or by "before": the "next" of the page
// before it, which neither skips nor repeats when calls are added meanwhile.
func listCalls(s *server, c *gin.Context, who *auth.Principal) error {
	q, err := callsQuery(c, who)
	if err != nil {
		return err
	}
	if err := s.mayList(c, who); err != nil {
		return err
	}
	rows, err := s.callRows(c.Request.Context(), q, c.Query("before"))
	if err != nil {
		return err
	}
	views := make([]callView, len(rows))
	wire := projection.Calls.Index("wire")
	for i, row := range rows {
		call, err := projection.ReadCall(row)
		if err != nil {
			return err
		}
		views[i] = viewOf(&call, row[wire] != nil)
	}
	next := ""
	if len(rows) == q.Limit {
		last := views[len(views)-1]
		next = strconv.FormatInt(int64(last.Created), 10) + "_" + last.ID.String()
	}
	return writeValue(c, callsView{views, next})
}

// mayList: users of a customer list the calls of one of their devices.
func (s *server) mayList(c *gin.Context, who *auth.Principal) error {
	device, err := optionalUUID(c, "deviceId")
	if err != nil {
		return err
	}
	return s.mayRead(c.Request.Context(), who, device)
}

func callsQuery(c *gin.Context, who *auth.Principal) (eventstore.Query, error) {
	q := eventstore.Query{
		Table: projection.Calls, Where: []eventstore.Cond{{Column: "tenant", Op: eventstore.Eq, Value: who.Tenant}},
		Order: []eventstore.Order{{Column: "created", Desc: true}, {Column: "id", Desc: true}},
	}
	where := func(column string, op eventstore.Op, value any) {
		q.Where = append(q.Where, eventstore.Cond{Column: column, Op: op, Value: value})
	}
	device, err := optionalUUID(c, "deviceId")
	if err != nil {
		return q, err
	}
	if device != uuid.Nil {
		where("device", eventstore.Eq, device)
	}
	if method := c.Query("method"); method != "" {
		where("method", eventstore.Eq, method)
	}
	if name := c.Query("status"); name != "" {
		column, value, err := statusColumn(name)
		if err != nil {
			return q, err
		}
		where(column, eventstore.Eq, value)
	}
	if err := callsRange(c, where); err != nil {
		return q, err
	}
	return pagedCalls(c, q)
}

// statusColumn takes ThingsBoard's names in capitals and the phases in small letters.
func statusColumn(name string) (column, value string, err error) {
	if _, ok := rpc.ParseStatus(name); ok {
		return "status", name, nil
	}
	if rpc.ParsePhase(name) != rpc.PhaseNone {
		return "phase", name, nil
	}
	return "", "", badQuery("status", "must be a status like SUCCESSFUL or a phase like succeeded, is '%s'", clip(name, 40))
}

func callsRange(c *gin.Context, where func(string, eventstore.Op, any)) error {
	from, err := optionalTime(c, "from")
	if err != nil {
		return err
	}
	if !from.IsZero() {
		where("created", eventstore.Ge, from.UnixMicro())
	}
	to, err := optionalTime(c, "to")
	if err != nil {
		return err
	}
	if !to.IsZero() {
		where("created", eventstore.Lt, to.UnixMicro())
	}
	persistent, err := optionalBool(c, "persistent")
	if err != nil {
		return err
	}
	if persistent != nil {
		where("persistent", eventstore.Eq, *persistent)
	}
	return nil
}

func pagedCalls(c *gin.Context, q eventstore.Query) (eventstore.Query, error) {
	size, err := optionalInt(c, "pageSize", 1, callsPagePreset)
	if err != nil {
		return q, err
	}
	if size > callsPageMax {
		return q, badQuery("pageSize", "must be at most %d, is %d", callsPageMax, size)
	}
	page, err := optionalInt(c, "page", 0, 0)
	if err != nil {
		return q, err
	}
	q.Limit, q.Offset = size, size*page
	return q, nil
}

// callRows reads a page: by offset, or behind a key (created, id).
func (s *server) callRows(ctx context.Context, q eventstore.Query, before string) ([][]any, error) {
	if before == "" {
		return s.store.Rows(ctx, q)
	}
	at, tail, ok := strings.Cut(before, "_")
	created, err := strconv.ParseInt(at, 10, 64)
	if !ok || err != nil {
		return nil, badQuery("before", `must be the "next" of a page`)
	}
	id, err := parseUUID(tail)
	if err != nil {
		return nil, badQuery("before", `must be the "next" of a page`)
	}
	q.Offset = 0
	where := q.Where[:len(q.Where):len(q.Where)]
	same := q
	same.Where = append(where, eventstore.Cond{Column: "created", Op: eventstore.Eq, Value: created}, eventstore.Cond{Column: "id", Op: eventstore.Lt, Value: id})
	rows, err := s.store.Rows(ctx, same)
	if err != nil || len(rows) == q.Limit {
		return rows, err
	}
	older := q
	older.Where = append(where, eventstore.Cond{Column: "created", Op: eventstore.Lt, Value: created})
	older.Limit = q.Limit - len(rows)
	more, err := s.store.Rows(ctx, older)
	return append(rows, more...), err
}
