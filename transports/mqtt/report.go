package mqtt

import (
	"fmt"
	"time"

	"callchain/transports"
	"callchain/transports/internal/mqttwire"
)

// report tells the engine which commands left with the last write. A command whose PUBACK has come all the same has left even
// if the write failed. What the reader put off follows.
func (c *conn) report(at time.Time, written bool) {
	c.mu.Lock()
	batch := c.out.batch
	c.mu.Unlock()
	for _, m := range batch {
		if !written && !c.wasAcked(m) {
			continue
		}
		c.srv.count.commandsWritten.Add(1)
		c.srv.in.Written(c.id, m.call, m.attempt, at, m.qos > 0)
		c.mu.Lock()
		m.reported = true
		acked := m.acked
		c.mu.Unlock()
		if !acked.IsZero() {
			c.reportAck(m)
		}
	}
	c.mu.Lock()
	clear(batch)
	c.out.batch = batch[:0]
	c.mu.Unlock()
	c.catchUp()
}

func (c *conn) wasAcked(m *message) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !m.acked.IsZero()
}

// catchUp does what the reader put off. It goes on until nothing is left, so that the device's order is kept.
func (c *conn) catchUp() {
	for {
		c.mu.Lock()
		late := c.out.late
		c.out.late = nil
		c.out.draining = len(late) > 0
		c.mu.Unlock()
		if len(late) == 0 {
			return
		}
		for _, do := range late {
			do()
		}
	}
}

// inOrder does now what the device has sent about the command with this wire id, or puts it off while the engine has not been
// told that the command was written: an answer may be on its way back before the write has returned.
func (c *conn) inOrder(wire int32, do func()) {
	c.mu.Lock()
	put := c.out.draining || len(c.out.late) > 0 || c.unreported(wire)
	if put {
		c.out.late = append(c.out.late, do) // bounded: each holds a token of c.rpc
	}
	c.mu.Unlock()
	if !put {
		do()
	}
}

func (c *conn) unreported(wire int32) bool {
	for _, m := range c.out.batch {
		if m != nil && m.id == wire && !m.reported {
			return true
		}
	}
	return false
}

// acknowledged handles PUBACK: the proof that the device has a message. One for an unknown packet id is ignored.
func (c *conn) acknowledged(header byte, body []byte) error {
	id, code, err := mqttwire.ParseAck(body)
	if err != nil || header&0x0f != 0 {
		return violation(codeMalformed, "malformed PUBACK")
	}
	c.mu.Lock()
	m := c.out.inflight[id]
	delete(c.out.inflight, id)
	if c.out.head < len(c.out.queue) {
		c.kick() // the device's Receive Maximum has room again
	}
	now := false
	if m != nil && m.command {
		m.acked, m.ackCode = time.Now(), code
		now = m.reported
	}
	c.mu.Unlock()
	if now {
		c.reportAck(m)
	}
	return nil
}

// reportAck tells the engine of a PUBACK. One with an error code of MQTT 5 says that the device did not take the command.
func (c *conn) reportAck(m *message) {
	if m.ackCode >= codeUnspecified {
		c.srv.in.Failed(c.id, m.call, fmt.Sprintf("puback_0x%02x", m.ackCode))
		return
	}
	c.srv.in.Acknowledged(c.id, m.call, transports.EvidencePuback, m.acked)
}

// abandon reports the commands that never left. For those that left without a PUBACK there is nothing to say: the end of the
// session says it.
func (c *conn) abandon() {
	c.mu.Lock()
	waiting := c.out.queue[c.out.head:]
	c.out.queue, c.out.head, c.out.inflight, c.out.control = nil, 0, nil, nil
	c.mu.Unlock()
	for _, m := range waiting {
		if !m.command {
			c.srv.count.messagesDropped.Add(1)
			continue
		}
		c.srv.count.commandsRefused.Add(1)
		c.srv.in.Failed(c.id, m.call, transports.FailedGone)
	}
}
