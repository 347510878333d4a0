package rpc

import (
	"fmt"
	"math"
	"slices"

	"github.com/google/uuid"
)

// Decide applies a command to the state of its device. It returns the events that follow and the state after them, or a *Refusal, in
// which case nothing happens. No events and no error mean that there is nothing to do: the command was a repetition or came too late.
func Decide(d Device, cmd Command) ([]Event, Device, error) {
	w := &draft{device: d, meta: cmd.Meta, now: cmd.Now}
	if err := w.decide(cmd.Do); err != nil {
		return nil, d, err
	}
	return w.events, w.device, nil
}

// draft collects the events of one command. Later events of the same command see the earlier ones applied.
type draft struct {
	device Device
	meta   Meta
	now    Instant
	events []Event
}

func (w *draft) emit(call uuid.UUID, f Fact) {
	e := Event{Meta: w.meta, Call: call, Fact: f}
	w.events = append(w.events, e)
	w.device = Evolve(w.device, e)
}

func (w *draft) decide(do Action) error {
	switch a := do.(type) {
	case Request:
		return w.request(a)
	case Dispatch:
		return w.dispatch(a)
	case Reject:
		return w.reject(a)
	case Written:
		w.written(a)
	case Acknowledged:
		w.acknowledged(a)
	case SendFailed:
		w.sendFailed(a)
	case Reply:
		w.reply(a)
	case Answer:
		return w.answer(a)
	case Cancel:
		return w.cancel(a.Call)
	case Remove:
		return w.remove(a)
	case Tick:
		w.tick(a.Call)
	case Recover:
		w.recover(a)
	default:
		return w.session(do)
	}
	return nil
}

func (w *draft) request(a Request) error {
	if c := w.device.Find(a.ID); c != nil {
		if c.Content == a.Content {
			return nil
		}
		return refuse(CodeKnown, "call %s was made with other content", a.ID)
	}
	if n := w.device.Open.Len() + w.device.Asked.Len(); n >= w.device.Settings.MaxOpen {
		return refuse(CodeTooManyOpen, "the device has %d open calls, the most allowed; wait, cancel some or raise limits.open_calls", n)
	}
	w.emit(a.ID, Requested{
		Direction: a.Direction, Method: a.Method, Params: a.Params, Oneway: a.Oneway, Persistent: a.Persistent,
		Waiting: a.Waiting, Expires: a.Expires, Retries: a.Retries, Order: a.Order, Info: a.Info, Content: a.Content[:],
		Session: a.Session, Request: a.Request,
	})
	if a.Expires <= w.now {
		w.emit(a.ID, Expired{})
	}
	return nil
}

func (w *draft) dispatch(a Dispatch) error {
	c := w.device.Find(a.Call)
	switch {
	case c == nil || c.Direction != ToDevice:
		return refuse(CodeEnded, "call %s is not open", a.Call)
	case c.Phase != PhaseRequested:
		return refuse(CodeDispatched, "call %s was dispatched before", a.Call)
	case c.Expires <= w.now:
		w.emit(c.ID, Expired{Offline: true})
		return nil
	case a.FailOffline && !w.device.Session.takesCalls():
		w.emit(c.ID, Rejected{Code: CodeOffline})
		return nil
	}
	w.emit(c.ID, Queued{Wire: w.device.freeWire(), Method: a.Method, Params: a.Params, Run: a.Run})
	return nil
}

// freeWire is the next wire id that no open call has. Ids are decimal int32 on the wire, as ThingsBoard's devices parse them.
func (d *Device) freeWire() int32 {
	wire := d.NextWire
	for d.ByWire(wire) != nil {
		wire = wireAfter(wire)
	}
	return wire
}

func wireAfter(wire int32) int32 {
	if wire == math.MaxInt32 {
		return 0
	}
	return wire + 1
}

func (w *draft) reject(a Reject) error {
	c := w.device.Find(a.Call)
	if c == nil || c.Phase != PhaseRequested {
		return nil // it was dispatched, or has ended otherwise
	}
	w.emit(c.ID, Rejected{Code: a.Code, Detail: a.Detail})
	return nil
}

func (w *draft) written(a Written) {
	c := w.device.Find(a.Call)
	if c == nil || c.Direction != ToDevice || a.Attempt <= c.Written || c.Phase < PhaseQueued {
		return
	}
	w.emit(c.ID, Sent{Session: a.Session, Attempt: a.Attempt, Ack: a.Ack})
	if !a.Ack {
		w.delivered(c.ID, "written")
	}
}

func (w *draft) acknowledged(a Acknowledged) {
	if c := w.device.Find(a.Call); c != nil && c.Direction == ToDevice && c.Phase >= PhaseQueued {
		w.delivered(c.ID, a.Evidence)
	}
}

// delivered notes that the device has the command; a one-way call has then reached its end.
func (w *draft) delivered(call uuid.UUID, evidence string) {
	c := w.device.Find(call)
	if c.Phase < PhaseDelivered {
		w.emit(call, Delivered{Evidence: evidence})
	}
	if c.Oneway {
		w.emit(call, Succeeded{})
	}
}

func (w *draft) sendFailed(a SendFailed) {
	c := w.device.Find(a.Call)
	if c == nil || c.Session != a.Session || c.Phase < PhaseQueued || c.Phase >= PhaseDelivered {
		return
	}
	if a.Permanent {
		w.emit(c.ID, Failed{Code: CodeTransport, Detail: a.Detail})
		return
	}
	w.attemptFailed(c, CodeTransport)
}

// attemptFailed follows ThingsBoard (DeviceActorMessageProcessor.processRpcResponseStatus, TIMEOUT): N retries are N+1
// attempts; when they are used up the call fails, or the session is closed and the call waits for the next one.
func (w *draft) attemptFailed(c *Call, reason Code) {
	s := w.device.Settings
	most := s.MaxRetries
	if c.Retries >= 0 {
		most = min(most, int(c.Retries))
	}
	failed := DeliveryFailed{Attempt: c.Attempt, Reason: reason}
	switch {
	case int(c.Failures) < most:
		if s.Backoff > 0 {
			failed.RetryAt = w.now.Add(s.Backoff << min(int(c.Failures), 16))
		}
		w.emit(c.ID, failed)
	case s.CloseOnTimeout:
		failed.Requeue = true
		w.emit(c.ID, failed)
		if w.device.Session.ID != uuid.Nil {
			w.emit(uuid.Nil, SessionClosed{Session: w.device.Session.ID, Why: "rpc_delivery_timeout"})
		}
	default:
		w.emit(c.ID, Failed{Code: CodeDeliveryTimeout, Detail: fmt.Sprintf(
			"There was a Timeout and all retry attempts have been exhausted. Retry attempts set: %d", most)})
	}
}

func (w *draft) reply(a Reply) {
	c := w.device.ByWire(a.Wire)
	if c == nil {
		if a.Late != uuid.Nil {
			w.emit(a.Late, AnsweredLate{Response: a.Response})
		}
		return
	}
	if c.Phase < PhaseDelivered {
		w.emit(c.ID, Delivered{Evidence: "answer"})
	}
	w.emit(c.ID, Succeeded{Response: a.Response})
}

func (w *draft) answer(a Answer) error {
	for c := range w.device.Asked.withWire(a.Request) {
		if c.Session == a.Session {
			w.emit(c.ID, Succeeded{Response: a.Body})
			return nil
		}
	}
	return refuse(CodeEnded, "no call %d of session %s waits for an answer", a.Request, a.Session)
}

func (w *draft) cancel(call uuid.UUID) error {
	if w.device.Find(call) == nil {
		return refuse(CodeEnded, "call %s has ended", call)
	}
	w.emit(call, CancelRequested{})
	w.emit(call, Cancelled{})
	return nil
}

func (w *draft) remove(a Remove) error {
	if w.device.Find(a.Call) != nil {
		w.emit(a.Call, CancelRequested{})
		w.emit(a.Call, Cancelled{})
	} else if !a.Ended {
		return refuse(CodeUnknown, "there is no call %s", a.Call)
	}
	w.emit(a.Call, Removed{})
	return nil
}

func (w *draft) tick(call uuid.UUID) {
	c := w.device.Find(call)
	if c == nil {
		return
	}
	due := func(at Instant) bool { return at != 0 && at <= w.now }
	switch {
	case due(c.Expires):
		w.emit(c.ID, Expired{Offline: c.Direction == ToDevice && c.Written == 0})
	case due(c.AnswerDue):
		w.emit(c.ID, Failed{Code: CodeAnswerTimeout, Detail: "There was a timeout awaiting for RPC response from device."})
	case due(w.device.ackDue(c)):
		w.attemptFailed(c, CodeNoAck)
	case due(c.RetryAt):
		w.emit(c.ID, Queued{Wire: c.Wire, Run: c.Run, Again: true})
	}
}

// recover ends the light calls that were not sent and have no caller left. Those that were sent may still be
// answered, and a parked run is a caller that survives.
func (w *draft) recover(a Recover) {
	for c := range w.device.Open.All() {
		if c.Persistent || !c.Waiting || c.Written > 0 || c.Run != uuid.Nil || slices.Contains(a.Keep, c.ID) {
			continue
		}
		if c.Phase == PhaseRequested {
			w.emit(c.ID, Rejected{Code: CodeCallerGone})
		} else {
			w.emit(c.ID, Failed{Code: CodeCallerGone})
		}
	}
}
