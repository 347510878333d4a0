package engine

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"callchain/engine/bus"
	"callchain/engine/observe"
	"callchain/engine/owner"
	"callchain/engine/projection"
	"callchain/engine/replies"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/engine/submit"
	"callchain/engine/wire"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// The errors for callers, in addition to *rpc.Refusal: see wire.
var (
	ErrBusy      = wire.ErrBusy
	ErrStopping  = wire.ErrStopping
	ErrUnready   = wire.ErrUnready
	ErrUncertain = wire.ErrUncertain
	ErrTooLarge  = wire.ErrTooLarge
)

// CallRequest is an application's request to call a device.
type CallRequest struct {
	ID          uuid.UUID // the caller's choice if Chosen, else uuid.Nil
	Chosen      bool      // ID came from the caller (requestUUID, Idempotency-Key): it may be known already
	Tenant      uuid.UUID
	Customer    uuid.UUID // of the calling user, uuid.Nil if none
	Device      uuid.UUID
	Row         *Device // of the device, as the caller has read it; nil: it is read
	Method      string
	Params      []byte // JSON as it goes to the device; nil: the caller gave none
	Oneway      bool
	Persistent  bool
	Expires     time.Time
	Retries     *int
	Order       rpc.Order
	Info        []byte // additionalInfo, JSON
	FailOffline bool
	Actor       string            // "user:<id>"
	Trace       step.TraceContext // W3C trace context that the caller gave
}

// CallResult is what a caller gets.
type CallResult = replies.Result

// Call asks for a call and waits for its CallResult. When ctx ends first, the call goes on. Errors: *rpc.Refusal, ErrBusy, ErrUnready,
// ErrStopping, ErrUncertain, ErrTooLarge, or ctx's.
func (e *Engine) Call(ctx context.Context, r CallRequest) (CallResult, error) {
	if err := e.serving(); err != nil {
		return CallResult{}, err
	}
	device := r.Row
	if device == nil {
		var err error
		if device, err = e.Device(ctx, r.Tenant, r.Device); err != nil {
			return CallResult{}, err
		}
	}
	if e.overloaded(device.Partition) {
		e.Metrics.Shed.WithLabelValues(observe.LaneName(bus.RPC)).Inc()
		return CallResult{}, ErrBusy
	}
	content := r.content()
	if r.ID == uuid.Nil {
		r.ID = newID()
	} else if known, ok, err := e.known(ctx, r, content); ok || err != nil {
		return known, err
	}
	cmd := step.Command{
		Meta: submit.Meta(r.Actor, "rest"), Device: r.Device, Info: &device.Info, Generation: device.Generation,
		Do: step.Call{Request: r.request(content), Customer: r.Customer, FailOffline: r.FailOffline, Chosen: r.Chosen},
	}
	from := observe.FromContext(ctx, r.Trace)
	cmd.Trace, cmd.Span = from.Trace, from.Span
	caller := e.callers.Add(device.Partition, wire.Caller{Tenant: r.Tenant, Device: r.Device, Call: r.ID, Content: content[:]}, r.Oneway && !r.Persistent)
	decided := func(err error) {
		if err != nil {
			e.callers.Refuse(caller, err)
		} else {
			e.callers.Accept(caller)
		}
	}
	forget, err := e.sender.Put(submit.Message{Lane: bus.RPC, Partition: device.Partition, Class: submit.Decided, Command: cmd, Done: decided})
	if err != nil {
		e.callers.Remove(caller)
		return CallResult{ID: r.ID}, err
	}
	select {
	case out := <-caller.Reply:
		e.tracer.Answered(observe.SpanResult, out.From, out.At, observe.AttrCall.String(r.ID.String()),
			observe.AttrPhase.String(out.Result.Phase.String()), observe.AttrReason.String(string(out.Result.Code)))
		return out.Result, out.Err
	case <-ctx.Done():
		forget()
		e.callers.Remove(caller)
		return CallResult{ID: r.ID}, ctx.Err()
	}
}

// serving is why no new call is taken now, nil if one is.
func (e *Engine) serving() error {
	switch {
	case e.stopping.Load():
		return ErrStopping
	case len(e.problems()) > 0:
		return ErrUnready
	}
	return nil
}

// Device is the row of a device, in a generation of the registry.
type Device struct {
	owner.Device
	Generation uint64
}

// Device reads the row of a tenant's device. Errors: *rpc.Refusal with CodeUnknown for an unknown device; ErrBusy if the read fails, when nothing has happened.
func (e *Engine) Device(ctx context.Context, tenant, id uuid.UUID) (*Device, error) {
	d := &Device{Generation: e.Directory.Generation()}
	var ok bool
	if d.Device, ok = e.Directory.Cached(id); !ok {
		var err error
		if d.Device, err = e.Directory.Device(ctx, id); err != nil {
			return nil, fmt.Errorf("%w: reading device %s: %w", ErrBusy, id, err)
		}
	}
	if d.Deleted || d.Tenant != tenant {
		return nil, &rpc.Refusal{Code: rpc.CodeUnknown, Detail: fmt.Sprintf("there is no device %s", id)}
	}
	return d, nil
}

func (r *CallRequest) request(content [32]byte) rpc.Request {
	return rpc.Request{
		ID: r.ID, Method: r.Method, Params: r.Params, Oneway: r.Oneway, Persistent: r.Persistent, Waiting: !r.Persistent,
		Expires: rpc.At(r.Expires), Retries: r.Retries, Order: r.Order, Info: r.Info, Content: content,
	}
}

// content is the digest of a request. The deadline is not part of it: the same request, sent again later, is the same.
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
	rows, err := e.Store.Rows(ctx, eventstore.Query{Table: projection.Calls, Limit: 1, Where: []eventstore.Cond{
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
	device, partition, err := e.find(ctx, tenant, call)
	if err != nil {
		return err
	}
	return e.await(ctx, bus.RPC, partition, step.Command{Meta: submit.Meta(actor, "rest"), Tenant: tenant, Device: device, Do: step.RPC{Do: rpc.Cancel{Call: call}}})
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
	return e.await(ctx, bus.RPC, row.Partition, step.Command{Meta: submit.Meta(actor, "rest"), Tenant: tenant, Device: row.Device, Do: step.RPC{Do: rpc.Remove{Call: call}}})
}

// await sends a command to its owner, and waits until its events are stored or it is refused.
func (e *Engine) await(ctx context.Context, lane bus.Lane, partition int32, cmd step.Command) error {
	done := make(chan error, 1)
	forget, err := e.sender.Put(submit.Message{Lane: lane, Partition: partition, Class: submit.Decided, Command: cmd, Done: func(err error) { done <- err }})
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

// find finds the device and the partition of a call: by its row, or an open light one by its first event.
func (e *Engine) find(ctx context.Context, tenant, call uuid.UUID) (device uuid.UUID, partition int32, err error) {
	row, err := e.row(ctx, tenant, call)
	if !errors.Is(err, errNoRow) {
		return row.Device, row.Partition, err
	}
	events, err := e.Store.Stream(ctx, projection.CallStream(tenant, call), 0, 1)
	if err != nil {
		return device, 0, fmt.Errorf("reading call %s: %w", call, err)
	}
	if len(events) == 0 {
		return device, 0, &rpc.Refusal{Code: rpc.CodeUnknown, Detail: fmt.Sprintf("there is no call %s", call)}
	}
	return events[0].Device, events[0].Partition, nil
}
