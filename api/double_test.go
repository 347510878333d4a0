package api

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"callchain/engine"
	"callchain/engine/deadletter"
	"callchain/engine/owner"
	"callchain/engine/rpc"
	"callchain/eventstore"
	"callchain/nodes/builtin"
	"callchain/registry"
	"callchain/registry/auth"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// The real parts fit the API's interfaces.
var (
	_ Engine    = (*engine.Engine)(nil)
	_ Directory = (*registry.Registry)(nil)
	_ Access    = (*auth.Access)(nil)
)

// The inhabitants of the tests.
var (
	tenantID   = uuid.MustParse("aaaaaaaa-0000-4000-8000-000000000001")
	otherID    = uuid.MustParse("aaaaaaaa-0000-4000-8000-000000000002")
	adminID    = uuid.MustParse("bbbbbbbb-0000-4000-8000-000000000001")
	customerID = uuid.MustParse("cccccccc-0000-4000-8000-000000000001")
	deviceID   = uuid.MustParse("dddddddd-0000-4000-8000-000000000001") // of the customer
	loneID     = uuid.MustParse("dddddddd-0000-4000-8000-000000000002") // of no customer
	foreignID  = uuid.MustParse("dddddddd-0000-4000-8000-000000000003") // of another tenant
	profileID  = uuid.MustParse("eeeeeeee-0000-4000-8000-000000000001")
	callID1    = uuid.MustParse("11111111-0000-4000-8000-000000000001")
	begun      = time.UnixMilli(1783000000000).UTC()
)

// engineDouble answers what the test wants and remembers what it was asked.
type engineDouble struct {
	mu      sync.Mutex
	calls   []engine.CallRequest
	changes []engine.AttributeChange
	ended   []string // "cancel <id>", "remove <id>"
	answer  func(context.Context, engine.CallRequest) (engine.CallResult, error)
	rows    Directory
	fail    error // of everything but calls
	reasons []string

	overloaded bool

	feed    chan eventstore.Event
	follows chan string // the cursors asked for
}

func (d *engineDouble) Device(ctx context.Context, tenant, id uuid.UUID) (*engine.Device, error) {
	f, err := d.rows.FactsOf(ctx, tenant, id)
	if errors.Is(err, registry.ErrNotFound) {
		return nil, &rpc.Refusal{Code: rpc.CodeUnknown}
	}
	if err != nil {
		return nil, err
	}
	row := &engine.Device{Device: owner.Device{ID: id, Tenant: f.Device.Tenant}}
	row.Info.Customer = f.Device.Customer
	return row, nil
}

func (d *engineDouble) Call(ctx context.Context, r engine.CallRequest) (engine.CallResult, error) {
	d.mu.Lock()
	d.calls = append(d.calls, r)
	answer := d.answer
	d.mu.Unlock()
	if r.ID == uuid.Nil {
		r.ID = callID1
	}
	result, err := answer(ctx, r)
	if result.ID == uuid.Nil && err == nil {
		result.ID = r.ID
	}
	return result, err
}

func (d *engineDouble) note(what string, call uuid.UUID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = append(d.ended, what+" "+call.String())
	return d.fail
}

func (d *engineDouble) Cancel(_ context.Context, _, call uuid.UUID, actor string) error {
	return d.note("cancel by "+actor, call)
}

func (d *engineDouble) Remove(_ context.Context, _, call uuid.UUID, actor string) error {
	return d.note("remove by "+actor, call)
}

func (d *engineDouble) ChangeAttributes(_ context.Context, c engine.AttributeChange) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changes = append(d.changes, c)
	return d.fail
}

func (d *engineDouble) ChangeSeries(_ context.Context, c engine.SeriesChange) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range c.Points {
		d.ended = append(d.ended, fmt.Sprintf("series of %s: %s = %s at %d by %s", c.Device, p.Key, p.Value, p.TS, c.Actor))
	}
	for _, key := range c.Delete {
		d.ended = append(d.ended, fmt.Sprintf("series of %s: %s deleted by %s", c.Device, key, c.Actor))
	}
	return d.fail
}

func (d *engineDouble) Follow(ctx context.Context, after string, each func(string, *eventstore.Event) error) error {
	if after == "bad" {
		return engine.ErrCursor
	}
	select {
	case d.follows <- after:
	default:
	}
	for {
		select {
		case ev, open := <-d.feed:
			if !open {
				return errors.New("the store is gone")
			}
			if err := each("cursor-"+ev.Type, &ev); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// letterTenants are the dead letters of fillStore, with their tenants.
var letterTenants = map[uuid.UUID]uuid.UUID{profileID: tenantID}

func (d *engineDouble) RerunDeadLetter(_ context.Context, tenant, id uuid.UUID, actor string) (engine.Rerun, error) {
	if letterTenants[id] != tenant {
		return engine.Rerun{}, fmt.Errorf("%w: %s", deadletter.ErrUnknown, id)
	}
	return engine.Rerun{DeadLetter: id, Device: deviceID, Kind: "call", Call: callID1}, d.note("rerun by "+actor, id)
}

func (d *engineDouble) DropDeadLetter(_ context.Context, tenant, id uuid.UUID, actor string) error {
	if letterTenants[id] != tenant {
		return fmt.Errorf("%w: %s", deadletter.ErrUnknown, id)
	}
	return d.note("drop by "+actor, id)
}

func (d *engineDouble) Ready() []string { return d.reasons }

func (d *engineDouble) Overloaded() bool { return d.overloaded }

// storeDouble keeps rows and streams in memory; only what the API reads is there.
type storeDouble struct {
	eventstore.Store
	mu      sync.Mutex
	rows    map[string][][]any
	streams map[string][]eventstore.Event
	fail    error
}

func (d *storeDouble) Rows(_ context.Context, q eventstore.Query) ([][]any, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		return nil, d.fail
	}
	for i, o := range q.Order { // as the real stores have it
		if q.Table.Columns[q.Table.Index(o.Column)].Kind == eventstore.JSON || slices.Contains(q.Order[:i], o) {
			return nil, fmt.Errorf("cannot sort by %s", o.Column)
		}
	}
	var out [][]any
	for _, row := range d.rows[q.Table.Name] {
		if matches(q, row) {
			out = append(out, row)
		}
	}
	slices.SortStableFunc(out, func(a, b []any) int {
		for _, o := range q.Order {
			i := q.Table.Index(o.Column)
			if c := compare(a[i], b[i]); c != 0 && o.Desc {
				return -c
			} else if c != 0 {
				return c
			}
		}
		return 0
	})
	out = out[min(q.Offset, len(out)):]
	if q.Limit > 0 {
		out = out[:min(q.Limit, len(out))]
	}
	return out, nil
}

func matches(q eventstore.Query, row []any) bool {
	for _, w := range q.Where {
		v := row[q.Table.Index(w.Column)]
		if v == nil && w.Value != nil { // NULL compares with nothing
			return false
		}
		c := compare(v, w.Value)
		ok := map[eventstore.Op]bool{eventstore.Eq: c == 0, eventstore.Ne: c != 0, eventstore.Lt: c < 0, eventstore.Le: c <= 0, eventstore.Gt: c > 0, eventstore.Ge: c >= 0}
		if !ok[w.Op] {
			return false
		}
	}
	return true
}

func compare(a, b any) int {
	switch x := a.(type) {
	case int64:
		y, _ := b.(int64)
		return cmp.Compare(x, y)
	case string:
		y, _ := b.(string)
		return strings.Compare(x, y)
	case uuid.UUID:
		y, _ := b.(uuid.UUID)
		return bytes.Compare(x[:], y[:])
	case bool:
		y, _ := b.(bool)
		return cmp.Compare(map[bool]int{true: 1}[x], map[bool]int{true: 1}[y])
	case []byte:
		y, _ := b.([]byte)
		return bytes.Compare(x, y)
	}
	return 0
}

func (d *storeDouble) Count(ctx context.Context, q eventstore.Query) (int64, error) {
	q.Limit, q.Offset = 0, 0
	rows, err := d.Rows(ctx, q)
	return int64(len(rows)), err
}

func (d *storeDouble) Stream(_ context.Context, stream string, after int64, limit int) ([]eventstore.Event, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		return nil, d.fail
	}
	events := d.streams[stream]
	events = events[min(int(after), len(events)):]
	return slices.Clone(events[:min(limit, len(events))]), nil
}

func (d *storeDouble) add(ev eventstore.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.streams[ev.Stream] = append(d.streams[ev.Stream], ev)
}

// accessDouble knows the tokens "tenant", "customer", "sysadmin" and "other".
type accessDouble struct{}

func (accessDouble) Verify(token string) (auth.Principal, error) {
	p := auth.Principal{User: adminID, Tenant: tenantID, Session: "s1", Actor: "user:" + adminID.String()}
	switch token {
	case "tenant":
		p.Authority = registry.TenantAdmin
	case "customer":
		p.Authority, p.Customer = registry.CustomerUser, customerID
	case "sysadmin":
		p.Authority, p.Tenant = registry.SysAdmin, uuid.Nil
	case "other":
		p.Authority, p.Tenant = registry.TenantAdmin, otherID
	case "old":
		return p, auth.ErrExpired
	case "refresh":
		return p, auth.ErrNotAccess
	default:
		return p, auth.ErrMalformed
	}
	return p, nil
}

func (accessDouble) Login(_ context.Context, email, password, _ string) (auth.Pair, error) {
	switch {
	case email == "slow@x":
		return auth.Pair{}, &auth.TooManyError{RetryAfter: 7 * time.Second}
	case email == "off@x":
		return auth.Pair{}, registry.ErrDisabled
	case email != "tenant@x" || password != "right":
		return auth.Pair{}, registry.ErrBadPassword
	}
	return auth.Pair{Access: "tenant", Refresh: "again"}, nil
}

func (accessDouble) Refresh(_ context.Context, token string) (auth.Pair, error) {
	if token != "again" {
		return auth.Pair{}, auth.ErrMalformed
	}
	return auth.Pair{Access: "tenant", Refresh: "again"}, nil
}

func (accessDouble) ChangePassword(_ context.Context, _ auth.Principal, current, next, _ string) (auth.Pair, error) {
	switch {
	case current != "right":
		return auth.Pair{}, registry.ErrBadPassword
	case next == "":
		return auth.Pair{}, fmt.Errorf("%w: the password must have 6 to 255 bytes", registry.ErrInvalid)
	}
	return auth.Pair{Access: "tenant", Refresh: "again"}, nil
}

func (accessDouble) Logout(context.Context, auth.Principal) error { return nil }

// house is the API with doubles behind it.
type house struct {
	engine *engineDouble
	store  *storeDouble
	dir    *directoryDouble
	http.Handler
}

func newHouse(t testing.TB, change ...func(*Config)) *house {
	t.Helper()
	c := DefaultConfig()
	for _, f := range change {
		f(&c)
	}
	h := &house{
		engine: &engineDouble{feed: make(chan eventstore.Event), follows: make(chan string, 1)},
		store:  &storeDouble{rows: map[string][][]any{}, streams: map[string][]eventstore.Event{}},
		dir:    newDirectory(),
	}
	h.engine.rows = h.dir
	h.Handler = h.handler(c, h.engine)
	return h
}

func (h *house) handler(c Config, e Engine) http.Handler {
	return New(c, Deps{
		Engine: e, Store: h.store, Directory: h.dir, Access: accessDouble{}, Nodes: builtin.Registry(),
		Metrics: prometheus.NewRegistry(), Now: func() time.Time { return begun }, NewID: h.dir.newID,
	})
}

// do sends one request and gives the answer.
func (h *house) do(method, path, token, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("X-Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}
