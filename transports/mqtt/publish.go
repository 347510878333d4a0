package mqtt

import (
	"bytes"
	"errors"
	"slices"
	"unicode/utf8"

	"callchain/transports"
	"callchain/transports/internal/devicejson"
	"callchain/transports/internal/mqttwire"
)

// lane is what bounds a device's message.
type lane uint8

const (
	rpcLane  lane = iota // answers, calls: never dropped
	dataLane             // telemetry, attributes
)

// publish handles a PUBLISH of the device. It is acknowledged when the engine says that what it brings is durable.
func (c *conn) publish(header byte, body []byte) error {
	m, err := mqttwire.ParseMessage(header, body, c.version)
	if err != nil {
		return violation(codeMalformed, err.Error())
	}
	if m.QoS == 2 {
		return violation(codeQoSNotSupported, "a PUBLISH with QoS 2") // [MQTT-3.2.2-11] of MQTT 5
	}
	parent, err := checkProperties(m)
	if err != nil {
		return err
	}
	if m.Dup && c.working(m.ID) {
		return nil // sent again while the engine is at the first: that one's PUBACK answers both
	}
	t, number, ok := parseTopic(m.Topic)
	if !ok {
		return c.unknownTopic(m)
	}
	var id int32
	if number != nil {
		if id, ok = parseID(number); !ok {
			return c.refusePayload(m, errRequestID)
		}
	}
	switch t.purpose {
	case forAnswers:
		c.reply(m, id, c.inbound(parent))
		return nil
	case forCommands:
		return c.call(m, t.family, id, c.inbound(parent))
	default:
		return c.dataMessage(m, t, id)
	}
}

var errRequestID = errors.New("the request id in the topic is no 32-bit number")

// checkProperties refuses the properties of MQTT 5 that this server's CONNACK rules out, and answers the W3C traceparent among the user
// properties, if there is one.
func checkProperties(m mqttwire.Message) (traceparent string, err error) {
	if len(m.Properties) == 0 {
		return "", nil
	}
	p, err := parseProperties(mqttwire.Publish, m.Properties)
	switch {
	case err != nil:
		return "", err
	case p.TopicAliasFlag:
		return "", violation(codeTopicAlias, "a topic alias, though Topic Alias Maximum is 0") // [MQTT-3.3.2-9]
	case len(p.SubscriptionIdentifier) > 0:
		return "", violation(codeProtocolError, "a subscription identifier in a PUBLISH to the server") // [MQTT-3.3.4-6]
	}
	for _, u := range p.User {
		if u.Key == propTraceparent {
			return u.Val, nil
		}
	}
	return "", nil
}

// propTraceparent is the user property of MQTT 5 that holds a W3C traceparent, both ways.
const propTraceparent = "traceparent"

// inbound is the engine for a message that stands in a trace.
func (c *conn) inbound(traceparent string) transports.Inbound {
	if traced, ok := c.srv.in.(transports.Traced); ok && traceparent != "" {
		return traced.InTrace(traceparent)
	}
	return c.srv.in
}

// unknownTopic acknowledges, with 0x90 in MQTT 5, and keeps the connection, as ThingsBoard does.
func (c *conn) unknownTopic(m mqttwire.Message) error {
	if !utf8.Valid(m.Topic) || len(m.Topic) == 0 {
		return violation(codeMalformed, "a topic that is empty or not UTF-8") // [MQTT-3.3.2-1], [MQTT-4.7.3-1]
	}
	c.srv.count.payloadsRefused.Add(1)
	if m.QoS > 0 {
		c.ack(m.ID, codeTopicInvalid)
	}
	return nil
}

// refusePayload answers what cannot be read: MQTT 5 has a code for it, earlier versions lose the connection.
func (c *conn) refusePayload(m mqttwire.Message, err error) error {
	if c.version == mqttwire.V5 && m.QoS > 0 {
		c.srv.count.payloadsRefused.Add(1)
		c.ack(m.ID, codePayloadFormat)
		return nil
	}
	c.srv.count.payloadsRefused.Add(1)
	return violation(codePayloadFormat, err.Error())
}

// reply hands on the answer to a server-side call: any bytes, any family of topics, known id or not.
func (c *conn) reply(m mqttwire.Message, wire int32, in transports.Inbound) {
	if !c.take() {
		return
	}
	payload, done := bytes.Clone(m.Payload), c.begin(m, rpcLane)
	if payload == nil {
		payload = []byte{}
	}
	c.inOrder(wire, func() { in.Reply(c.id, wire, payload, done) })
}

// builtInLimits is the method that ThingsBoard's transport answers by itself on the long topics.
const builtInLimits = "getSessionLimits"

// call hands on a call of the device.
func (c *conn) call(m mqttwire.Message, f family, request int32, in transports.Inbound) error {
	method, params, err := devicejson.ParseCall(m.Payload)
	if err != nil {
		return c.refusePayload(m, err)
	}
	c.mu.Lock()
	c.last[forAnswers] = f
	c.mu.Unlock()
	if f == long && method == builtInLimits {
		if m.QoS > 0 {
			c.ack(m.ID, codeSuccess)
		}
		link{c}.Respond(transports.Response{Request: request, Body: sessionLimits(c.srv.cfg, c.gateway)})
		return nil
	}
	if !c.take() {
		return nil
	}
	params, done := bytes.Clone(params), c.begin(m, rpcLane)
	c.inOrder(noWire, func() { in.Call(c.id, request, method, params, done) })
	return nil
}

// noWire is no command's wire id; what has it is put off only to keep the device's order.
const noWire int32 = -1

// dataMessage hands on telemetry and attributes, as many at once as the engine is asked to bear. Over that, QoS 0 is dropped, and
// QoS 1 is left unacknowledged, so that the device sends it again.
func (c *conn) dataMessage(m mqttwire.Message, t topic, id int32) error {
	var client, shared []string
	var err error
	switch t.purpose {
	case forAttributesRequest:
		client, shared, err = devicejson.ParseAttributesRequest(m.Payload)
	case forTelemetry:
		err = devicejson.Check(m.Payload, true)
	default:
		err = devicejson.Check(m.Payload, false)
	}
	if err != nil {
		return c.refusePayload(m, err)
	}
	if int(c.data.Add(1)) > c.srv.cfg.DataOutstanding {
		c.data.Add(-1)
		c.leave(m.QoS)
		return nil
	}
	payload, done := bytes.Clone(m.Payload), c.begin(m, dataLane)
	switch t.purpose {
	case forAttributesRequest:
		c.mu.Lock()
		c.last[forAttributesAnswers] = t.family
		c.mu.Unlock()
		c.srv.in.RequestAttributes(c.id, id, client, shared, done)
	case forTelemetry:
		c.srv.in.Telemetry(c.id, payload, done)
	default:
		c.srv.in.Attributes(c.id, payload, done)
	}
	return nil
}

// leave counts a message that is not handed on.
func (c *conn) leave(qos byte) {
	if qos > 0 {
		c.srv.count.dataUnanswered.Add(1)
		return
	}
	c.srv.count.dataDropped.Add(1)
}

// take waits for one of the connection's tokens for answers, calls and subscriptions; false means that it is ending.
func (c *conn) take() bool {
	select {
	case c.rpc <- struct{}{}:
		return true
	default:
	}
	select {
	case c.rpc <- struct{}{}:
		return true
	case <-c.quit:
		return false
	}
}

func (c *conn) giveBack() { <-c.rpc }

// begin notes that the engine is about to work on m and returns what it has to call when it is through.
func (c *conn) begin(m mqttwire.Message, l lane) func(error) {
	id, qos := m.ID, m.QoS
	if qos > 0 {
		c.mu.Lock()
		c.unack = append(c.unack, id)
		c.mu.Unlock()
	}
	return func(err error) { c.settle(id, qos, l, err) }
}

// working says whether the engine is at a message with this packet id.
func (c *conn) working(id uint16) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.unack, id)
}

// settle ends a message of the device: durable, so it is acknowledged ([MQTT-4.3.2-2] leaves the moment to the receiver);
// never to be accepted; or not now, so it stays unacknowledged and the device sends it again.
func (c *conn) settle(id uint16, qos byte, l lane, err error) {
	if l == rpcLane {
		c.giveBack()
	} else {
		c.data.Add(-1)
	}
	if qos > 0 {
		c.mu.Lock()
		if i := slices.Index(c.unack, id); i >= 0 {
			c.unack = slices.Delete(c.unack, i, i+1)
		}
		c.mu.Unlock()
	}
	switch {
	case err == nil:
		if qos > 0 {
			c.ack(id, codeSuccess)
		}
	case errors.Is(err, transports.ErrGone):
		c.stop(codeAdministrative, err.Error())
	case errors.Is(err, transports.ErrRefused):
		c.srv.count.payloadsRefused.Add(1)
		switch {
		case qos == 0: // nothing to answer
		case c.version == mqttwire.V5:
			c.ack(id, codeImplementation)
		default:
			c.stop(codeImplementation, err.Error())
		}
	default:
		c.leave(qos)
	}
}

func (c *conn) ack(id uint16, code byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var space [5]byte
	c.controlLocked(mqttwire.AppendAck(space[:0], id, code, c.version))
}
