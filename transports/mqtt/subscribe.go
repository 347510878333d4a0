package mqtt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/mochi-mqtt/server/v2/packets"

	"callchain/transports"
	"callchain/transports/internal/mqttwire"
)

// subscription is what a device was granted for one filter.
type subscription struct {
	qos byte
	id  uint32 // subscription identifier of MQTT 5, 0 if none
}

// subscriptions has a place for each known filter, so a session cannot have more than those.
type subscriptions struct {
	granted [purposes][families]subscription
	held    [purposes][families]bool
}

func (s *subscriptions) of(t topic) (subscription, bool) {
	return s.granted[t.purpose][t.family], s.held[t.purpose][t.family]
}

// commands says whether any filter for commands is held, and the family of the last in the table.
func (s *subscriptions) commands() (f family, any bool) {
	for i, held := range s.held[forCommands] {
		if held {
			f, any = family(i), true
		}
	}
	return f, any
}

// subscribe handles SUBSCRIBE: each filter is granted, QoS 1 at most, or refused by itself ([MQTT-3.8.4-6]). If one of them is
// for commands, SUBACK waits until the engine counts the device as reachable.
func (c *conn) subscribe(header byte, body []byte) error {
	id, subID, rest, err := c.filterList(header, body)
	if err != nil {
		return err
	}
	var (
		codes    []byte
		commands []int // positions of granted filters for commands
	)
	for len(rest) > 0 {
		filter, tail, ok := mqttwire.CutString(rest)
		if !ok || len(tail) == 0 || tail[0]&3 == 3 || c.version != mqttwire.V5 && tail[0] > 2 || !utf8.Valid(filter) {
			return violation(codeMalformed, "malformed SUBSCRIBE") // [MQTT-3.8.3-1], [MQTT-3.8.3-4]
		}
		t, known := filters[string(filter)]
		if known && t.purpose == forCommands {
			commands = append(commands, len(codes))
		}
		codes = append(codes, c.grant(t, known, subscription{min(tail[0]&3, 1), subID}))
		rest = tail[1:]
	}
	if len(codes) == 0 {
		return violation(codeProtocolError, "a SUBSCRIBE without filters") // [MQTT-3.8.3-3]
	}
	if len(commands) == 0 {
		c.suback(id, codes)
		return nil
	}
	if c.take() {
		c.srv.in.Subscribe(c.id, func(err error) { c.subscribed(id, codes, commands, err) })
	}
	return nil
}

// grant notes a subscription and returns its code.
func (c *conn) grant(t topic, known bool, s subscription) byte {
	if !known {
		if c.version == mqttwire.V5 {
			return codeFilterInvalid
		}
		return codeUnspecified // [MQTT-3.9.3-2]: the one failure of 3.1.1
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subs.granted[t.purpose][t.family], c.subs.held[t.purpose][t.family] = s, true
	if t.purpose == forCommands || t.purpose == forAttributes {
		c.last[t.purpose] = t.family // the last subscription decides the topics
	}
	return s.qos
}

// subscribed sends SUBACK once the engine has judged a subscription for commands.
func (c *conn) subscribed(id uint16, codes []byte, commands []int, err error) {
	c.giveBack()
	if err != nil {
		c.log.Info("mqtt: a subscription was not accepted", "session", c.id, "error", err)
		code := codeUnspecified
		if c.version == mqttwire.V5 && errors.Is(err, transports.ErrBusy) {
			code = codeQuota
		}
		for _, i := range commands {
			codes[i] = code
		}
		c.mu.Lock()
		c.subs.held[forCommands] = [families]bool{}
		c.mu.Unlock()
	}
	c.suback(id, codes)
}

func (c *conn) suback(id uint16, codes []byte) {
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Suback}, ProtocolVersion: c.version, PacketID: id, ReasonCodes: codes,
	}
	c.control(encode(pk.SubackEncode, &pk))
}

// unsubscribe handles UNSUBSCRIBE. When no filter for commands is left, UNSUBACK waits for the engine.
func (c *conn) unsubscribe(header byte, body []byte) error {
	id, _, rest, err := c.filterList(header, body)
	if err != nil {
		return err
	}
	var (
		codes    []byte
		commands bool
	)
	for len(rest) > 0 {
		filter, tail, ok := mqttwire.CutString(rest)
		if !ok || !utf8.Valid(filter) {
			return violation(codeMalformed, "malformed UNSUBSCRIBE") // [MQTT-3.10.3-1]
		}
		t, known := filters[string(filter)]
		held := known && c.revoke(t)
		commands = commands || held && t.purpose == forCommands
		code := codeNoSubscription
		if held {
			code = codeSuccess
		}
		codes, rest = append(codes, code), tail
	}
	if len(codes) == 0 {
		return violation(codeProtocolError, "an UNSUBSCRIBE without filters") // [MQTT-3.10.3-2]
	}
	if !commands || c.anyCommands() {
		c.unsuback(id, codes)
		return nil
	}
	if c.take() {
		c.srv.in.Unsubscribe(c.id, func(error) {
			c.giveBack()
			c.unsuback(id, codes) // the device gets no more commands, whatever the engine makes of it
		})
	}
	return nil
}

func (c *conn) revoke(t topic) (held bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	held = c.subs.held[t.purpose][t.family]
	c.subs.held[t.purpose][t.family] = false
	if f, any := c.subs.commands(); any && t.purpose == forCommands {
		c.last[forCommands] = f
	}
	return held
}

func (c *conn) anyCommands() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, any := c.subs.commands()
	return any
}

func (c *conn) unsuback(id uint16, codes []byte) {
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Unsuback}, ProtocolVersion: c.version, PacketID: id, ReasonCodes: codes,
	}
	c.control(encode(pk.UnsubackEncode, &pk))
}

// filterList reads what SUBSCRIBE and UNSUBSCRIBE have before their filters.
func (c *conn) filterList(header byte, body []byte) (id uint16, subID uint32, rest []byte, err error) {
	if header&0x0f != 2 || len(body) < 2 { // [MQTT-3.8.1-1], [MQTT-3.10.1-1]
		return 0, 0, nil, violation(codeMalformed, "malformed header of SUBSCRIBE or UNSUBSCRIBE")
	}
	id, rest = binary.BigEndian.Uint16(body), body[2:]
	if id == 0 {
		return 0, 0, nil, violation(codeProtocolError, "packet identifier 0") // [MQTT-2.3.1-1]
	}
	if c.version != mqttwire.V5 {
		return id, 0, rest, nil
	}
	props, rest, ok := mqttwire.CutProperties(rest)
	if !ok {
		return 0, 0, nil, violation(codeMalformed, "malformed properties")
	}
	p, err := parseProperties(header>>4, props)
	if err != nil {
		return 0, 0, nil, err
	}
	if ids := p.SubscriptionIdentifier; len(ids) > 0 {
		subID = uint32(ids[0])
	}
	return id, subID, rest, nil
}

// parseProperties decodes the properties of a packet of MQTT 5, given without their length.
func parseProperties(kind byte, encoded []byte) (packets.Properties, error) {
	var p packets.Properties
	if len(encoded) == 0 {
		return p, nil
	}
	b := append(mqttwire.AppendLength(make([]byte, 0, len(encoded)+4), len(encoded)), encoded...)
	if n, err := p.Decode(kind, bytes.NewBuffer(b)); err != nil || n != len(b) {
		return p, violation(codeMalformed, fmt.Sprintf("malformed properties: %v", err))
	}
	return p, nil
}
