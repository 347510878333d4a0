package httpdevice

import (
	"time"

	"github.com/google/uuid"

	"callchain/transports"
	"callchain/transports/internal/devicejson"
)

// link is how the engine reaches a device that polls.
type link struct {
	d       *device
	session uuid.UUID
}

// Send gives a command to the polls that wait. What must not leave any more is reported from a goroutine of its own, because the engine
// may be in the middle of Send; and polls that still wait ask for the next call.
func (l link) Send(c transports.Command) {
	why := l.d.give(l.session, c)
	if why == "" {
		return
	}
	s := l.d.s
	s.count.commandsRefused.Add(1)
	go func() {
		s.in.Failed(l.session, c.Call, why)
		time.AfterFunc(s.cfg.Retry, l.d.again)
	}()
}

// Respond has nothing to answer: a device's own calls come in secondary sessions.
func (link) Respond(transports.Response) {}

// AnswerAttributes has nothing to answer either.
func (link) AnswerAttributes(transports.AttributesAnswer) {}

// PushAttributes answers the polls that wait for changes. A device that does not poll hears nothing of a change, as with ThingsBoard.
func (l link) PushAttributes(changed map[string][]byte, gone []string) {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if l.d.session != l.session || len(changed)+len(gone) == 0 || len(l.d.waiting[forUpdates]) == 0 {
		return
	}
	a := answer{status: 200, body: devicejson.AttributesUpdate(changed, gone)}
	for _, p := range l.d.waiting[forUpdates] {
		p.result <- a
	}
	l.d.waiting[forUpdates] = nil
}

// Close ends the session. Polls are answered as ThingsBoard does; only those of a device that has connected elsewhere wait on, because
// they would come back at once and take the session back, in turns for ever.
func (l link) Close(why transports.Reason) {
	l.d.mu.Lock()
	if l.d.session != l.session {
		l.d.mu.Unlock()
		return
	}
	l.d.drop()
	switch why {
	case transports.ReasonTakenOver:
	case transports.ReasonDeviceDeleted:
		l.d.answerAll(deleted)
	default:
		l.d.answerAll(timeOver)
	}
	l.d.mu.Unlock()
	go l.d.s.in.Disconnect(l.session, string(why)) // the engine may be in the middle of Close
}

// inquiry is the link of a secondary session: it brings the one answer that the request waits for.
type inquiry struct {
	result chan answer // holds one
}

func newInquiry() inquiry { return inquiry{make(chan answer, 1)} }

func (i inquiry) tell(a answer) {
	select {
	case i.result <- a:
	default: // answered already
	}
}

// Send has no place here: no calls come to a secondary session.
func (inquiry) Send(transports.Command) {}

// Respond brings the answer to the device's call.
func (i inquiry) Respond(r transports.Response) { i.tell(answer{status: 200, body: r.Body}) }

// AnswerAttributes brings the values that the device asked for.
func (i inquiry) AnswerAttributes(a transports.AttributesAnswer) {
	i.tell(answer{status: 200, body: devicejson.AttributesAnswer(a)})
}

// PushAttributes has no place here either.
func (inquiry) PushAttributes(map[string][]byte, []string) {}

// Close ends the wait.
func (i inquiry) Close(why transports.Reason) {
	if why == transports.ReasonDeviceDeleted {
		i.tell(deleted)
		return
	}
	i.tell(timeOver)
}
