package delivery

import (
	"context"
	"log/slog"
	"time"

	"callchain/engine/cluster"
	"callchain/engine/observe"
	"callchain/engine/owner"
	"callchain/engine/replies"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/transports"

	"github.com/google/uuid"
)

// Dispatch dispatches one effect, here and to the other processes that it concerns. It does not block.
func (d *Delivery) Dispatch(fx *owner.Effect) {
	if len(fx.To) == 0 {
		d.dispatchHere(fx)
		return
	}
	for _, process := range fx.To {
		switch {
		case process == d.Process:
			d.dispatchHere(fx)
		case d.Peers != nil:
			d.dispatchTo(process, fx)
		}
	}
}

// dispatchHere dispatches one effect to the sessions and callers of this process.
func (d *Delivery) dispatchHere(fx *owner.Effect) {
	switch do := fx.Do.(type) {
	case step.Deliver:
		d.expectCallers(do.Call.ID, fx.Callers)
		d.deliver(&do, fx)
	case step.NotifyCallers:
		reply := replies.Reply{Result: replies.ResultOf(&do), From: fx.From}
		if fx.From != nil {
			reply.At = time.Now()
		}
		d.Callers.Complete(do.Call, reply, fx.Content)
	case step.Respond:
		if s := d.respond(do.Session, do.Request, do.Body); s != nil {
			d.Tracer.Answered(observe.SpanResponded, fx.From, time.Now(), observe.AttrTransport.String(s.Transport))
		}
	case step.CloseSession:
		d.closeSession(do.Session, do.Why)
	case step.GiveAttributes:
		d.giveAttributes(do.Session, transports.AttributesAnswer{Request: do.Request, Client: do.Client, Shared: do.Shared})
	case step.PushAttributes:
		d.pushAttributes(do.Session, do.Changed, do.Deleted)
	case step.LogLine:
		d.Log.LogAttrs(context.Background(), slog.LevelInfo, do.Text, slog.String("device", do.Device.String()), slog.String("source", "log node"))
	case step.DeadLetter:
		d.Log.Warn("dead letter", "reason", do.Reason, "detail", do.Detail)
	}
}

// dispatchTo sends one effect to another process.
func (d *Delivery) dispatchTo(process string, fx *owner.Effect) {
	switch do := fx.Do.(type) {
	case step.Deliver:
		d.deliverTo(process, &do, fx)
	case step.NotifyCallers:
		d.Peers.Send(process, cluster.Message{Completed: &cluster.Completed{
			Call: do.Call, Phase: do.Phase, Code: do.Code, Detail: do.Detail, Response: do.Response, Content: fx.Content,
		}})
	case step.Respond:
		d.Peers.Send(process, cluster.Message{Respond: &cluster.Response{Session: do.Session, Request: do.Request, Body: do.Body}})
	case step.CloseSession:
		d.Peers.Send(process, cluster.Message{Close: &cluster.Close{Session: do.Session, Why: do.Why}})
	case step.GiveAttributes:
		d.Peers.Send(process, cluster.Message{Attributes: &cluster.Attributes{Session: do.Session, Request: do.Request, Client: do.Client, Shared: do.Shared}})
	case step.PushAttributes:
		d.Peers.Send(process, cluster.Message{Push: &cluster.Push{Session: do.Session, Changed: do.Changed, Deleted: do.Deleted}})
	}
}

// deliver hands a command to the device's link, at once if its body is known and no delivery of its session waits.
func (d *Delivery) deliver(do *step.Deliver, fx *owner.Effect) {
	s := d.sessions.get(do.Session.ID)
	if s == nil { // its Disconnect is on the way, unless the inbox was full; the call is sent again at the next subscription
		d.sessionGone(fx.Partition, do.Device, do.Session.ID)
		return
	}
	trace := d.Tracer.Delivery(do, s.Transport, fx.From)
	if do.Body != nil && !d.loader.has(s.ID) {
		d.deliverIfCurrent(s, fx.Partition, commandOf(do, do.Body, fx.Epoch, trace))
		return
	}
	partition, epoch, call := fx.Partition, fx.Epoch, do.Call.ID
	d.loader.deliver(&postponed{
		tenant: s.Identity.Tenant, device: do.Device, session: s.ID, call: call, deadline: do.Call.Expires.Time(), body: do.Body,
		send:   func(b *rpc.Body) { d.deliverIfCurrent(s, partition, commandOf(do, b, epoch, trace)) },
		failed: func(reason string) { d.Failed(s.ID, call, reason) },
	})
}

// deliverTo does the same for a device that is connected to another process.
func (d *Delivery) deliverTo(process string, do *step.Deliver, fx *owner.Effect) {
	trace := d.Tracer.Delivery(do, "node", fx.From)
	out := cluster.Delivery{
		Session: do.Session.ID, Device: do.Device, Partition: fx.Partition, Epoch: fx.Epoch, Call: do.Call.ID, Wire: do.Call.Wire,
		Deadline: do.Call.Expires, Attempt: do.Call.Attempt, Trace: trace, Callers: fx.Callers,
	}
	if do.Call.Oneway && d.Config.Callers.Has(do.Call.ID) {
		out.Callers = append(out.Callers, d.Process)
	}
	send := func(b *rpc.Body) {
		out.Method, out.Params = b.Command()
		d.Peers.Send(process, cluster.Message{Deliver: &out})
	}
	if do.Body != nil && !d.loader.has(do.Session.ID) {
		send(do.Body)
		return
	}
	d.loader.deliver(&postponed{
		tenant: fx.Tenant, device: do.Device, session: do.Session.ID, call: do.Call.ID, deadline: do.Call.Expires.Time(), body: do.Body,
		send: send, failed: func(reason string) { d.Undelivered(&out, reason) },
	})
}

func commandOf(do *step.Deliver, body *rpc.Body, epoch int64, trace string) transports.Command {
	method, params := body.Command()
	return transports.Command{
		Call: do.Call.ID, Wire: do.Call.Wire, Method: method, Params: params,
		Deadline: do.Call.Expires.Time(), Attempt: int(do.Call.Attempt), Epoch: epoch, Trace: trace,
	}
}

// deliverIfCurrent hands a command to a device, unless its owner has lost the partition.
func (d *Delivery) deliverIfCurrent(s *transports.Session, partition int32, c transports.Command) {
	if !d.superseded(partition, c.Epoch) {
		d.hand(s, c)
	}
}

// hand gives a command to the device's link, unless it got it already: a new owner may repeat deliveries of the previous one.
func (d *Delivery) hand(s *transports.Session, c transports.Command) {
	if d.sessions.deliver(s.ID, c.Call, c.Attempt) {
		s.Link.Send(c)
	}
}

// superseded reports whether this node knows a newer owner than the delivery's.
func (d *Delivery) superseded(partition int32, epoch int64) bool {
	if d.Peers == nil || epoch >= d.Peers.Epoch(partition) {
		return false
	}
	d.Metrics.Stale.WithLabelValues(observe.StaleEpoch).Inc()
	return true
}

func (d *Delivery) respond(session uuid.UUID, request int32, body []byte) *transports.Session {
	s := d.sessions.get(session)
	if s != nil {
		s.Link.Respond(transports.Response{Request: request, Body: body})
	}
	return s
}

func (d *Delivery) closeSession(session uuid.UUID, reason string) {
	if s := d.sessions.remove(session); s != nil {
		s.Link.Close(transports.Reason(reason))
	}
}

func (d *Delivery) giveAttributes(session uuid.UUID, a transports.AttributesAnswer) {
	if s := d.sessions.get(session); s != nil {
		s.Link.AnswerAttributes(a)
	}
}

func (d *Delivery) pushAttributes(session uuid.UUID, changed map[string][]byte, deleted []string) {
	if s := d.sessions.get(session); s != nil {
		s.Link.PushAttributes(changed, deleted)
	}
}
