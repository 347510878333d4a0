package engine

import (
	"errors"

	"callchain/engine/bus"
	"callchain/engine/cluster"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/transports"

	"github.com/google/uuid"
)

// receive takes what an owner elsewhere has for this node.
func (e *Engine) receive(r bus.Record) {
	m, err := cluster.ReadMessage(r.Value)
	if err != nil {
		e.log.Warn("a message of another node cannot be read", "error", err)
		return
	}
	switch {
	case m.Judged != nil:
		if tell := e.judgements.take(m.Judged.Waiter); tell != nil {
			tell(judgement(m.Judged))
		}
	case m.Settled != nil:
		s := m.Settled
		out := outcome{result: CallResult{ID: s.Call, Phase: s.Phase, Code: s.Code, Detail: s.Detail, Response: s.Response}}
		e.waiters.settle(s.Call, out, s.Content)
	case m.Taken != nil:
		e.waiters.taken(m.Taken.Call)
	case m.Deliver != nil:
		e.downlink(m.Deliver)
	case m.Respond != nil:
		e.respond(m.Respond.Session, m.Respond.Request, m.Respond.Body)
	case m.Close != nil:
		e.closeSession(m.Close.Session, m.Close.Why)
	case m.Give != nil:
		e.giveAttributes(m.Give.Session, transports.AttributesAnswer{Request: m.Give.Request, Client: m.Give.Client, Shared: m.Give.Shared})
	case m.Push != nil:
		e.pushAttributes(m.Push.Session, m.Push.Changed, m.Push.Deleted)
	}
}

// downlink hands a command of an owner elsewhere to its device. That of an owner that is none any more is not for the device: its successor
// sends it again, if it is still due.
func (e *Engine) downlink(d *cluster.Delivery) {
	switch {
	case e.superseded(d.Partition, d.Epoch):
		return
	case d.Late(e.now()):
		e.metrics.stale.WithLabelValues("deadline").Inc()
		return
	}
	s := e.sessions.get(d.Session)
	if s == nil { // of a run of this node before this one, or it has just ended: its owner must know
		e.disown(d)
		return
	}
	e.expect(d.Call, d.Callers)
	e.hand(s, transports.Command{
		Call: d.Call, Wire: d.Wire, Method: d.Method, Params: d.Params,
		Deadline: d.Deadline.Time(), Attempt: int(d.Attempt), Epoch: d.Epoch, Trace: d.Trace,
	})
}

// superseded tells whether a delivery is of an owner that is none any more, as far as this node has heard.
func (e *Engine) superseded(partition int32, epoch int64) bool {
	if e.members == nil || epoch >= e.members.epoch(partition) {
		return false
	}
	e.metrics.stale.WithLabelValues("epoch").Inc()
	return true
}

// disown tells the owner of a partition that a connection is not here.
func (e *Engine) disown(d *cluster.Delivery) {
	if err := e.over(d.Partition, d.Device, d.Session); err != nil && !errors.Is(err, ErrStopping) { // the others see that this node is gone
		e.log.Warn("the end of a connection could not be noted", "device", d.Device, "error", err)
	}
}

// over puts the end of a connection that is not here, or not any more, to its owner.
func (e *Engine) over(partition int32, device, session uuid.UUID) error {
	cmd := step.Command{Meta: e.meta("system", "node"), Device: device, Do: step.RPC{Do: rpc.Disconnect{Session: session, Why: string(transports.ReasonNodeLost)}}}
	_, err := e.put(bus.RPC, partition, true, durable, cmd, nil)
	return err
}

// undelivered tells the owner of a partition that a delivery did not reach the node of its connection.
func (e *Engine) undelivered(d *cluster.Delivery, reason string) {
	cmd := step.Command{Meta: e.meta("system", "node"), Device: d.Device, Do: step.RPC{Do: rpc.SendFailed{
		Session: d.Session, Call: d.Call, Detail: reason, Permanent: reason == transports.FailedTooLarge,
	}}}
	if _, err := e.put(bus.RPC, d.Partition, true, durable, cmd, nil); err != nil {
		e.log.Warn("that a delivery failed could not be noted", "device", d.Device, "partition", d.Partition, "error", err)
	}
}

// hand gives a command to the device's link, unless it has it already: a new owner may issue again what the one before it had let out.
func (e *Engine) hand(s *transports.Session, c transports.Command) {
	if e.sessions.give(s.ID, c.Call, c.Attempt) {
		s.Link.Send(c)
	}
}

func (e *Engine) respond(session uuid.UUID, request int32, body []byte) *transports.Session {
	s := e.sessions.get(session)
	if s != nil {
		s.Link.Respond(transports.Response{Request: request, Body: body})
	}
	return s
}

func (e *Engine) closeSession(session uuid.UUID, why string) {
	if s := e.sessions.remove(session); s != nil {
		s.Link.Close(transports.Reason(why))
	}
}

func (e *Engine) giveAttributes(session uuid.UUID, a transports.AttributesAnswer) {
	if s := e.sessions.get(session); s != nil {
		s.Link.AnswerAttributes(a)
	}
}

func (e *Engine) pushAttributes(session uuid.UUID, changed map[string][]byte, deleted []string) {
	if s := e.sessions.get(session); s != nil {
		s.Link.PushAttributes(changed, deleted)
	}
}

// elsewhere sends an effect to another process.
func (e *Engine) elsewhere(process string, fx *effect) {
	switch do := fx.do.(type) {
	case step.Settle:
		e.peers.send(process, cluster.Message{Settled: &cluster.Settled{
			Call: do.Call, Phase: do.Phase, Code: do.Code, Detail: do.Detail, Response: do.Response, Content: fx.content,
		}})
	case step.Respond:
		e.peers.send(process, cluster.Message{Respond: &cluster.Response{Session: do.Session, Request: do.Request, Body: do.Body}})
	case step.CloseSession:
		e.peers.send(process, cluster.Message{Close: &cluster.Close{Session: do.Session, Why: do.Why}})
	case step.GiveAttributes:
		e.peers.send(process, cluster.Message{Give: &cluster.Attributes{Session: do.Session, Request: do.Request, Client: do.Client, Shared: do.Shared}})
	case step.PushAttributes:
		e.peers.send(process, cluster.Message{Push: &cluster.Push{Session: do.Session, Changed: do.Changed, Deleted: do.Deleted}})
	}
}

// onewaysMost bounds the one-way calls whose callers at other nodes wait until they have left. Many never leave; the callers of those that are
// forgotten hear of the end of the call.
const onewaysMost = 40_000

// expect notes the callers at other nodes of a one-way call that is handed to a connection here.
func (e *Engine) expect(call uuid.UUID, callers []string) {
	if len(callers) > 0 {
		e.oneways.set(call, callers, 1)
	}
}

// taken tells the callers of a one-way call that it has left, wherever they wait.
func (e *Engine) taken(call uuid.UUID) {
	e.waiters.taken(call)
	callers, _ := e.oneways.get(call)
	e.oneways.forget(call)
	for _, process := range callers {
		if process == e.incarnation {
			continue
		}
		e.peers.send(process, cluster.Message{Taken: &cluster.Taken{Call: call}})
	}
}
