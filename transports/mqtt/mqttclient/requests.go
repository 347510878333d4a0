package mqttclient

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/mochi-mqtt/server/v2/packets"

	"callchain/transports/internal/mqttwire"
)

// ErrNoID: all 65,535 packet ids wait for their acknowledgement.
var ErrNoID = errors.New("no packet id is free")

// outMax bounds what waits to be written, in bytes; over it callers wait.
const outMax = 1 << 20

// Filter is a topic filter with the QoS asked for.
type Filter struct {
	Topic string
	QoS   byte
}

// Publish sends a message. With QoS 1 acked, which may be nil, is called with the reason code of the PUBACK, or with the error that
// ended the connection before it. With QoS 0 acked is not called. It fails with ErrNoID or with what ended the connection.
func (c *Client) Publish(topic string, payload []byte, qos byte, acked func(code byte, err error)) error {
	return c.publish(mqttwire.Message{Topic: []byte(topic), Payload: payload, QoS: qos}, acked)
}

// PublishWith does the same with a user property of MQTT 5.
func (c *Client) PublishWith(name, value, topic string, payload []byte, qos byte, acked func(code byte, err error)) error {
	m := mqttwire.Message{Topic: []byte(topic), Payload: payload, QoS: qos}
	m.Properties = mqttwire.AppendString(mqttwire.AppendString([]byte{packets.PropUser}, name), value)
	return c.publish(m, acked)
}

func (c *Client) publish(m mqttwire.Message, acked func(code byte, err error)) error {
	if m.QoS > 0 {
		var err error
		m.ID, err = c.expect(mqttwire.Puback, func(codes []byte, err error) {
			if acked != nil && err != nil {
				acked(0, err)
			} else if acked != nil {
				acked(codes[0], nil)
			}
		})
		if err != nil {
			return err
		}
	}
	return c.writeWith(func(b []byte) []byte { return mqttwire.AppendMessage(b, m, c.opts.Version) })
}

// Ack acknowledges a message by its packet id; codes other than 0 need MQTT 5.
func (c *Client) Ack(id uint16, code byte) {
	var space [5]byte
	c.write(mqttwire.AppendAck(space[:0], id, code, c.opts.Version))
}

// Subscribe waits for SUBACK and returns its codes, one for each filter: the granted QoS, or 0x80 and more for a refusal.
func (c *Client) Subscribe(ctx context.Context, filters ...Filter) ([]byte, error) {
	return c.request(ctx, packets.Subscribe, mqttwire.Suback, filters)
}

// Unsubscribe waits for UNSUBACK and returns its codes; before MQTT 5 there are none.
func (c *Client) Unsubscribe(ctx context.Context, topics ...string) ([]byte, error) {
	filters := make([]Filter, len(topics))
	for i, t := range topics {
		filters[i].Topic = t
	}
	return c.request(ctx, packets.Unsubscribe, mqttwire.Unsuback, filters)
}

func (c *Client) request(ctx context.Context, kind, answer byte, filters []Filter) ([]byte, error) {
	type result struct {
		codes []byte
		err   error
	}
	got := make(chan result, 1)
	id, err := c.expect(answer, func(codes []byte, err error) { got <- result{codes, err} })
	if err != nil {
		return nil, err
	}
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: kind, Qos: 1}, ProtocolVersion: c.opts.Version, PacketID: id}
	for _, f := range filters {
		pk.Filters = append(pk.Filters, packets.Subscription{Filter: f.Topic, Qos: f.QoS})
	}
	encoder := pk.SubscribeEncode
	if kind == packets.Unsubscribe {
		encoder = pk.UnsubscribeEncode
	}
	var b bytes.Buffer
	if err := encoder(&b); err != nil {
		return nil, fmt.Errorf("encoding %s: %w", packets.PacketNames[kind], err)
	}
	c.write(b.Bytes())
	select {
	case r := <-got:
		return r.codes, r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the answer to %s: %w", packets.PacketNames[kind], ctx.Err())
	}
}

// expect notes who waits for the answer to a new packet id.
func (c *Client) expect(kind byte, done func([]byte, error)) (uint16, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	if c.waiting == nil {
		c.waiting = map[uint16]waiter{}
	}
	if len(c.waiting) >= 65535 {
		return 0, ErrNoID
	}
	for {
		c.lastID++
		if _, used := c.waiting[c.lastID]; !used && c.lastID != 0 {
			c.waiting[c.lastID] = waiter{kind, done}
			return c.lastID, nil
		}
	}
}

func (c *Client) answered(kind byte, id uint16, codes []byte) {
	c.mu.Lock()
	w, ok := c.waiting[id]
	if ok = ok && w.kind == kind; ok {
		delete(c.waiting, id)
	}
	c.mu.Unlock()
	if ok {
		w.done(codes, nil)
	}
}

func (c *Client) filtersAnswered(kind byte, body []byte) error {
	if len(body) < 2 {
		return fmt.Errorf("%w: no packet identifier", mqttwire.ErrMalformed)
	}
	id, rest := binary.BigEndian.Uint16(body), body[2:]
	if c.opts.Version == V5 {
		var ok bool
		if _, rest, ok = mqttwire.CutProperties(rest); !ok {
			return fmt.Errorf("%w: properties", mqttwire.ErrMalformed)
		}
	}
	c.answered(kind, id, slices.Clone(rest))
	return nil
}

func (c *Client) sendPing() {
	if !c.heard.Swap(false) {
		c.end(ErrSilent)
		return
	}
	c.write([]byte{mqttwire.Pingreq << 4, 0})
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.ping.Reset(c.opts.KeepAlive)
	}
}

// write sends b; an error ends the connection, which tells it to all who wait.
func (c *Client) write(b []byte) {
	// The error is what ended the connection; Err keeps it.
	_ = c.writeWith(func(out []byte) []byte { return append(out, b...) })
}

// writeWith lets add encode onto what waits. Who finds nobody writing writes for all until nothing waits.
func (c *Client) writeWith(add func([]byte) []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.out) > outMax && c.err == nil && c.writing {
		c.room.Wait()
	}
	if c.err != nil {
		return c.err
	}
	c.out = add(c.out)
	if c.writing || c.corked && len(c.out) <= outMax {
		return nil
	}
	return c.flush()
}

func (c *Client) cork(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.corked = on; !on && !c.writing {
		// The error is kept in c.err, and the reader meets it next.
		_ = c.flush()
	}
}

// flush writes with mu released meanwhile.
func (c *Client) flush() error {
	c.writing = true
	for len(c.out) > 0 && c.err == nil {
		b := c.out
		c.out = c.spare[:0]
		c.mu.Unlock()
		_, err := c.nc.Write(b)
		c.mu.Lock()
		if c.spare = b[:0]; cap(b) > 4096 {
			c.spare = nil
		}
		if err != nil && c.err == nil {
			c.err = fmt.Errorf("writing: %w", err)
			_ = c.nc.Close() // the write error is the one to tell
		}
		c.room.Broadcast()
	}
	c.writing = false
	return c.err
}
