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
	state  *State
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

func newTurn(s *State, env Env, cmd Command) *turn {
	t := &turn{state: s, env: env, cmd: cmd, hops: cmd.Hops}
	d, ok := s.Devices[cmd.Device]
	if !ok {
		d.ID = cmd.Device
	}
	d.Settings = env.Info.Settings
	t.before, t.device = d, d
	return t
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

// decide puts a command of the life cycle to the device and takes its events over.
func (t *turn) decide(do rpc.Action) error {
	return t.decideAs(t.cmd.Meta, do)
}

func (t *turn) decideAs(meta rpc.Meta, do rpc.Action) error {
	meta.Hops = t.hops
	events, err := rpc.Decide(t.device, rpc.Command{Meta: meta, Do: do})
	for _, e := range events {
		t.take(e)
	}
	return err
}

// take applies one event and notes what follows from it.
func (t *turn) take(e rpc.Event) {
	if e.Call == uuid.Nil {
		t.device = rpc.Evolve(t.device, e)
		t.out.Events = append(t.out.Events, Event{Stream: Stream{Kind: DeviceStream, ID: t.cmd.Device}, Event: e})
		if f, ok := e.Fact.(rpc.SessionClosed); ok {
			t.effect(CloseSession{Session: f.Session, Why: f.Why})
		}
		return
	}
	var was rpc.Call
	if c := t.device.Find(e.Call); c != nil {
		was = *c
	} else if _, begins := e.Fact.(rpc.Requested); !begins {
		was = t.past(e.Call)
	}
	was.ID = e.Call
	is := rpc.EvolveCall(was, e, t.device.Settings)
	t.device = rpc.Evolve(t.device, e)
	t.out.Events = append(t.out.Events, Event{Stream: Stream{Kind: CallStream, ID: e.Call}, Event: e})
	t.remember(e)
	t.changedCall(is)
	t.queue = append(t.queue, consequence{event: e, was: was, is: is})
}

// past is a call that is not open: it ended in this turn, or before.
func (t *turn) past(call uuid.UUID) rpc.Call {
	for i := range t.out.Calls {
		if t.out.Calls[i].ID == call {
			return t.out.Calls[i]
		}
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

// remember keeps the body of a call whose events pass by, as far as it is known here.
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

// settle draws the consequences of the facts until none is left: answers, resumed runs, life-cycle messages.
func (t *turn) settle() {
	for len(t.queue) > 0 {
		c := t.queue[0]
		t.queue = t.queue[1:]
		t.hops = c.event.Hops
		t.answer(c)
		if t.out.Needs != nil || t.out.NeedBodies != nil {
			return
		}
		t.announce(c)
		t.resumeCaller(c)
	}
}

// answer tells those who wait for the call or for its answer.
func (t *turn) answer(c consequence) {
	if c.is.Direction == rpc.FromDevice {
		t.respond(c)
		return
	}
	switch f := c.event.Fact.(type) {
	case rpc.Queued:
		if c.is.Persistent && !f.Again {
			t.effect(Settle{Call: c.is.ID, Phase: rpc.PhaseQueued})
		}
	case rpc.Succeeded:
		t.effect(Settle{Call: c.is.ID, Phase: rpc.PhaseSucceeded, Response: f.Response})
	case rpc.Failed:
		t.effect(Settle{Call: c.is.ID, Phase: rpc.PhaseFailed, Code: f.Code, Detail: f.Detail})
	case rpc.Rejected:
		t.effect(Settle{Call: c.is.ID, Phase: rpc.PhaseRejected, Code: f.Code, Detail: f.Detail})
	case rpc.Expired, rpc.Cancelled:
		t.effect(Settle{Call: c.is.ID, Phase: c.is.Phase, Code: c.is.Reason})
	}
}

// respond answers the device that made the call; one that nobody answered gets ThingsBoard's error at the deadline
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
	t.effect(Respond{Session: c.is.Session, Request: c.is.Wire, Body: body})
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
		t.effect(DeadLetter{Reason: "causation_loop", Detail: fmt.Sprintf("life-cycle facts of call %s re-entered the chain more than %d times", c.is.ID, HopsMax)})
		return
	}
	t.hops++
	t.run(t.env.Info.Chain, nodes.Msg{
		ID: t.env.NewID(), TS: t.cmd.At.Millis(), Now: int64(t.cmd.At), Type: c.is.Status.Message(),
		Originator: nodes.Entity{Type: nodes.Device, ID: t.cmd.Device}, Metadata: nodes.Metadata{},
		Data: nodes.Lazy(func() ([]byte, error) { return t.record(c) }),
	}, uuid.Nil)
	t.hops--
}

// showing tells whether a fact is one that ThingsBoard would have stored.
func showing(f rpc.Fact) bool {
	switch f.(type) {
	case rpc.Queued, rpc.Sent, rpc.Delivered, rpc.DeliveryFailed, rpc.Succeeded, rpc.Failed, rpc.Expired, rpc.Cancelled, rpc.Removed, rpc.Rejected:
		return true
	}
	return false
}

var errNotAtHand = errors.New("the call's body is not at hand")

// record is the data of a life-cycle message: ThingsBoard's JSON of the call.
func (t *turn) record(c consequence) ([]byte, error) {
	b, ok := t.bodies[c.is.ID]
	if !ok {
		if b, ok = t.env.Body(c.is.ID); !ok {
			t.out.NeedBodies = append(t.out.NeedBodies, c.is.ID)
			return nil, errNotAtHand
		}
		b = rpc.EvolveBody(b, c.event.Fact)
	}
	return rpc.AppendRecord(nil, t.cmd.Tenant, t.cmd.Device, &c.is, &b), nil
}

// resumeCaller lets the run go on that waits for the end of the call.
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
	if r.Needs != nil || r.NeedBodies != nil {
		return Result{Needs: r.Needs, NeedBodies: r.NeedBodies}
	}
	for _, o := range rpc.Deliveries(t.before, t.device) {
		d := Deliver{Device: t.cmd.Device, Delivery: o}
		if b, ok := t.bodies[o.Call.ID]; ok {
			d.Body = &b
		}
		r.Effects = append(r.Effects, d)
	}
	r.device, r.after, r.runs = t.cmd.Device, t.device, t.runs
	return r
}

func (t *turn) findRun(id uuid.UUID) (Run, bool) {
	if run, ok := t.runs[id]; ok {
		return run, true
	}
	run, ok := t.state.Runs[id]
	return run, ok
}

func (t *turn) log(logs []nodes.Log) {
	for _, l := range logs {
		t.effect(LogLine{Device: t.cmd.Device, Text: l.Text})
	}
}

func chainName(p *chains.Program) string { return fmt.Sprintf("%s@%d", p.ID, p.Version) }
