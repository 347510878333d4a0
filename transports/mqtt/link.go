package mqtt

import (
	"callchain/transports"
	"callchain/transports/internal/devicejson"
)

// link is how the engine reaches the device. Its methods only queue.
type link struct{ c *conn }

// Send queues a command on the topics of the last RPC subscription, with the QoS of that subscription, else 1.
func (l link) Send(cmd transports.Command) {
	l.publish(forCommands, &message{
		id: cmd.Wire, payload: devicejson.Command(cmd.Method, cmd.Params), command: true, call: cmd.Call,
		attempt: cmd.Attempt, deadline: cmd.Deadline, epoch: cmd.Epoch, trace: cmd.Trace,
	})
}

// Respond queues the answer to a call of the device, on the topics of its last call; the device need not have subscribed.
func (l link) Respond(r transports.Response) {
	l.publish(forAnswers, &message{id: r.Request, payload: r.Body})
}

// AnswerAttributes queues the values that the device asked for.
func (l link) AnswerAttributes(a transports.AttributesAnswer) {
	l.publish(forAttributesAnswers, &message{id: a.Request, payload: devicejson.AttributesAnswer(a)})
}

// PushAttributes queues changes of shared attributes if the device has subscribed to them.
func (l link) PushAttributes(changed map[string][]byte, deleted []string) {
	l.c.mu.Lock()
	_, subscribed := l.c.subs.of(topic{forAttributes, l.c.last[forAttributes]})
	l.c.mu.Unlock()
	if subscribed && len(changed)+len(deleted) > 0 {
		l.publish(forAttributes, &message{payload: devicejson.AttributesUpdate(changed, deleted)})
	}
}

// Close ends the session after what is on its way to the device has been written: acknowledgements, not commands.
func (l link) Close(r transports.Reason) { l.c.stop(closeCode(r), string(r)) }

func (l link) publish(p purpose, m *message) {
	l.c.mu.Lock()
	m.topic = topic{p, l.c.last[p]}
	m.qos = 1
	if s, ok := l.c.subs.of(m.topic); ok {
		m.qos, m.subID = s.qos, s.id
	}
	l.c.mu.Unlock()
	l.c.enqueue(m)
}
