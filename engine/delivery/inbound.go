package delivery

import (
	"errors"
	"fmt"
	"time"

	"callchain/engine/bus"
	"callchain/engine/observe"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/engine/submit"
	"callchain/engine/wire"
	"callchain/nodes"
	"callchain/transports"

	"github.com/google/uuid"
)

// inbound is the Delivery as the transports see it.
type inbound struct {
	*Delivery
	from step.TraceContext // of the device's message, if it named one
}

var _ transports.Traced = inbound{}

// Inbound is the engine's side of the transports' contract.
func (d *Delivery) Inbound() transports.Inbound { return inbound{Delivery: d} }

// InTrace implements transports.Traced.
func (in inbound) InTrace(traceparent string) transports.Inbound {
	in.from.Trace, in.from.Span, _ = step.ParseTraceparent(traceparent)
	return in
}

// deviceCommand is a command of a device for its owner.
type deviceCommand struct {
	lane     bus.Lane
	priority bool
	class    submit.Class
	from     step.TraceContext
	do       step.Action
}

// presence is a command about a session of this process.
func presence(do rpc.Action) deviceCommand {
	return deviceCommand{lane: bus.RPC, priority: true, class: submit.Ephemeral, do: step.RPC{Do: do}}
}

// send puts a device's command into the inbox. done is called once, also when the inbox refuses it.
func (d *Delivery) send(s *transports.Session, u deviceCommand, done func(error)) {
	cmd := step.Command{Meta: submit.Meta("device:"+s.Identity.Device.String(), s.Transport), Device: s.Identity.Device, Span: u.from.Span, Do: u.do}
	cmd.Trace = u.from.Trace
	finish := done
	if u.class == submit.Durable && done != nil {
		finish = func(err error) { done(putError(err)) }
	}
	_, err := d.Sender.Put(submit.Message{Lane: u.lane, Partition: s.Identity.Partition, Priority: u.priority, Class: u.class, Command: cmd, Done: finish})
	switch {
	case err == nil || done == nil:
	case errors.Is(err, wire.ErrTooLarge):
		done(fmt.Errorf("%w: %w", transports.ErrRefused, err))
	default:
		done(transports.ErrBusy)
	}
}

// putError is the error for a transport when the inbox takes no command: the device may send it again, unless it is too large.
func putError(err error) error {
	switch {
	case errors.Is(err, bus.ErrTooLarge):
		return fmt.Errorf("%w: %w", transports.ErrRefused, err)
	case errors.Is(err, bus.ErrAway), errors.Is(err, bus.ErrClosed), errors.Is(err, bus.ErrFull):
		return transports.ErrBusy
	}
	return err
}

// put sends a life-cycle command to the owner of a partition, without waiting for the decision.
func (d *Delivery) put(partition int32, device uuid.UUID, class submit.Class, meta rpc.Meta, do rpc.Action) error {
	_, err := d.Sender.Put(submit.Message{
		Lane: bus.RPC, Partition: partition, Priority: true, Class: class, Command: step.Command{Meta: meta, Device: device, Do: step.RPC{Do: do}},
	})
	return err
}

// session is the live session, or nil after done was called with ErrGone.
func (d *Delivery) session(id uuid.UUID, done func(error)) *transports.Session {
	s := d.sessions.get(id)
	if s == nil && done != nil {
		done(transports.ErrGone)
	}
	return s
}

// Connect implements transports.Inbound.
func (in inbound) Connect(s transports.Session, done func(error)) {
	if done == nil {
		done = func(error) {}
	}
	in.sessions.add(s)
	if in.isRevoked(&s.Identity) {
		in.sessions.remove(s.ID)
		done(transports.ErrUnauthorized)
		return
	}
	if s.Secondary {
		done(nil)
		return
	}
	connect := presence(rpc.Connect{Session: s.ID, Transport: s.Transport, Remote: s.Remote, Node: in.Node, Process: in.process()})
	connect.priority = false
	in.send(&s, connect, func(err error) {
		if err != nil {
			in.sessions.remove(s.ID)
		}
		if errors.Is(err, wire.ErrUncertain) { // its owner may still take it
			in.send(&s, presence(rpc.Disconnect{Session: s.ID, Why: string(transports.ReasonNodeLost)}), nil)
		}
		done(err)
	})
	in.sendIfEnded(&s)
}

// sendIfEnded notifies the owner if a revoked session ended just before its Connect was taken.
func (d *Delivery) sendIfEnded(s *transports.Session) {
	if !d.Has(s.ID) {
		d.send(s, presence(rpc.Disconnect{Session: s.ID, Why: string(transports.ReasonCredentials)}), nil)
	}
}

// Subscribe implements transports.Inbound.
func (in inbound) Subscribe(session uuid.UUID, done func(error)) {
	if s := in.session(session, done); s != nil {
		in.sessions.subscribe(session, true)
		in.subscribe(s, subscribeTries, done)
	}
}

// subscribeTries bounds how often a subscription reports its session to an owner that does not know it.
const subscribeTries = 5

// subscribe makes a session take calls. A new owner that does not know the session gets its Connect first; the device does not notice.
func (d *Delivery) subscribe(s *transports.Session, tries int, done func(error)) {
	decided := done
	if d.Peers != nil && tries > 1 {
		decided = func(err error) {
			one := d.sessions.find(s.ID)
			var refused *rpc.Refusal
			if !errors.As(err, &refused) || refused.Code != rpc.CodeSessionGone || one == nil {
				if done != nil {
					done(err)
				}
				return
			}
			d.send(s, presence(d.resumed(one)), nil)
			d.sendIfEnded(s)
			d.subscribe(s, tries-1, done)
		}
	}
	d.send(s, presence(rpc.Subscribe{Session: s.ID, Once: s.Once}), decided)
}

// Unsubscribe implements transports.Inbound.
func (in inbound) Unsubscribe(session uuid.UUID, done func(error)) {
	if s := in.session(session, done); s != nil {
		in.sessions.subscribe(session, false)
		in.send(s, presence(rpc.Unsubscribe{Session: session}), done)
	}
}

// Disconnect implements transports.Inbound.
func (in inbound) Disconnect(session uuid.UUID, reason string) {
	if s := in.sessions.remove(session); s != nil && !s.Secondary {
		in.send(s, presence(rpc.Disconnect{Session: session, Why: reason}), nil)
	}
}

// Written implements transports.Inbound. It also completes the callers of a one-way call, which is stored as queued by now.
func (in inbound) Written(session, call uuid.UUID, attempt int, at time.Time, ack bool) {
	in.Tracer.Written(call, at, ack)
	in.sent(call)
	s := in.sessions.get(session)
	if s == nil {
		return
	}
	meta := rpc.Meta{Occurred: rpc.At(at), Actor: "system", Cause: s.Transport}
	if err := in.put(s.Identity.Partition, s.Identity.Device, submit.Ephemeral, meta, rpc.Written{Session: session, Call: call, Attempt: int16(attempt), Ack: ack}); err != nil {
		in.Log.Warn("could not record that a command was sent", "rpcId", call, "device", s.Identity.Device, "tenant", s.Identity.Tenant, "error", err)
	}
}

// Acknowledged implements transports.Inbound.
func (in inbound) Acknowledged(session, call uuid.UUID, evidence string, at time.Time) {
	in.Tracer.Acknowledged(call, evidence, at)
	s := in.sessions.get(session)
	if s == nil {
		return
	}
	meta := rpc.Meta{Occurred: rpc.At(at), Actor: "device:" + s.Identity.Device.String(), Cause: s.Transport}
	if err := in.put(s.Identity.Partition, s.Identity.Device, submit.Ephemeral, meta, rpc.Acknowledged{Call: call, Evidence: evidence}); err != nil {
		in.Log.Warn("could not record an acknowledgement", "rpcId", call, "device", s.Identity.Device, "tenant", s.Identity.Tenant, "error", err)
	}
}

// Failed implements transports.Inbound. A packet that the device will never take ends the call; other failures are retried.
func (d *Delivery) Failed(session, call uuid.UUID, reason string) {
	d.Tracer.Failed(call, reason)
	if s := d.sessions.get(session); s != nil {
		d.send(s, presence(rpc.SendFailed{Session: session, Call: call, Detail: reason, Permanent: reason == transports.FailedTooLarge}), nil)
	}
}

// Reply implements transports.Inbound.
func (in inbound) Reply(session uuid.UUID, wireID int32, payload []byte, done func(error)) {
	s := in.session(session, done)
	if s == nil {
		return
	}
	from := in.Tracer.Reply(session, wireID)
	if in.from.Span.Sampled && (from.None() || in.from.Trace == from.Trace) {
		from = in.from // the device named the parent of its answer
	}
	from, done = in.Tracer.Received(observe.SpanAnswer, from, false, s.Identity.Device, done, observe.AttrTransport.String(s.Transport))
	in.send(s, deviceCommand{lane: bus.RPC, priority: true, from: from, do: step.RPC{Do: rpc.Reply{Wire: wireID, Response: rpc.NewPayload(payload)}}}, done)
}

// Call implements transports.Inbound.
func (in inbound) Call(session uuid.UUID, request int32, method string, params []byte, done func(error)) {
	s := in.session(session, done)
	if s == nil {
		return
	}
	r := rpc.Request{
		ID: in.Sender.NewID(), Direction: rpc.FromDevice, Method: method, Params: params, Session: session, Request: request,
		Expires: rpc.At(time.Now().Add(in.ClientTimeout)),
	}
	from, done := in.Tracer.Received(observe.SpanCall, in.from, true, s.Identity.Device, done,
		observe.AttrTransport.String(s.Transport), observe.AttrMethod.String(method), observe.AttrCall.String(r.ID.String()))
	in.send(s, deviceCommand{lane: bus.RPC, from: from, do: step.DeviceCall{Request: r, Service: in.Node}}, done)
}

// Telemetry implements transports.Inbound.
func (in inbound) Telemetry(session uuid.UUID, payload []byte, done func(error)) {
	in.data(session, nodes.PostTelemetry, payload, done)
}

// Attributes implements transports.Inbound.
func (in inbound) Attributes(session uuid.UUID, payload []byte, done func(error)) {
	in.data(session, nodes.PostAttributes, payload, done)
}

// data takes data of a device, or sheds it if the owner is too far behind. Then the device may send it again, if its protocol has such an answer.
func (d *Delivery) data(session uuid.UUID, kind string, payload []byte, done func(error)) {
	s := d.session(session, done)
	switch {
	case s == nil:
	case d.Age(s.Identity.Partition, bus.Data) > submit.OldestMost:
		d.Metrics.Shed.WithLabelValues(observe.LaneName(bus.Data)).Inc()
		if done != nil {
			done(transports.ErrBusy)
		}
	default:
		d.send(s, deviceCommand{lane: bus.Data, do: step.Data{Type: kind, Payload: payload}}, done)
	}
}

// RequestAttributes implements transports.Inbound.
func (in inbound) RequestAttributes(session uuid.UUID, request int32, client, shared []string, done func(error)) {
	if s := in.session(session, done); s != nil {
		in.send(s, deviceCommand{lane: bus.Data, class: submit.Ephemeral, do: step.AskAttributes{Session: session, Request: request, Client: client, Shared: shared}}, done)
	}
}

// process is the name of this run among the runs of its node; "" if there is one node only.
func (d *Delivery) process() string {
	if d.Peers == nil {
		return ""
	}
	return d.Run
}
