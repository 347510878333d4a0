package delivery

import (
	"errors"
	"time"

	"callchain/engine/cluster"
	"callchain/engine/observe"
	"callchain/engine/replies"
	"callchain/engine/rpc"
	"callchain/engine/submit"
	"callchain/engine/wire"
	"callchain/transports"

	"github.com/google/uuid"
)

// Receive takes a message of an owner at another process for the sessions and callers here; false: it is for neither.
func (d *Delivery) Receive(m *cluster.Message) bool {
	switch {
	case m.Completed != nil:
		c := m.Completed
		d.Config.Callers.Complete(c.Call, replies.Reply{Result: replies.Result{ID: c.Call, Phase: c.Phase, Code: c.Code, Detail: c.Detail, Response: c.Response}}, c.Content)
	case m.Sent != nil:
		d.Config.Callers.Sent(m.Sent.Call)
	case m.Deliver != nil:
		d.receiveDelivery(m.Deliver)
	case m.Respond != nil:
		d.respond(m.Respond.Session, m.Respond.Request, m.Respond.Body)
	case m.Close != nil:
		d.closeSession(m.Close.Session, m.Close.Why)
	case m.Attributes != nil:
		d.giveAttributes(m.Attributes.Session, transports.AttributesAnswer{Request: m.Attributes.Request, Client: m.Attributes.Client, Shared: m.Attributes.Shared})
	case m.Push != nil:
		d.pushAttributes(m.Push.Session, m.Push.Changed, m.Push.Deleted)
	default:
		return false
	}
	return true
}

// receiveDelivery hands a command of an owner at another process to its device. A delivery of a superseded owner is dropped: its successor repeats it, if it is
// still due.
func (d *Delivery) receiveDelivery(m *cluster.Delivery) {
	switch {
	case d.superseded(m.Partition, m.Epoch):
		return
	case m.Late(time.Now()):
		d.Metrics.Stale.WithLabelValues(observe.StaleDeadline).Inc()
		return
	}
	s := d.sessions.get(m.Session)
	if s == nil { // a session of a previous process of this node, or one that has just ended: its owner must know
		d.sessionGone(m.Partition, m.Device, m.Session)
		return
	}
	d.expectCallers(m.Call, m.Callers)
	d.hand(s, transports.Command{
		Call: m.Call, Wire: m.Wire, Method: m.Method, Params: m.Params,
		Deadline: m.Deadline.Time(), Attempt: int(m.Attempt), Epoch: m.Epoch, Trace: m.Trace,
	})
}

// sessionGone notifies the owner of a partition that a session is not here.
func (d *Delivery) sessionGone(partition int32, device, session uuid.UUID) {
	if err := d.Disconnected(partition, device, session); err != nil && !errors.Is(err, wire.ErrStopping) { // the others see that this node is gone
		d.Log.Warn("could not record that a session is gone", "device", device, "error", err)
	}
}

// Undelivered notifies the owner of a partition that a delivery did not reach the process of its session.
func (d *Delivery) Undelivered(m *cluster.Delivery, reason string) {
	err := d.put(m.Partition, m.Device, submit.Durable, submit.Meta("system", "node"), rpc.SendFailed{
		Session: m.Session, Call: m.Call, Detail: reason, Permanent: reason == transports.FailedTooLarge,
	})
	if err != nil {
		d.Log.Warn("could not record that a delivery failed", "device", m.Device, "partition", m.Partition, "error", err)
	}
}

// expectCallers notes the processes with callers of a one-way call that is handed to a session here.
func (d *Delivery) expectCallers(call uuid.UUID, callers []string) {
	if len(callers) > 0 {
		d.callers.Add(call, callers)
	}
}

// sent notifies the callers of a one-way call that it has left, wherever they wait.
func (d *Delivery) sent(call uuid.UUID) {
	d.Config.Callers.Sent(call)
	callers, ok := d.callers.Get(call)
	if !ok {
		return
	}
	d.callers.Remove(call)
	for _, process := range callers {
		if process != d.Process && d.Peers != nil {
			d.Peers.Send(process, cluster.Message{Sent: &cluster.Sent{Call: call}})
		}
	}
}
