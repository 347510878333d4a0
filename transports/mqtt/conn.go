package mqtt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"callchain/transports/internal/mqttwire"
)

// phase is how far a connection is; it only grows.
type phase uint32

const (
	opening phase = iota // no CONNACK yet
	open                 // serving
	closing              // the last packets are being written; what is read is thrown away
	closed
)

// conn is one connection and, after CONNECT, one session. One goroutine reads; another one writes while there is something to
// write. Neither waits for the other: what the reader learns about a command that the writer is still writing is put off.
type conn struct {
	srv *Server
	nc  net.Conn
	rd  mqttwire.Reader // of the reading goroutine, as the fields up to mu
	log *slog.Logger

	id        uuid.UUID
	gateway   bool
	version   byte // of the protocol: 3, 4 or 5
	connected bool // the engine was told of the session
	keepAlive time.Duration
	readUntil time.Time
	bytesIn   int64

	data  atomic.Int32  // telemetry and attribute messages the engine is working on
	rpc   chan struct{} // a token for each answer, call or subscription it is working on
	quit  chan struct{} // closed when the connection begins to end
	phase atomic.Uint32

	mu    sync.Mutex // never held during a call to the engine or to the network
	why   string     // why it ends: first reason wins
	code  byte       // of the DISCONNECT
	wg    sync.WaitGroup
	subs  subscriptions
	unack []uint16 // packet ids of the device's publishes that the engine is working on
	out   outbound
	last  [purposes]family // family of the last subscription or request of a purpose
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{
		srv: s, nc: nc, id: uuid.New(), version: mqttwire.V311,
		rpc: make(chan struct{}, s.cfg.RPCOutstanding), quit: make(chan struct{}), code: noCode,
	}
	c.log = s.log
	c.rd.Reset(c, s.cfg.MaxPacket)
	return c
}

// welcome reads CONNECT and answers it; false: that ended the connection.
func (c *conn) welcome(ctx context.Context) bool {
	if err := c.nc.SetReadDeadline(time.Now().Add(c.srv.cfg.ConnectTimeout)); err != nil {
		return false // closed already
	}
	header, body, err := c.rd.Next()
	if err != nil {
		c.readFailed(err)
		return false
	}
	return c.connect(ctx, header, body)
}

// serve reads what the device sends after CONNECT. It answers true when a rare packet made the stack grow: the connection is to
// be served on with a fresh one; false: the connection is ending.
func (c *conn) serve() (again bool) {
	packets := int64(0)
	for {
		if !c.rd.Whole() { // about to wait: count now, so that a busy connection touches the counters rarely
			c.srv.count.packetsIn.Add(packets)
			packets = 0
		}
		header, body, err := c.rd.Next()
		switch {
		case c.ending():
			return false
		case err != nil:
			c.readFailed(err)
			return false
		}
		packets++
		if err := c.packet(header, body); err != nil {
			c.reject(err)
			return false
		}
		if kind := header >> 4; kind == mqttwire.Subscribe || kind == mqttwire.Unsubscribe {
			c.srv.count.packetsIn.Add(packets)
			return true
		}
	}
}

// finish ends the session and the connection.
func (c *conn) finish() {
	c.endSession()
	c.linger()
	c.rd.Close()
	c.srv.count.bytesIn.Add(c.bytesIn)
}

// packet handles one packet after CONNECT. An error ends the connection.
func (c *conn) packet(header byte, body []byte) error {
	switch kind := header >> 4; kind {
	case mqttwire.Publish:
		return c.publish(header, body)
	case mqttwire.Puback:
		return c.acknowledged(header, body)
	case mqttwire.Pingreq:
		c.control([]byte{mqttwire.Pingresp << 4, 0}) // [MQTT-3.12.4-1]
		return nil
	case mqttwire.Subscribe:
		return c.subscribe(header, body)
	case mqttwire.Unsubscribe:
		return c.unsubscribe(header, body)
	case mqttwire.Disconnect:
		c.fail("client disconnected") // [MQTT-3.14.4-2]: the client closes; it gets no answer
		return nil
	case mqttwire.Connect:
		return violation(codeProtocolError, "a second CONNECT") // [MQTT-3.1.0-2]
	default:
		return violation(codeProtocolError, fmt.Sprintf("packet type %d has no place here", kind))
	}
}

// Read reads from the network for the packet reader. It moves the deadline of the keep-alive time on, rarely, so that it costs
// nothing per packet.
func (c *conn) Read(p []byte) (int, error) {
	if c.connected {
		c.armKeepAlive()
	}
	n, err := c.nc.Read(p)
	c.bytesIn += int64(n)
	if c.bytesIn >= 64<<10 || err != nil {
		c.srv.count.bytesIn.Add(c.bytesIn)
		c.bytesIn = 0
	}
	return n, err
}

// armKeepAlive sets the read deadline to one and a half times the keep-alive time ([MQTT-3.1.2-24] in 3.1.1, [MQTT-3.1.2-22] in
// 5) plus a sixteenth, so that it need not be set again while that sixteenth lasts.
func (c *conn) armKeepAlive() {
	if c.keepAlive == 0 {
		return // [MQTT-3.1.2-10]: 0 turns it off
	}
	now, slack := time.Now(), c.keepAlive/16
	if c.readUntil.Sub(now) > c.keepAlive*3/2 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at() != open {
		return // the deadline of the closing connection holds
	}
	c.readUntil = now.Add(c.keepAlive*3/2 + slack)
	if err := c.nc.SetReadDeadline(c.readUntil); err != nil {
		c.log.Debug("mqtt: setting a read deadline failed", "session", c.id, "error", err) // closed: the read tells
	}
}

func (c *conn) at() phase    { return phase(c.phase.Load()) }
func (c *conn) ending() bool { return c.at() >= closing }

// readFailed ends the connection after a read error.
func (c *conn) readFailed(err error) {
	switch {
	case errors.Is(err, mqttwire.ErrMalformed), errors.Is(err, mqttwire.ErrTooLarge):
		// ThingsBoard's decoder calls a packet over the limit malformed too.
		c.reject(violation(codeMalformed, err.Error()))
	case errors.Is(err, os.ErrDeadlineExceeded) && c.at() == opening:
		c.fail("no CONNECT in time")
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.srv.count.keepAlive.Add(1)
		c.stop(codeKeepAlive, "keep alive timeout")
	default:
		c.fail("connection lost")
	}
}

// breach is why a device's packet ends its connection.
type breach struct {
	code byte
	text string
}

func (b breach) Error() string { return b.text }

func violation(code byte, text string) error { return breach{code, text} }

// reject closes the connection for what the device sent.
func (c *conn) reject(err error) {
	code := codeImplementation
	var b breach
	if errors.As(err, &b) {
		code = b.code
	}
	if code == codeMalformed || code == codeProtocolError {
		c.srv.count.protocolErrors.Add(1)
	}
	c.log.Info("mqtt: closing a connection for what it sent", "session", c.id, "remote", c.nc.RemoteAddr().String(), "error", err)
	c.stop(code, err.Error())
}

// stop lets the writer send what is acknowledged already and a DISCONNECT with code, and close. Later reasons are ignored.
func (c *conn) stop(code byte, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopLocked(code, why)
}

func (c *conn) stopLocked(code byte, why string) {
	was := c.at()
	if was >= closing {
		return
	}
	c.why, c.code = why, code
	if was == opening || c.version != mqttwire.V5 {
		c.code = noCode // [MQTT-3.14.0-1]: no DISCONNECT before a CONNACK; before MQTT 5 the server has none
	}
	c.phase.Store(uint32(closing))
	close(c.quit)
	now := time.Now()
	// Both fail only on a closed connection, where reader and writer notice by themselves.
	_ = c.nc.SetWriteDeadline(now.Add(c.srv.cfg.CloseTimeout))
	_ = c.nc.SetReadDeadline(now) // wakes the reader
	c.kick()
}

// fail closes the connection without a word.
func (c *conn) fail(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failLocked(why)
}

func (c *conn) failLocked(why string) {
	if c.at() == closed {
		return
	}
	if c.why == "" {
		c.why = why
	}
	if !c.ending() {
		close(c.quit)
	}
	c.phase.Store(uint32(closed))
	_ = c.nc.Close() // the peer may have closed it already
}

// endSession tells the engine, once the writer has reported what it wrote.
func (c *conn) endSession() {
	if !c.ending() {
		c.fail("connection lost")
	}
	c.mu.Lock() // who is ending the connection has started the writer for the last time when this lock is free
	why := c.why
	c.mu.Unlock()
	c.wg.Wait()
	c.abandon()
	if c.connected {
		c.srv.count.sessions.Add(-1)
		c.srv.in.Disconnect(c.id, why)
	}
}

// linger reads and throws away until the peer closes, for a moment: closing a socket with unread bytes would reset it, and the
// peer would not see the packet that says why.
func (c *conn) linger() {
	const most = 1 << 20
	defer c.fail("closed")
	if c.at() == closed || c.nc.SetReadDeadline(time.Now().Add(c.srv.cfg.CloseTimeout)) != nil {
		return
	}
	if _, err := io.CopyN(io.Discard, c.nc, most); err != nil && !errors.Is(err, io.EOF) {
		c.log.Debug("mqtt: a closing connection ended hard", "session", c.id, "error", err)
	}
}
