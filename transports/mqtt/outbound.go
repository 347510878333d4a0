package mqtt

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/mochi-mqtt/server/v2/packets"

	"callchain/transports"
	"callchain/transports/internal/mqttwire"
)

const (
	// writeChunk is how many bytes of small messages go into one write.
	writeChunk = 32 << 10
	// controlMax bounds the acknowledgements that wait for a device that sends but does not read.
	controlMax = 256 << 10
)

// message is a PUBLISH on its way to the device.
type message struct {
	topic   topic
	id      int32 // request id in the topic
	qos     byte
	subID   uint32 // subscription identifier, 0 if none
	payload []byte

	command  bool
	call     uuid.UUID
	attempt  int
	deadline time.Time
	epoch    int64
	trace    string

	reported bool      // the engine knows that it was written
	acked    time.Time // when its PUBACK came before that
	ackCode  byte
}

func (m *message) size() int { return len(m.payload) + 64 }

// outbound is what waits for the device. The connection's mu guards it.
type outbound struct {
	control []byte // encoded acknowledgements and answers to control packets
	packets int64  // in control
	queue   []*message
	head    int // queue[head:] waits
	bytes   int
	writing bool

	batch    []*message // commands in the write under way, not reported yet
	late     []func()   // what the reader learned meanwhile that has to come after the report
	draining bool

	inflight    map[uint16]*message // written with QoS 1, no PUBACK yet
	lastID      uint16
	inflightMax int // Receive Maximum of the device
	packetMax   int // Maximum Packet Size of the device, 0 if it states none
	epoch       int64
	writeUntil  time.Time

	refused   []refusal
	reporting bool
}

type refusal struct {
	call   uuid.UUID
	reason string
}

// enqueue takes m for the device or refuses it.
func (c *conn) enqueue(m *message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if why := c.unfit(m, time.Now()); why != "" {
		c.refuseMessage(m, why)
		return
	}
	if c.full(m) {
		c.sweep()
		if c.full(m) {
			c.refuseMessage(m, transports.FailedQueueFull)
			return
		}
	}
	c.out.queue = append(c.out.queue, m)
	c.out.bytes += m.size()
	c.kick()
}

// unfit says why m must not leave, or nothing.
func (c *conn) unfit(m *message, now time.Time) string {
	switch {
	case c.ending():
		return transports.FailedGone
	case !m.command:
		return ""
	case m.epoch < c.out.epoch:
		return transports.FailedStale
	case !m.deadline.IsZero() && !now.Before(m.deadline):
		return transports.FailedExpired
	}
	c.out.epoch = m.epoch
	return ""
}

func (c *conn) full(m *message) bool {
	waiting := len(c.out.queue) - c.out.head
	return waiting >= c.srv.cfg.QueueMessages || waiting > 0 && c.out.bytes+m.size() > c.srv.cfg.QueueBytes
}

// sweep refuses the commands in the queue whose time is over.
func (c *conn) sweep() {
	now := time.Now()
	kept := c.out.queue[:0]
	for _, m := range c.out.queue[c.out.head:] {
		if why := c.unfit(m, now); why != "" {
			c.out.bytes -= m.size()
			c.refuseMessage(m, why)
			continue
		}
		kept = append(kept, m)
	}
	clear(c.out.queue[len(kept):])
	c.out.queue, c.out.head = kept, 0
}

// refuseMessage drops m. A command is reported from a goroutine of its own, because the engine may be in the middle of Send.
func (c *conn) refuseMessage(m *message, reason string) {
	if !m.command {
		c.srv.count.messagesDropped.Add(1)
		return
	}
	c.srv.count.commandsRefused.Add(1)
	c.out.refused = append(c.out.refused, refusal{m.call, reason})
	if !c.out.reporting {
		c.out.reporting = true
		go c.reportRefused()
	}
}

func (c *conn) reportRefused() {
	for {
		c.mu.Lock()
		refused := c.out.refused
		c.out.refused = nil
		c.out.reporting = len(refused) > 0
		c.mu.Unlock()
		if len(refused) == 0 {
			return
		}
		for _, r := range refused {
			c.srv.in.Failed(c.id, r.call, r.reason)
		}
	}
}

// control sends an encoded control packet; acknowledgements go out before anything that waits.
func (c *conn) control(packet []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.controlLocked(packet)
}

func (c *conn) controlLocked(packet []byte) {
	if c.ending() {
		return
	}
	if len(c.out.control)+len(packet) > controlMax {
		c.srv.count.stalled.Add(1)
		c.stopLocked(codeQuota, "the device does not read")
		return
	}
	c.out.control = append(c.out.control, packet...)
	c.out.packets++
	c.kick()
}

// kick starts the writer if it is not running.
func (c *conn) kick() {
	if c.out.writing || c.at() == closed {
		return
	}
	c.out.writing = true
	c.wg.Add(1)
	go c.write()
}

var writeBuffers = sync.Pool{New: func() any { return new([]byte) }}

// write writes until nothing waits. What gathers during one write goes out with the next.
func (c *conn) write() {
	defer c.wg.Done()
	buf := writeBuffers.Get().(*[]byte)
	defer func() {
		if cap(*buf) <= 2*writeChunk {
			writeBuffers.Put(buf)
		}
	}()
	for {
		last, ok := c.fill(buf)
		if !ok {
			return
		}
		began := time.Now() // an answer may be here before the write has returned
		err := c.send(*buf)
		c.report(began, err == nil)
		if err != nil {
			c.writeFailed(err)
		} else if last {
			c.closeWrite()
			return
		}
	}
}

// fill encodes what is to be written next. ok is false if there is nothing, and then the writer has ended; last says that the
// connection ends after this.
func (c *conn) fill(buf *[]byte) (last, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := &c.out
	b := append((*buf)[:0], o.control...)
	n := o.packets
	o.control, o.packets = o.control[:0], 0
	if cap(o.control) > 1024 {
		o.control = nil
	}
	switch c.at() {
	case open:
		b, n = c.fillMessages(b, n)
		c.armWrite()
	case closing:
		last = true
		if c.code != noCode {
			b = append(b, disconnect(c.code)...)
			c.code = noCode
			n++
		}
	case closed:
		b = b[:0]
	case opening:
	}
	*buf = b
	if o.writing = len(b) > 0 || last; !o.writing {
		return false, false
	}
	c.srv.count.packetsOut.Add(n)
	c.srv.count.bytesOut.Add(int64(len(b)))
	return last, true
}

// fillMessages encodes waiting messages, as many as the device's Receive Maximum and a chunk allow.
func (c *conn) fillMessages(b []byte, n int64) ([]byte, int64) {
	o := &c.out
	for now := time.Now(); o.head < len(o.queue) && len(b) < writeChunk; {
		m := o.queue[o.head]
		if m.qos > 0 && len(o.inflight) >= o.inflightMax {
			break // [MQTT-3.3.4-9]
		}
		o.queue[o.head] = nil
		o.head++
		o.bytes -= m.size()
		if why := c.unfit(m, now); why != "" {
			c.refuseMessage(m, why)
			continue
		}
		encoded, ok := c.encodeMessage(b, m)
		if !ok {
			c.refuseMessage(m, transports.FailedTooLarge) // [MQTT-3.1.2-24] of MQTT 5
			continue
		}
		b = encoded
		n++
		m.payload = nil
		if m.command {
			o.batch = append(o.batch, m)
		}
	}
	if o.head == len(o.queue) {
		o.head, o.queue = 0, o.queue[:0]
		if cap(o.queue) > 64 {
			o.queue = nil
		}
	}
	return b, n
}

// encodeMessage appends m with a packet id; ok is false if it is larger than the device takes. The properties go first: a
// device that has room for the bare command gets that.
func (c *conn) encodeMessage(b []byte, m *message) (_ []byte, ok bool) {
	var space [64]byte
	pub := mqttwire.Message{Topic: appendTopic(space[:0], m.topic, m.id), Payload: m.payload, QoS: m.qos}
	if c.version == mqttwire.V5 {
		pub.Properties = properties(m)
	}
	if limit := c.out.packetMax; limit > 0 && mqttwire.Size(pub, c.version) > limit {
		pub.Properties = nil
		if mqttwire.Size(pub, c.version) > limit {
			return b, false
		}
	}
	if m.qos > 0 {
		pub.ID = c.nextID()
		if c.out.inflight == nil {
			c.out.inflight = map[uint16]*message{}
		}
		c.out.inflight[pub.ID] = m
	}
	return mqttwire.AppendMessage(b, pub, c.version), true
}

// nextID finds a packet id that is not in use; the caller has made sure that there is one. The ids of the device's own
// publishes are a space apart ([MQTT-2.2.1-5] of MQTT 5).
func (c *conn) nextID() uint16 {
	for {
		c.out.lastID++
		if c.out.lastID == 0 {
			c.out.lastID = 1
		}
		if _, used := c.out.inflight[c.out.lastID]; !used {
			return c.out.lastID
		}
	}
}

// properties are those of a message: for a command its call as correlation data, the topic to reply on, the attempt and the
// trace it belongs to.
func properties(m *message) []byte {
	var b []byte
	if m.subID > 0 {
		b = mqttwire.AppendLength(append(b, packets.PropSubscriptionIdentifier), int(m.subID)) // [MQTT-3.3.4-3]
	}
	if !m.command {
		return b
	}
	var space [64]byte
	reply := appendTopic(space[:0], topic{forAnswers, m.topic.family}, m.id)
	b = mqttwire.AppendString(append(b, packets.PropResponseTopic), reply)
	b = mqttwire.AppendString(append(b, packets.PropCorrelationData), m.call[:])
	b = appendUserProperty(b, "callchain-attempt", strconv.Itoa(m.attempt))
	if m.trace != "" {
		b = appendUserProperty(b, propTraceparent, m.trace)
	}
	return b
}

func appendUserProperty(b []byte, key, value string) []byte {
	return mqttwire.AppendString(mqttwire.AppendString(append(b, packets.PropUser), key), value)
}

// armWrite moves the write deadline on, rarely, as armKeepAlive does.
func (c *conn) armWrite() {
	now, limit := time.Now(), c.srv.cfg.WriteTimeout
	if c.out.writeUntil.Sub(now) >= limit {
		return
	}
	c.out.writeUntil = now.Add(limit + limit/4)
	// It fails only on a closed connection, where the write fails too.
	_ = c.nc.SetWriteDeadline(c.out.writeUntil)
}

// send writes b in pieces, each with the write timeout of its own, so that a slow device gets a large message through.
func (c *conn) send(b []byte) error {
	const piece = 64 << 10
	for len(b) > piece {
		if _, err := c.nc.Write(b[:piece]); err != nil {
			return err
		}
		b = b[piece:]
		c.mu.Lock()
		if c.at() == open {
			c.armWrite()
		}
		c.mu.Unlock()
	}
	_, err := c.nc.Write(b)
	return err
}

func (c *conn) writeFailed(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) && !c.ending() {
		c.srv.count.stalled.Add(1)
		c.log.Info("mqtt: closing a connection whose device does not read", "session", c.id, "remote", c.nc.RemoteAddr().String())
		c.fail("the device does not read")
		return
	}
	c.fail("connection lost")
}

// closeWrite ends the server's half of the connection; the reader ends the other when the device has closed, or soon.
func (c *conn) closeWrite() {
	if half, ok := c.nc.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		c.fail("closed")
	}
}

// encode runs one of the codec's encoders, which fail for packets only that this server does not make.
func encode(encoder func(*bytes.Buffer) error, pk *packets.Packet) []byte {
	var b bytes.Buffer
	if err := encoder(&b); err != nil {
		panic("mqtt: encoding " + packets.PacketNames[pk.FixedHeader.Type] + " failed: " + err.Error())
	}
	return b.Bytes()
}
