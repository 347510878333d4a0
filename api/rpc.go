package api

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"callchain/api/jackson"
	"callchain/engine"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/registry"
	"callchain/registry/auth"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
)

// callDevice serves POST /api/rpc/{oneway|twoway}/{deviceId} and its older form under /api/plugins (RpcV1Controller,
// RpcV2Controller). Checks come in ThingsBoard's order: the id's form, the body, then the device.
func callDevice(v version, oneway bool) handler {
	return func(s *server, c *gin.Context, who *auth.Principal) error {
		if s.engine.Overloaded() {
			s.hold(c)
			return engine.ErrBusy
		}
		device, err := parseUUID(c.Param("deviceId"))
		if err != nil {
			return err
		}
		asked, err := s.askedCall(c)
		if err != nil {
			return err
		}
		id, err := callID(who, asked.id, first(c.Request.Header[headerIdempotency]))
		if err != nil {
			return err
		}
		row, err := s.callee(c.Request.Context(), who, device)
		if err != nil {
			return err
		}
		r := engine.CallRequest{
			ID: id, Chosen: id != uuid.Nil, Tenant: who.Tenant, Customer: who.Customer, Device: device, Row: row,
			Method: asked.method, Params: asked.params, Oneway: oneway, Persistent: asked.persistent, Expires: asked.deadline(s.now(), s.config.Timeouts),
			Retries: asked.retries, Order: asked.order, Info: asked.info, FailOffline: asked.failOffline, Actor: who.Actor,
		}
		r.Trace.Trace, r.Trace.Span, _ = step.ParseTraceparent(first(c.Request.Header[headerTrace]))
		ctx, cancel := context.WithTimeout(c.Request.Context(), patience(&r, s.now()))
		defer cancel()
		result, err := s.engine.Call(ctx, r)
		if result.ID == uuid.Nil {
			result.ID = id
		}
		if errors.Is(err, engine.ErrBusy) {
			s.hold(c)
		}
		if err != nil {
			return answerTo(err).with(result.ID)
		}
		return answerCall(c, v, &r, &result)
	}
}

// patience is how long a caller may have to wait: that it takes longer shows that nothing can be stored. The engine ends a call by itself at its
// deadline, and a persistent one is queued at once unless its chain takes its time.
func patience(r *engine.CallRequest, now time.Time) time.Duration {
	const late, queued = 5 * time.Second, 20 * time.Second
	if r.Persistent {
		return queued
	}
	return max(r.Expires.Sub(now), 0) + late
}

// askedCall reads the body; what it returns does not refer to the bytes read.
func (s *server) askedCall(c *gin.Context) (callBody, error) {
	b, err := s.readBody(c, s.config.Body)
	if err != nil {
		return callBody{}, err
	}
	defer b.release()
	return decodeCall(b.bytes)
}

// callID is the id that the caller chose: requestUUID, else the UUIDv5 of tenant, user and Idempotency-Key, else none.
func callID(who *auth.Principal, chosen uuid.UUID, key string) (uuid.UUID, error) {
	if chosen != uuid.Nil || key == "" {
		return chosen, nil
	}
	if len(key) > 255 {
		return uuid.Nil, badQuery(headerIdempotency, "must have at most 255 bytes, has %d", len(key))
	}
	name := make([]byte, 0, 16+len(key))
	return uuid.NewSHA1(who.Tenant, append(append(name, who.User[:]...), key...)), nil
}

// deviceOf is a device that the caller may use. Another tenant's device is as unknown as one that does not exist.
func (s *server) deviceOf(ctx context.Context, who *auth.Principal, id uuid.UUID) (*registry.Facts, error) {
	if who.Authority == registry.SysAdmin {
		return nil, errSysAdmin
	}
	f, err := s.dir.FactsOf(ctx, who.Tenant, id)
	if err != nil {
		if e := answerTo(err); e.status != http.StatusNotFound {
			return nil, err
		}
		return nil, errNoDevice
	}
	if !owns(who, f.Device.Tenant, f.Device.Customer) {
		return nil, errPermission
	}
	return f, nil
}

// callee is a device that the caller may call, as the engine will see it.
func (s *server) callee(ctx context.Context, who *auth.Principal, id uuid.UUID) (*engine.Device, error) {
	if who.Authority == registry.SysAdmin {
		return nil, errSysAdmin
	}
	row, err := s.engine.Device(ctx, who.Tenant, id)
	var refused *rpc.Refusal
	switch {
	case errors.As(err, &refused):
		return nil, errNoDevice
	case err != nil:
		return nil, err
	case !owns(who, row.Tenant, row.Info.Customer):
		return nil, errPermission
	}
	return row, nil
}

// answerCall renders what became of a call. A persistent one that has already failed was never queued: it had expired when it
// came, or its chain did not send it.
func answerCall(c *gin.Context, v version, r *engine.CallRequest, result *engine.CallResult) error {
	c.Writer.Header()[headerCall] = []string{result.ID.String()}
	switch {
	case r.Persistent && result.Phase <= rpc.PhaseSucceeded:
		body := append(make([]byte, 0, 64), `{"rpcId":"`...)
		writeJSON(c, http.StatusOK, append(append(body, result.ID.String()...), `"}`...))
		return nil
	case r.Oneway && result.Phase <= rpc.PhaseSucceeded:
		writeEmpty(c, http.StatusOK)
		return nil
	case result.Phase == rpc.PhaseSucceeded:
		return answerResponse(c, result)
	}
	return outcomeError(v, *result)
}

// answers are buffers for the answers of devices.
var answers = sync.Pool{New: func() any { return new([]byte) }}

// answersKept is the size up to which a buffer goes back to the pool.
const answersKept = 64 << 10

// answerResponse gives the device's JSON as Jackson writes it; an empty answer is an empty 200, what is not JSON is 406.
func answerResponse(c *gin.Context, result *engine.CallResult) error {
	if result.Response.Form == rpc.Empty {
		writeEmpty(c, http.StatusOK)
		return nil
	}
	if result.Response.Form != rpc.JSON {
		return errNotJSON.with(result.ID)
	}
	buf, ok := answers.Get().(*[]byte)
	if !ok {
		panic("api: the pool of answers holds something else")
	}
	out, err := jackson.Append((*buf)[:0], result.Response.Bytes)
	if err == nil {
		writeJSON(c, http.StatusOK, out)
	}
	if cap(out) <= answersKept {
		*buf = out
		answers.Put(buf)
	}
	if err != nil {
		return errNotJSON.with(result.ID).because(err.Error())
	}
	return nil
}
