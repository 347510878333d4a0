package engine

import (
	"errors"
	"fmt"
	"time"

	"callchain/engine/bus"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/nodes"
	"callchain/transports"

	"github.com/google/uuid"
)

// uplink is the engine as the transports see it.
type uplink struct {
	*Engine
	from lineage // of the device's message, if it named one
}

var _ transports.Traced = uplink{}

// Inbound is the engine's side of the transports' contract.
func (e *Engine) Inbound() transports.Inbound { return uplink{Engine: e} }

// InTrace implements transports.Traced.
func (e uplink) InTrace(traceparent string) transports.Inbound {
	e.from.trace, e.from.span, _ = step.ParseTraceparent(traceparent)
	return e
}

// send puts a device's command into the inbox. done is called once, also when the inbox refuses it.
func (e *Engine) send(s *transports.Session, lane bus.Lane, vital bool, how class, do step.Action, done func(error)) {
	e.sendFrom(lineage{}, s, lane, vital, how, do, done)
}

// sendFrom does the same for a command that stands in a trace.
func (e *Engine) sendFrom(from lineage, s *transports.Session, lane bus.Lane, vital bool, how class, do step.Action, done func(error)) {
	cmd := step.Command{Meta: e.meta("device:"+s.Identity.Device.String(), s.Transport), Device: s.Identity.Device, Span: from.span, Do: do}
	cmd.Trace = from.trace
	if how == durable && done != nil {
		tell := done
		done = func(err error) { tell(busy(err)) }
	}
	if _, err := e.put(lane, s.Identity.Partition, vital, how, cmd, done); err != nil && done != nil {
		if errors.Is(err, ErrTooLarge) {
			done(fmt.Errorf("%w: %w", transports.ErrRefused, err))
			return
		}
		done(transports.ErrBusy)
	}
}

// busy is what a transport is told of a command that could not be kept: the device may send it again, unless it is too large.
func busy(err error) error {
	if errors.Is(err, bus.ErrTooLarge) {
		return fmt.Errorf("%w: %w", transports.ErrRefused, err)
	}
	if errors.Is(err, bus.ErrAway) || errors.Is(err, bus.ErrClosed) || errors.Is(err, bus.ErrFull) {
		return transports.ErrBusy
	}
	return err
}

// session is the live session, or nil after done was told that it is gone.
func (e *Engine) session(id uuid.UUID, done func(error)) *transports.Session {
	s := e.sessions.get(id)
	if s == nil && done != nil {
		done(transports.ErrGone)
	}
	return s
}

// Connect implements transports.Inbound.
func (e uplink) Connect(s transports.Session, done func(error)) {
	e.sessions.add(s)
	if e.revoked.covers(&s.Identity, e.now()) {
		e.sessions.remove(s.ID)
		if done != nil {
			done(transports.ErrUnauthorized)
		}
		return
	}
	if s.Aside {
		if done != nil {
			done(nil)
		}
		return
	}
	e.send(&s, bus.RPC, false, fleeting, step.RPC{Do: rpc.Connect{Session: s.ID, Transport: s.Transport, Remote: s.Remote, Node: e.config.Node, Process: e.process()}}, func(err error) {
		if err != nil {
			e.sessions.remove(s.ID)
		}
		if errors.Is(err, ErrUncertain) { // its owner may take it yet
			e.send(&s, bus.RPC, true, fleeting, step.RPC{Do: rpc.Disconnect{Session: s.ID, Why: string(transports.ReasonNodeLost)}}, nil)
		}
		if done != nil {
			done(err)
		}
	})
	e.tellIfEnded(&s)
}

// tellIfEnded tells the owner that a connection has ended which ended, by Revoke, just before the owner was told of it.
func (e *Engine) tellIfEnded(s *transports.Session) {
	if e.sessions.get(s.ID) == nil {
		e.send(s, bus.RPC, true, fleeting, step.RPC{Do: rpc.Disconnect{Session: s.ID, Why: string(transports.ReasonCredentials)}}, nil)
	}
}

// Subscribe implements transports.Inbound.
func (e uplink) Subscribe(session uuid.UUID, done func(error)) {
	if s := e.session(session, done); s != nil {
		e.sessions.want(session, true)
		e.subscribe(s, subscribeTries, done)
	}
}

// subscribeTries is how often a session is told to its owner with a subscription.
const subscribeTries = 5

// subscribe makes a session take calls. An owner that does not know the session has just become the owner, and is told of it first: the device sees
// nothing of that.
func (e uplink) subscribe(s *transports.Session, tries int, done func(error)) {
	judged := done
	if e.group != nil && tries > 1 {
		judged = func(err error) {
			one := e.sessions.find(s.ID)
			var refused *rpc.Refusal
			if !errors.As(err, &refused) || refused.Code != rpc.CodeSessionGone || one == nil {
				if done != nil {
					done(err)
				}
				return
			}
			e.send(s, bus.RPC, true, fleeting, step.RPC{Do: e.resumed(one)}, nil)
			e.tellIfEnded(s)
			e.subscribe(s, tries-1, done)
		}
	}
	e.send(s, bus.RPC, true, fleeting, step.RPC{Do: rpc.Subscribe{Session: s.ID, Once: s.Once}}, judged)
}

// Unsubscribe implements transports.Inbound.
func (e uplink) Unsubscribe(session uuid.UUID, done func(error)) {
	if s := e.session(session, done); s != nil {
		e.sessions.want(session, false)
		e.send(s, bus.RPC, true, fleeting, step.RPC{Do: rpc.Unsubscribe{Session: session}}, done)
	}
}

// Disconnect implements transports.Inbound.
func (e uplink) Disconnect(session uuid.UUID, why string) {
	if s := e.sessions.remove(session); s != nil && !s.Aside {
		e.send(s, bus.RPC, true, fleeting, step.RPC{Do: rpc.Disconnect{Session: session, Why: why}}, nil)
	}
}

// Written implements transports.Inbound. The caller of a one-way call has its answer with it: the call is committed as
// queued, and the transport took it.
func (e uplink) Written(session, call uuid.UUID, attempt int, at time.Time, ack bool) {
	e.spans.left(call, at, ack)
	e.taken(call)
	s := e.sessions.get(session)
	if s == nil {
		return
	}
	cmd := step.Command{
		Meta: rpc.Meta{Occurred: rpc.At(at), Actor: "system", Cause: s.Transport}, Device: s.Identity.Device,
		Do: step.RPC{Do: rpc.Written{Session: session, Call: call, Attempt: int16(attempt), Ack: ack}},
	}
	if _, err := e.put(bus.RPC, s.Identity.Partition, true, fleeting, cmd, nil); err != nil {
		e.log.Warn("a writing could not be noted", "rpcId", call, "device", s.Identity.Device, "tenant", s.Identity.Tenant, "error", err)
	}
}

// Acknowledged implements transports.Inbound.
func (e uplink) Acknowledged(session, call uuid.UUID, evidence string, at time.Time) {
	e.spans.proved(call, evidence, at)
	s := e.sessions.get(session)
	if s == nil {
		return
	}
	cmd := step.Command{
		Meta: rpc.Meta{Occurred: rpc.At(at), Actor: "device:" + s.Identity.Device.String(), Cause: s.Transport}, Device: s.Identity.Device,
		Do: step.RPC{Do: rpc.Acknowledged{Call: call, Evidence: evidence}},
	}
	if _, err := e.put(bus.RPC, s.Identity.Partition, true, fleeting, cmd, nil); err != nil {
		e.log.Warn("an acknowledgement could not be noted", "rpcId", call, "device", s.Identity.Device, "tenant", s.Identity.Tenant, "error", err)
	}
}

// Failed implements transports.Inbound. A packet that the device will never take ends the call; all else is tried again.
func (e uplink) Failed(session, call uuid.UUID, reason string) {
	e.spans.broke(call, reason)
	if s := e.sessions.get(session); s != nil {
		e.send(s, bus.RPC, true, fleeting, step.RPC{Do: rpc.SendFailed{Session: session, Call: call, Detail: reason, Permanent: reason == transports.FailedTooLarge}}, nil)
	}
}

// Reply implements transports.Inbound.
func (e uplink) Reply(session uuid.UUID, wire int32, payload []byte, done func(error)) {
	if s := e.session(session, done); s != nil {
		from := e.spans.answered(session, wire)
		if e.from.span.Sampled && (from.none() || e.from.trace == from.trace) {
			from = e.from // the device tells what its answer is a child of
		}
		from, done = e.spans.received(spanAnswer, from, false, s.Identity.Device, done, attrTransport.String(s.Transport))
		e.sendFrom(from, s, bus.RPC, true, durable, step.RPC{Do: rpc.Reply{Wire: wire, Response: rpc.NewPayload(payload)}}, done)
	}
}

// Call implements transports.Inbound.
func (e uplink) Call(session uuid.UUID, request int32, method string, params []byte, done func(error)) {
	s := e.session(session, done)
	if s == nil {
		return
	}
	r := rpc.Request{
		ID: newID(), Direction: rpc.FromDevice, Method: method, Params: params, Session: session, Request: request,
		Expires: rpc.At(e.now().Add(e.config.ClientTimeout)),
	}
	from, done := e.spans.received(spanAsked, e.from, true, s.Identity.Device, done, attrTransport.String(s.Transport), attrMethod.String(method), attrCall.String(r.ID.String()))
	e.sendFrom(from, s, bus.RPC, false, durable, step.DeviceCall{Request: r, Service: e.config.Node}, done)
}

// Telemetry implements transports.Inbound.
func (e uplink) Telemetry(session uuid.UUID, payload []byte, done func(error)) {
	if s := e.session(session, done); s != nil && e.takesData(s, done) {
		e.send(s, bus.Data, false, durable, step.Data{Type: nodes.PostTelemetry, Payload: payload}, done)
	}
}

// Attributes implements transports.Inbound.
func (e uplink) Attributes(session uuid.UUID, payload []byte, done func(error)) {
	if s := e.session(session, done); s != nil && e.takesData(s, done) {
		e.send(s, bus.Data, false, durable, step.Data{Type: nodes.PostAttributes, Payload: payload}, done)
	}
}

// RequestAttributes implements transports.Inbound.
func (e uplink) RequestAttributes(session uuid.UUID, request int32, client, shared []string, done func(error)) {
	if s := e.session(session, done); s != nil {
		e.send(s, bus.Data, false, fleeting, step.AskAttributes{Session: session, Request: request, Client: client, Shared: shared}, done)
	}
}

// process is the name of this run among the runs of its node; "" if there is one node only.
func (e *Engine) process() string {
	if e.group == nil {
		return ""
	}
	return e.run
}

// takesData tells whether data of a device is taken now. What is shed may be sent again by the device, if its protocol has a way to say so.
func (e *Engine) takesData(s *transports.Session, done func(error)) bool {
	if e.behindBy(s.Identity.Partition, bus.Data) <= oldestMost {
		return true
	}
	e.metrics.shed.WithLabelValues("data").Inc()
	if done != nil {
		done(transports.ErrBusy)
	}
	return false
}
