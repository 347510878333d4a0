package api

import (
	"bytes"
	"context"
	"net/http"
	"slices"

	"callchain/api/jackson"
	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/eventstore"
	"callchain/registry"
	"callchain/registry/auth"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
)

// pageRows is how many rows of calls one answer may hold: the bound on memory. A larger page is refused, not cut, when there are
// more rows than that.
const pageRows = 10_000

// getPersistent serves GET /api/rpc/persistent/{rpcId} (RpcV2Controller.getPersistedRpc).
func getPersistent(s *server, c *gin.Context, who *auth.Principal) error {
	id, err := pathUUID(c, "rpcId")
	if err != nil {
		return err
	}
	call, err := s.persistentCall(c.Request.Context(), who, id)
	if err != nil {
		return err
	}
	out, err := appendRecord(nil, call)
	if err != nil {
		return err
	}
	c.Writer.Header()[headerCall] = []string{id.String()}
	writeJSON(c, http.StatusOK, out)
	return nil
}

// deletePersistent serves DELETE /api/rpc/persistent/{rpcId}: the call ends if it is open, and is hidden.
func deletePersistent(s *server, c *gin.Context, who *auth.Principal) error {
	id, err := pathUUID(c, "rpcId")
	if err != nil {
		return err
	}
	if _, err := s.persistentCall(c.Request.Context(), who, id); err != nil {
		return err
	}
	if err := s.engine.Remove(c.Request.Context(), who.Tenant, id, who.Actor); err != nil {
		if e := answerTo(err); e.status == http.StatusNotFound {
			return notFound("Rpc", id)
		}
		return err
	}
	c.Writer.Header()[headerCall] = []string{id.String()}
	writeEmpty(c, http.StatusOK)
	return nil
}

// persistentCall is a call that the compatible paths show. ThingsBoard lets a user of a customer read any call of the tenant; here
// the device must be the customer's.
func (s *server) persistentCall(ctx context.Context, who *auth.Principal, id uuid.UUID) (*projection.Call, error) {
	rows, err := s.store.Rows(ctx, eventstore.Query{Table: projection.Calls, Limit: 1, Where: []eventstore.Cond{
		{Column: "tenant", Op: eventstore.Eq, Value: who.Tenant}, {Column: "id", Op: eventstore.Eq, Value: id},
	}})
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, notFound("Rpc", id)
	}
	call, err := projection.ReadCall(rows[0])
	if err != nil {
		return nil, err
	}
	if !call.State.Persistent || call.State.Removed || call.State.Direction != rpc.ToDevice {
		return nil, notFound("Rpc", id)
	}
	if err := s.mayRead(ctx, who, call.Device); err != nil {
		return nil, err
	}
	return &call, nil
}

// mayRead tells whether the caller may read what concerns a device of the own tenant. Administrators may also when the device is
// gone: its history stays.
func (s *server) mayRead(ctx context.Context, who *auth.Principal, device uuid.UUID) error {
	if who.Authority == registry.TenantAdmin {
		return nil
	}
	if _, err := s.deviceOf(ctx, who, device); err != nil {
		if answerTo(err).status == http.StatusNotFound {
			return errPermission
		}
		return err
	}
	return nil
}

// appendRecord appends ThingsBoard's JSON of a call, with numbers as Jackson writes them.
func appendRecord(dst []byte, call *projection.Call) ([]byte, error) {
	raw := rpc.AppendRecord(make([]byte, 0, 1<<10), call.Tenant, call.Device, &call.State, &call.Body)
	return jackson.Append(dst, raw)
}

// listPersistent serves GET /api/rpc/persistent/device/{deviceId}. textSearch is accepted and ignored, as in ThingsBoard.
func listPersistent(s *server, c *gin.Context, who *auth.Principal) error {
	device, err := pathUUID(c, "deviceId")
	if err != nil {
		return err
	}
	page, err := askedPage(c)
	if err != nil {
		return err
	}
	q, err := persistentQuery(c, who.Tenant, device, page)
	if err != nil {
		return err
	}
	if _, err := s.deviceOf(c.Request.Context(), who, device); err != nil {
		return err
	}
	total, err := s.store.Count(c.Request.Context(), q)
	if err != nil {
		return err
	}
	if rest := total - int64(q.Offset); rest > pageRows && q.Limit > pageRows {
		return badQuery("pageSize", "there are %d calls on this page, an answer holds at most %d", rest, pageRows)
	}
	q.Limit = min(q.Limit, pageRows)
	read := s.store.Rows
	if page.Sort == "response" {
		read = s.byResponse(total, page.Desc)
	}
	rows, err := read(c.Request.Context(), q)
	if err != nil {
		return err
	}
	return writeRecords(c, rows, total, page)
}

// byResponse reads a page in the order of the responses' text, calls without one last (first if descending), as PostgreSQL sorts
// ThingsBoard's column. Databases do not sort JSON, so it is done here, for as many calls as an answer may hold.
func (s *server) byResponse(total int64, desc bool) func(context.Context, eventstore.Query) ([][]any, error) {
	return func(ctx context.Context, q eventstore.Query) ([][]any, error) {
		if total > pageRows {
			return nil, badQuery("sortProperty", "there are %d calls, at most %d can be sorted by response; sort by createdTime", total, pageRows)
		}
		offset, limit := q.Offset, q.Limit
		q.Offset, q.Limit = 0, pageRows
		rows, err := s.store.Rows(ctx, q)
		if err != nil {
			return nil, err
		}
		column := projection.Calls.Index("response")
		slices.SortStableFunc(rows, func(a, b []any) int {
			order := compareResponses(a[column], b[column])
			if desc {
				return -order
			}
			return order
		})
		rows = rows[min(offset, len(rows)):]
		return rows[:min(limit, len(rows))], nil
	}
}

func compareResponses(a, b any) int {
	x, hasX := a.([]byte)
	y, hasY := b.([]byte)
	switch {
	case hasX && hasY:
		return bytes.Compare(x, y)
	case hasX:
		return -1
	case hasY:
		return 1
	}
	return 0
}

func writeRecords(c *gin.Context, rows [][]any, total int64, page registry.Page) error {
	out := append(make([]byte, 0, 1<<10), `{"data":[`...)
	for i, row := range rows {
		call, err := projection.ReadCall(row)
		if err != nil {
			return err
		}
		if i > 0 {
			out = append(out, ',')
		}
		if out, err = appendRecord(out, &call); err != nil {
			return err
		}
	}
	writeJSON(c, http.StatusOK, appendPage(out, total, page))
	return nil
}

// persistentSorts are the documented sort properties. ThingsBoard sorts "request" by the text of the stored request, which begins with the
// call's id. The order by "response" is made by byResponse.
var persistentSorts = map[string]string{
	"createdTime": "created", "expirationTime": "expires", "request": "id", "response": "id", "id": "id", "status": "status",
}

func persistentQuery(c *gin.Context, tenant, device uuid.UUID, page registry.Page) (eventstore.Query, error) {
	q := eventstore.Query{Table: projection.Calls, Where: []eventstore.Cond{
		{Column: "tenant", Op: eventstore.Eq, Value: tenant},
		{Column: "device", Op: eventstore.Eq, Value: device},
		{Column: "persistent", Op: eventstore.Eq, Value: true},
		{Column: "removed", Op: eventstore.Eq, Value: false},
		{Column: "direction", Op: eventstore.Eq, Value: int64(rpc.ToDevice)},
	}}
	if name := c.Query("rpcStatus"); name != "" {
		status, known := rpc.ParseStatus(name)
		if !known || status == rpc.StatusDeleted {
			return q, badQuery("rpcStatus", "must be QUEUED, SENT, DELIVERED, SUCCESSFUL, TIMEOUT, EXPIRED or FAILED, is '%s'", clip(name, 40))
		}
		q.Where = append(q.Where, eventstore.Cond{Column: "status", Op: eventstore.Eq, Value: name})
	}
	if page.Sort != "" {
		column, known := persistentSorts[page.Sort]
		if !known {
			return q, badQuery("sortProperty", "must be createdTime, expirationTime, request or response, is '%s'", clip(page.Sort, 40))
		}
		desc := page.Desc && page.Sort != "response"
		q.Order = append(q.Order, eventstore.Order{Column: column, Desc: desc})
		if column == "id" {
			return paged(q, page), nil
		}
	}
	q.Order = append(q.Order, eventstore.Order{Column: "id"})
	return paged(q, page), nil
}

// paged sets the part of the list that a page is.
func paged(q eventstore.Query, page registry.Page) eventstore.Query {
	q.Limit = page.Size
	if skip := int64(page.Size) * int64(page.Number); skip < 1<<31 {
		q.Offset = int(skip)
	} else {
		q.Offset = 1 << 31 // behind all rows that there can be
	}
	return q
}
