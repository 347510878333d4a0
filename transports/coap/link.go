package coap

import (
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"callchain/transports"
	"callchain/transports/internal/devicejson"
)

// link is how the engine reaches the device. Its methods only queue, or write one datagram.
type link struct{ o *session }

// Send queues a command for who observes calls.
func (l link) Send(c transports.Command) {
	l.o.enqueue(&outgoing{
		payload: devicejson.NumberedCommand(c.Wire, c.Method, c.Params), command: true, call: c.Call, wire: c.Wire,
		attempt: c.Attempt, deadline: c.Deadline, epoch: c.Epoch,
	})
}

// Respond answers a call of the device with 2.05.
func (l link) Respond(r transports.Response) {
	if p := l.o.answered(r.Request); p != nil {
		p.r.answer(content(r.Body))
	}
}

// AnswerAttributes answers with the values, with 4.04 if there are none, as ThingsBoard does. Who observes is told the shared
// ones, and that there are none with {}.
func (l link) AnswerAttributes(a transports.AttributesAnswer) {
	p := l.o.answered(a.Request)
	if p == nil {
		return
	}
	answer := content(devicejson.AttributesAnswer(a))
	switch {
	case p.observe != nil:
		l.o.greeting.Lock()
		defer l.o.greeting.Unlock()
		l.o.mu.Lock()
		held := l.o.attrs == p.observe
		if held {
			answer.observe = int64(p.observe.seq)
		}
		l.o.mu.Unlock()
		p.r.answer(answer)
		if held { // else it was cancelled before it began
			l.o.begins(p.observe)
		}
		return
	case len(a.Client)+len(a.Shared) == 0:
		answer = reply(codes.NotFound)
	}
	p.r.answer(answer)
}

// PushAttributes queues changes of shared attributes for who observes them.
func (l link) PushAttributes(changed map[string][]byte, deleted []string) {
	if len(changed)+len(deleted) > 0 {
		l.o.enqueue(&outgoing{payload: devicejson.AttributesUpdate(changed, deleted)})
	}
}

// Close ends the session; who observes is told with a last message.
func (l link) Close(r transports.Reason) {
	l.o.mu.Lock()
	defer l.o.mu.Unlock()
	if !l.o.ended {
		l.o.code = farewellCode(r)
	}
	l.o.stopLocked(string(r))
}

// farewellCode tells an observer why it is one no longer. Any code without the Observe option ends an observation (RFC 7641, section
// 4.2); 2.02 is what ThingsBoard sends to one that was replaced.
func farewellCode(r transports.Reason) codes.Code {
	switch r {
	case transports.ReasonTakenOver:
		return codes.Deleted
	case transports.ReasonCredentials:
		return codes.Unauthorized
	case transports.ReasonDeviceDeleted:
		return codes.NotFound
	case transports.ReasonDeliveryTimeout, transports.ReasonShutdown, transports.ReasonNodeLost, transports.ReasonRefused:
		return codes.ServiceUnavailable
	}
	return codes.ServiceUnavailable
}
