package engine

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"callchain/engine/bus"
	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// Call asks for a call and waits for what its caller is to be told (see CallResult). When ctx ends first, the call goes
// on. Errors: *rpc.Refusal, ErrBusy, ErrUnready, ErrStopping, ErrUncertain, or ctx's.
func (e *Engine) Call(ctx context.Context, r CallRequest) (CallResult, error) {
	switch {
	case e.stopping.Load():
		return CallResult{}, ErrStopping
	case len(e.troubles()) > 0:
		return CallResult{}, ErrUnready
	}
	device, err := e.directory.Device(ctx, r.Device)
	if err != nil || device.Tenant != r.Tenant {
		return CallResult{}, &rpc.Refusal{Code: rpc.CodeUnknown, Detail: fmt.Sprintf("there is no device %s", r.Device)}
	}
	if e.overloaded(device.Partition) {
		e.metrics.shed.WithLabelValues("rpc").Inc()
		return CallResult{}, ErrBusy
	}
	content := r.content()
	if r.ID == uuid.Nil {
		r.ID = newID()
	} else if known, ok, err := e.known(ctx, r, content); ok || err != nil {
		return known, err
	}
	cmd := step.Command{Meta: e.meta(r.Actor, "rest"), Device: r.Device, Do: step.Call{Request: r.request(content), Customer: r.Customer, FailOffline: r.FailOffline, Chosen: r.Chosen}}
	from := lineageIn(ctx, &r)
	cmd.Trace, cmd.Span = from.trace, from.span
	w := e.waiters.add(device.Partition, waiting{Tenant: r.Tenant, Device: r.Device, Call: r.ID, Content: content[:]}, r.Oneway && !r.Persistent)
	tell := func(err error) {
		if err != nil {
			e.waiters.refuse(r.ID, w, err)
		} else {
			e.waiters.accept(w)
		}
	}
	forget, err := e.put(bus.RPC, device.Partition, false, judged, cmd, tell)
	if err != nil {
		e.waiters.remove(r.ID, w)
		return CallResult{ID: r.ID}, err
	}
	select {
	case out := <-w.outcome:
		e.spans.told(spanTold, out.from, out.at, attrCall.String(r.ID.String()), attrPhase.String(out.result.Phase.String()), attrReason.String(string(out.result.Code)))
		return out.result, out.err
	case <-ctx.Done():
		forget()
		e.waiters.remove(r.ID, w)
		return CallResult{ID: r.ID}, ctx.Err()
	}
}

func (r *CallRequest) request(content [32]byte) rpc.Request {
	return rpc.Request{
		ID: r.ID, Method: r.Method, Params: r.Params, Oneway: r.Oneway, Persistent: r.Persistent, Waiting: !r.Persistent,
		Expires: rpc.At(r.Expires), Retries: r.Retries, Order: r.Order, Info: r.Info, Content: content,
	}
}

// content is the digest of what is asked for. The deadline is not part of it: the same wish, sent again later, is the same.
func (r *CallRequest) content() [32]byte {
	h := sha256.New()
	add := func(b []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	add(r.Device[:])
	add([]byte(r.Method))
	add(r.Params)
	add(r.Info)
	retries := -1
	if r.Retries != nil {
		retries = *r.Retries
	}
	add(fmt.Appendf(nil, "%t %t %d %d %t", r.Oneway, r.Persistent, retries, r.Order, r.FailOffline))
	return [32]byte(h.Sum(nil))
}

// known answers a call whose id the caller chose and that has a row: the same content gets the same answer.
func (e *Engine) known(ctx context.Context, r CallRequest, content [32]byte) (CallResult, bool, error) {
	row, err := e.row(ctx, r.Tenant, r.ID)
	switch {
	case errors.Is(err, errNoRow):
		return CallResult{}, false, nil
	case err != nil:
		return CallResult{ID: r.ID}, false, fmt.Errorf("%w: %w", ErrUncertain, err)
	case row.State.Content != content:
		return CallResult{ID: r.ID}, false, &rpc.Refusal{Code: rpc.CodeKnown, Detail: fmt.Sprintf("the id %s belongs to a call with other content", r.ID)}
	}
	out := CallResult{ID: r.ID, Phase: row.State.Phase, Code: row.State.Reason, Detail: row.Body.Error, Response: row.Body.Response}
	if row.State.Persistent {
		out.Phase, out.Code = rpc.PhaseQueued, ""
	}
	return out, true, nil
}

var errNoRow = errors.New("the call has no row")

// row is a call's row: a persistent call, or a light one that has ended.
func (e *Engine) row(ctx context.Context, tenant, call uuid.UUID) (projection.Call, error) {
	rows, err := e.store.Rows(ctx, eventstore.Query{Table: projection.Calls, Limit: 1, Where: []eventstore.Cond{
		{Column: "tenant", Op: eventstore.Eq, Value: tenant}, {Column: "id", Op: eventstore.Eq, Value: call},
	}})
	if err != nil {
		return projection.Call{}, fmt.Errorf("reading call %s: %w", call, err)
	}
	if len(rows) == 0 {
		return projection.Call{}, errNoRow
	}
	return projection.ReadCall(rows[0])
}

// Cancel ends an open call. A call that has ended is refused with CodeEnded, an unknown one with CodeUnknown.
func (e *Engine) Cancel(ctx context.Context, tenant, call uuid.UUID, actor string) error {
	return e.change(ctx, tenant, call, actor, rpc.Cancel{Call: call})
}

// Remove ends a persistent call if it is open, and hides it from the compatible paths.
func (e *Engine) Remove(ctx context.Context, tenant, call uuid.UUID, actor string) error {
	row, err := e.row(ctx, tenant, call)
	if errors.Is(err, errNoRow) || err == nil && (!row.State.Persistent || row.State.Removed) {
		return &rpc.Refusal{Code: rpc.CodeUnknown, Detail: fmt.Sprintf("Rpc with id [%s] is not found", call)}
	}
	if err != nil {
		return err
	}
	return e.change(ctx, tenant, call, actor, rpc.Remove{Call: call})
}

func (e *Engine) change(ctx context.Context, tenant, call uuid.UUID, actor string, do rpc.Action) error {
	where, err := e.place(ctx, tenant, call)
	if err != nil {
		return err
	}
	cmd := step.Command{Meta: e.meta(actor, "rest"), Tenant: tenant, Device: where.device, Do: step.RPC{Do: do}}
	return e.await(ctx, where.partition, cmd, bus.RPC)
}

// await puts a command and waits until it is committed or refused.
func (e *Engine) await(ctx context.Context, partition int32, cmd step.Command, lane bus.Lane) error {
	done := make(chan error, 1)
	forget, err := e.put(lane, partition, false, judged, cmd, func(err error) { done <- err })
	if err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		forget()
		return ctx.Err()
	}
}

// place finds where a call lives: an open light one in memory, others by their row.
func (e *Engine) place(ctx context.Context, tenant, call uuid.UUID) (openPlace, error) {
	if v, ok := e.open.Load(call); ok && v.(openPlace).tenant == tenant {
		return v.(openPlace), nil
	}
	row, err := e.row(ctx, tenant, call)
	switch {
	case errors.Is(err, errNoRow):
		return e.placeOfLight(ctx, tenant, call)
	case err != nil:
		return openPlace{}, err
	}
	return openPlace{tenant, row.Device, row.Partition}, nil
}

// placeOfLight finds an open light call of another process by its events.
func (e *Engine) placeOfLight(ctx context.Context, tenant, call uuid.UUID) (openPlace, error) {
	events, err := e.store.Stream(ctx, projection.StreamOf(tenant, call), 0, 1)
	if err != nil {
		return openPlace{}, fmt.Errorf("reading call %s: %w", call, err)
	}
	if len(events) == 0 {
		return openPlace{}, &rpc.Refusal{Code: rpc.CodeUnknown, Detail: fmt.Sprintf("there is no call %s", call)}
	}
	return openPlace{tenant, events[0].Device, events[0].Partition}, nil
}

// ChangeAttributes sets or deletes attributes of a device and waits until that is committed.
func (e *Engine) ChangeAttributes(ctx context.Context, c AttributeChange) error {
	device, err := e.directory.Device(ctx, c.Device)
	if err != nil || device.Tenant != c.Tenant {
		return &rpc.Refusal{Code: rpc.CodeUnknown, Detail: fmt.Sprintf("there is no device %s", c.Device)}
	}
	cmd := step.Command{Meta: e.meta(c.Actor, "rest"), Device: c.Device}
	set := make(map[string]json.RawMessage, len(c.Set))
	for name, value := range c.Set {
		set[name] = value
	}
	cmd.Do = step.ChangeAttributes{Scope: c.Scope, Set: set, Delete: c.Delete}
	return e.await(ctx, device.Partition, cmd, bus.Data)
}
