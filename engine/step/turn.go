package step

import (
	"errors"
	"fmt"

	"callchain/chains"
	"callchain/engine/rpc"
	"callchain/nodes"

	"github.com/google/uuid"
)

// turn is the overlay of one step: what the command has changed so far, over a state that it only reads.
type turn struct {
	env    Env
	cmd    Command
	before rpc.Device
	device rpc.Device
	runs   map[uuid.UUID]Run
	bodies map[uuid.UUID]rpc.Body // of the calls whose events this turn made

	out   Result
	queue []consequence // facts whose consequences are still to be drawn, in order
	hops  int16
}

// consequence is a fact of a call with the call's state around it.
type consequence struct {
	event rpc.Event
	was   rpc.Call
	is    rpc.Call
}

func newTurn(d rpc.Device, env Env, cmd Command) *turn {
	d.ID, d.Settings = cmd.Device, env.Info.Settings
	return &turn{env: env, cmd: cmd, hops: cmd.Hops, before: d, device: d}
}

func (t *turn) do(action Action) {
	switch a := action.(type) {
	case Call:
		t.call(a)
	case DeviceCall:
		t.deviceCall(a)
	case RPC:
		t.refused(t.decide(a.Do))
	case Data:
		t.data(a)
	case AskAttributes:
		t.askAttributes(a)
	case ChangeAttributes:
		t.changeAttributes(a)
	case ChangeSeries:
		t.changeSeries(a)
	case Wake:
		t.wake(a)
	default:
		panic(fmt.Sprintf("step: unknown command %T", action))
	}
}

// decide puts a command of the life cycle to the device and applies its events.
func (t *turn) decide(do rpc.Action) error {
	return t.decideAs(t.cmd.Meta, do)
}

func (t *turn) decideAs(meta rpc.Meta, do rpc.Action) error {
	meta.Hops = t.hops
	events, after, err := rpc.Decide(t.device, rpc.Command{Meta: meta, Now: t.cmd.Now, Do: do})
	for i := range events {
		t.record(&events[i])
	}
	t.device = after
	return err
}

// record adds an event to the result and notes what follows from it. The device is still as it was before the event's command.
func (t *turn) record(e *rpc.Event) {
	if e.Call == uuid.Nil {
		t.out.Events = append(t.out.Events, Event{Stream: Stream{Kind: DeviceStream, ID: t.cmd.Device}, Event: *e})
		if f, ok := e.Fact.(rpc.SessionClosed); ok {
			t.effect(CloseSession{Session: f.Session, Why: f.Why})
		}
		return
	}
	var was rpc.Call
	if _, begins := e.Fact.(rpc.Requested); !begins {
		was = t.last(e.Call)
	}
	was.ID = e.Call
	is := rpc.EvolveCall(was, *e, t.device.Settings)
	t.out.Events = append(t.out.Events, Event{Stream: Stream{Kind: CallStream, ID: e.Call}, Event: *e})
	t.remember(*e)
	t.changedCall(is)
	t.queue = append(t.queue, consequence{event: *e, was: was, is: is})
}

// last is the latest state of a call: of this turn, of the device, or of one that had ended before.
func (t *turn) last(call uuid.UUID) rpc.Call {
	for i := range t.out.Calls {
		if t.out.Calls[i].ID == call {
			return t.out.Calls[i]
		}
	}
	if c := t.device.Find(call); c != nil {
		return *c
	}
	return t.env.Ended(call)
}

func (t *turn) changedCall(c rpc.Call) {
	for i := range t.out.Calls {
		if t.out.Calls[i].ID == c.ID {
			t.out.Calls[i] = c
			return
		}
	}
	t.out.Calls = append(t.out.Calls, c)
}

// remember updates the body of a call with its event, if the body is known here.
func (t *turn) remember(e rpc.Event) {
	b, known := t.bodies[e.Call]
	if _, begins := e.Fact.(rpc.Requested); !known && !begins {
		return
	}
	if t.bodies == nil {
		t.bodies = map[uuid.UUID]rpc.Body{}
	}
	t.bodies[e.Call] = rpc.EvolveBody(b, e.Fact)
}

// followUp draws the consequences of the facts until none is left: answers, resumed runs, life-cycle messages.
func (t *turn) followUp() {
	for len(t.queue) > 0 {
		c := t.queue[0]
		t.queue = t.queue[1:]
		t.hops = c.event.Hops
		t.answer(c)
		if !t.out.Needs.None() {
			return
		}
		t.announce(c)
		t.resumeCaller(c)
	}
}

// answer answers the callers of the call, and the device for its own call.
func (t *turn) answer(c consequence) {
	if c.is.Direction == rpc.FromDevice {
		t.respond(c)
		return
	}
	switch f := c.event.Fact.(type) {
	case rpc.Queued:
		if c.is.Persistent && !f.Again {
			t.effect(NotifyCallers{Call: c.is.ID, Phase: rpc.PhaseQueued})
		}
	case rpc.Succeeded:
		t.effect(NotifyCallers{Call: c.is.ID, Phase: rpc.PhaseSucceeded, Response: f.Response})
	case rpc.Failed:
		t.effect(NotifyCallers{Call: c.is.ID, Phase: rpc.PhaseFailed, Code: f.Code, Detail: f.Detail})
	case rpc.Rejected:
		t.effect(NotifyCallers{Call: c.is.ID, Phase: rpc.PhaseRejected, Code: f.Code, Detail: f.Detail})
	case rpc.Expired, rpc.Cancelled:
		t.effect(NotifyCallers{Call: c.is.ID, Phase: c.is.Phase, Code: c.is.Reason})
	}
}

// respond answers the device that made the call; an unanswered one gets ThingsBoard's error at the deadline
// (DefaultTransportService, transport.client_side_rpc.timeout).
func (t *turn) respond(c consequence) {
	var body []byte
	switch f := c.event.Fact.(type) {
	case rpc.Succeeded:
		body = f.Response.Bytes
	case rpc.Expired:
		body = []byte(`{"error":"timeout"}`)
	default:
		return
	}
	t.effect(Respond{Call: c.is.ID, Session: c.is.Session, Request: c.is.Wire, Body: body})
}

// announce lets a life-cycle fact re-enter the chain as RPC_QUEUED … RPC_DELETED, if the call is persistent or the profile
// asks for it, and if it changed what is shown.
func (t *turn) announce(c consequence) {
	if c.is.Direction != rpc.ToDevice || !(c.is.Persistent || t.env.Info.LightFacts) {
		return
	}
	if c.was.Status == c.is.Status && c.is.Status != rpc.StatusQueued || c.is.Status == rpc.StatusNone || !showing(c.event.Fact) {
		return
	}
	if _, removed := c.event.Fact.(rpc.Removed); removed && c.was.Status == rpc.StatusDeleted {
		return
	}
	if t.env.Info.Chain == nil {
		return
	}
	if t.hops >= HopsMax {
		t.effect(DeadLetter{Reason: ReasonCausationLoop, Detail: fmt.Sprintf("life-cycle facts of call %s re-entered the chain more than %d times", c.is.ID, HopsMax)})
		return
	}
	t.hops++
	t.run(t.env.Info.Chain, nodes.Msg{
		ID: t.env.NewID(), TS: t.cmd.Now.Millis(), Now: int64(t.cmd.Now), Type: c.is.Status.Message(),
		Originator: nodes.Entity{Type: nodes.Device, ID: t.cmd.Device}, Metadata: nodes.Metadata{},
		Data: nodes.Lazy(func() ([]byte, error) { return t.callRecord(c) }),
	}, uuid.Nil)
	t.hops--
}

// showing reports whether a fact is one that ThingsBoard would have stored.
func showing(f rpc.Fact) bool {
	switch f.(type) {
	case rpc.Queued, rpc.Sent, rpc.Delivered, rpc.DeliveryFailed, rpc.Succeeded, rpc.Failed, rpc.Expired, rpc.Cancelled, rpc.Removed, rpc.Rejected:
		return true
	}
	return false
}

var errBodyMissing = errors.New("the body of the call is missing")

// callRecord is the data of a life-cycle message: ThingsBoard's JSON of the call.
func (t *turn) callRecord(c consequence) ([]byte, error) {
	b, ok := t.bodies[c.is.ID]
	if !ok {
		if b, ok = t.env.Body(c.is.ID); !ok {
			t.out.Needs.Bodies = append(t.out.Needs.Bodies, c.is.ID)
			return nil, errBodyMissing
		}
		b = rpc.EvolveBody(b, c.event.Fact)
	}
	return rpc.AppendRecord(nil, t.cmd.Tenant, t.cmd.Device, &c.is, &b), nil
}

// resumeCaller resumes the run that waits for the end of the call.
func (t *turn) resumeCaller(c consequence) {
	if !c.is.Phase.Terminal() || c.was.Phase.Terminal() || c.is.Run == uuid.Nil {
		return
	}
	run, ok := t.findRun(c.is.Run)
	if !ok {
		return
	}
	for _, p := range run.Tokens {
		if p.Call == c.is.ID {
			t.resume(run, p, callEnded(c), "call")
			return
		}
	}
}

// callEnded is the end of a call as "rpc call request" sees it: ThingsBoard's RpcError names.
func callEnded(c consequence) nodes.CallEnded {
	switch f := c.event.Fact.(type) {
	case rpc.Succeeded:
		return nodes.CallEnded{Body: f.Response.Bytes}
	case rpc.Failed:
		if f.Code == rpc.CodeTransport {
			return nodes.CallEnded{Error: "INTERNAL"}
		}
	case rpc.Expired:
		if f.Offline {
			return nodes.CallEnded{Error: "NO_ACTIVE_CONNECTION"}
		}
	case rpc.Rejected:
		if f.Code == rpc.CodeOffline {
			return nodes.CallEnded{Error: "NO_ACTIVE_CONNECTION"}
		}
		return nodes.CallEnded{Error: "INTERNAL"}
	}
	return nodes.CallEnded{Error: "TIMEOUT"}
}

func (t *turn) effect(e Effect) { t.out.Effects = append(t.out.Effects, e) }

func (t *turn) refused(err error) {
	if err != nil && t.out.Refusal == nil {
		t.out.Refusal = err
	}
}

// result closes the turn: the deliveries that are outstanding now and were not before go behind the other effects.
func (t *turn) result() Result {
	r := t.out
	if !r.Needs.None() {
		return Result{Needs: r.Needs}
	}
	for _, o := range rpc.Deliveries(t.before, t.device) {
		d := Deliver{Device: t.cmd.Device, Delivery: o}
		if b, ok := t.bodies[o.Call.ID]; ok {
			d.Body = &b
		}
		r.Effects = append(r.Effects, d)
	}
	r.after, r.runs = t.device, t.runs
	return r
}

func (t *turn) findRun(id uuid.UUID) (Run, bool) {
	if run, ok := t.runs[id]; ok {
		return run, true
	}
	return t.env.Run(id)
}

func (t *turn) log(logs []nodes.Log) {
	for _, l := range logs {
		t.effect(LogLine{Device: t.cmd.Device, Text: l.Text})
	}
}

func chainName(p *chains.Program) string { return fmt.Sprintf("%s@%d", p.ID, p.Version) }
