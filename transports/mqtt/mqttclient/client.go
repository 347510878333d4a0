// Package mqttclient is a bare MQTT client for load and tests: thousands of devices in one process, a goroutine and less than
// two kilobytes of buffers each. It has no reconnect, no QoS 2 and no store; who wants those takes a real client.
package mqttclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"callchain/transports/internal/mqttwire"
)

// The protocol levels of Options.Version.
const (
	V31  = mqttwire.V31
	V311 = mqttwire.V311
	V5   = mqttwire.V5
)

// ErrClosed: the connection has ended.
var ErrClosed = errors.New("connection closed")

// ErrSilent: the server said nothing for a keep-alive, not even to the ping before it.
var ErrSilent = errors.New("the server is silent")

// Code is a reason code: of a refused CONNECT, or of the DISCONNECT that ended the connection. As an error it names which.
type Code struct {
	Packet string // "CONNACK" or "DISCONNECT"
	Value  byte
}

func (c Code) Error() string { return fmt.Sprintf("%s with code 0x%02x", c.Packet, c.Value) }

// Options describe a connection. The zero value is an MQTT 3.1.1 client without credentials that acknowledges by itself.
type Options struct {
	Token    string // user name
	Password string
	ClientID string
	Version  byte // V31, V311 or V5; 0 is V311
	// KeepAlive is in whole seconds; 0 sends no pings. A connection whose server is silent for longer ends with ErrSilent, after two at the latest.
	KeepAlive time.Duration
	// OnPublish is called for each message, one after the other; what m holds is valid during the call only. With QoS 1 the
	// acknowledgement follows unless ManualAck is set.
	OnPublish func(c *Client, m Message)
	ManualAck bool // Ack is called by the user
	// OnClose is called once when the connection has ended, with a Code if the server said why.
	OnClose func(c *Client, err error)
	// Coalesce holds back what is written while messages that were read together are being handled, and writes it at once. A
	// handler must then not wait for an answer.
	Coalesce       bool
	MaxPacket      int    // bytes taken; 0 is 1 MiB
	ReceiveMaximum uint16 // MQTT 5; 0 is left out
	PacketMaximum  uint32 // MQTT 5 Maximum Packet Size; 0 is left out
}

// Message is a PUBLISH from the server.
type Message struct {
	Topic   []byte
	Payload []byte
	ID      uint16 // for Ack; 0 with QoS 0
	QoS     byte
	Dup     bool
	Retain  bool
	props   []byte
}

// Properties decodes the message's properties of MQTT 5; earlier versions have none.
func (m Message) Properties() (packets.Properties, error) {
	var p packets.Properties
	if len(m.props) == 0 {
		return p, nil
	}
	encoded := append(mqttwire.AppendLength(nil, len(m.props)), m.props...)
	if _, err := p.Decode(packets.Publish, bytes.NewBuffer(encoded)); err != nil {
		return p, fmt.Errorf("decoding properties: %w", err)
	}
	return p, nil
}

// Client is one connection.
type Client struct {
	nc   net.Conn
	opts Options
	rd   mqttwire.Reader
	done chan struct{}

	heard atomic.Bool // something came since the last ping

	mu      sync.Mutex
	room    *sync.Cond // out has room
	out     []byte
	spare   []byte
	writing bool
	corked  bool
	lastID  uint16
	waiting map[uint16]waiter
	ping    *time.Timer
	err     error
	closing bool // we said goodbye
}

// waiter is who waits for the acknowledgement of a packet id.
type waiter struct {
	kind byte // packet type that answers
	done func(codes []byte, err error)
}

// Connect dials addr ("host:port") and waits for CONNACK. It fails with a Code if the server refuses.
func Connect(ctx context.Context, addr string, opts Options) (*Client, error) {
	var dialer net.Dialer
	nc, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	return Open(ctx, nc, opts)
}

// Open does the same on a connection that is made already, which it closes if it fails.
func Open(ctx context.Context, nc net.Conn, opts Options) (*Client, error) {
	if opts.Version == 0 {
		opts.Version = V311
	}
	if opts.MaxPacket == 0 {
		opts.MaxPacket = 1 << 20
	}
	c := &Client{nc: nc, opts: opts, done: make(chan struct{})}
	c.room = sync.NewCond(&c.mu)
	c.rd.Reset(nc, opts.MaxPacket)
	cut := context.AfterFunc(ctx, func() { _ = nc.Close() }) // ends the handshake, which tells the error
	err := c.handshake()
	if !cut() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = nc.Close() // the error of the handshake is the one to tell
		return nil, err
	}
	if opts.KeepAlive > 0 {
		c.heard.Store(true)
		c.mu.Lock()
		c.ping = time.AfterFunc(opts.KeepAlive, c.sendPing)
		c.mu.Unlock()
	}
	go c.read()
	return c, nil
}

func (c *Client) handshake() error {
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: c.opts.Version,
		Connect: packets.ConnectParams{
			ProtocolName: []byte("MQTT"), ClientIdentifier: c.opts.ClientID, Clean: true,
			Keepalive: uint16(c.opts.KeepAlive / time.Second),
			Username:  []byte(c.opts.Token), UsernameFlag: c.opts.Token != "",
			Password: []byte(c.opts.Password), PasswordFlag: c.opts.Password != "",
		},
		Properties: packets.Properties{ReceiveMaximum: c.opts.ReceiveMaximum, MaximumPacketSize: c.opts.PacketMaximum},
	}
	if c.opts.Version == V31 {
		pk.Connect.ProtocolName = []byte("MQIsdp")
	}
	var b bytes.Buffer
	if err := pk.ConnectEncode(&b); err != nil {
		return fmt.Errorf("encoding CONNECT: %w", err)
	}
	if _, err := c.nc.Write(b.Bytes()); err != nil {
		return fmt.Errorf("sending CONNECT: %w", err)
	}
	header, body, err := c.rd.Next()
	switch {
	case err != nil:
		return fmt.Errorf("waiting for CONNACK: %w", err)
	case header>>4 != mqttwire.Connack || len(body) < 2:
		return fmt.Errorf("waiting for CONNACK: packet type %d came", header>>4)
	case body[1] != 0:
		return Code{"CONNACK", body[1]}
	}
	return nil
}

// Done is closed when the connection has ended; Err then says why.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err is nil while the connection lives, then ErrClosed, a Code or the network's error.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close says goodbye, ends the connection and waits for the reader; it must not be called from OnPublish, nor must Drop.
func (c *Client) Close() {
	c.mu.Lock()
	c.closing = true // the server may end the connection before we do
	c.mu.Unlock()
	c.write([]byte{mqttwire.Disconnect << 4, 0})
	c.end(ErrClosed)
	<-c.done
}

// Drop cuts the connection without a goodbye, as a device that loses power or network does.
func (c *Client) Drop() {
	if tcp, ok := c.nc.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // reset instead of an orderly end; if that cannot be had, close
	}
	c.end(ErrClosed)
	<-c.done
}

// end closes the socket; the reader does the rest.
func (c *Client) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		if c.closing {
			c.err = ErrClosed
		}
	}
	_ = c.nc.Close() // closed before by the peer or by us: either way it is closed
}

func (c *Client) read() {
	err := c.readAll()
	c.rd.Close()
	c.end(err)
	c.mu.Lock()
	err = c.err
	waiting := c.waiting
	c.waiting = nil
	if c.ping != nil {
		c.ping.Stop()
	}
	c.room.Broadcast()
	c.mu.Unlock()
	for _, w := range waiting {
		w.done(nil, err)
	}
	close(c.done)
	if c.opts.OnClose != nil {
		c.opts.OnClose(c, err)
	}
}

func (c *Client) readAll() error {
	for {
		header, body, err := c.rd.Next()
		if err != nil {
			return fmt.Errorf("reading: %w", err)
		}
		if c.opts.KeepAlive > 0 {
			c.heard.Store(true)
		}
		more := c.opts.Coalesce && c.rd.Whole()
		if more {
			c.cork(true)
		}
		if err := c.packet(header, body); err != nil {
			return err
		}
		if c.opts.Coalesce && !c.rd.Whole() {
			c.cork(false)
		}
	}
}

func (c *Client) packet(header byte, body []byte) error {
	switch kind := header >> 4; kind {
	case mqttwire.Publish:
		return c.received(header, body)
	case mqttwire.Puback:
		id, code, err := mqttwire.ParseAck(body)
		if err != nil {
			return err
		}
		c.answered(kind, id, []byte{code})
	case mqttwire.Suback, mqttwire.Unsuback:
		return c.filtersAnswered(kind, body)
	case mqttwire.Disconnect:
		code := Code{Packet: "DISCONNECT"}
		if len(body) > 0 {
			code.Value = body[0]
		}
		return code
	case mqttwire.Pingresp:
	default:
		return fmt.Errorf("%w: packet type %d", mqttwire.ErrMalformed, kind)
	}
	return nil
}

func (c *Client) received(header byte, body []byte) error {
	m, err := mqttwire.ParseMessage(header, body, c.opts.Version)
	if err != nil {
		return err
	}
	if c.opts.OnPublish != nil {
		c.opts.OnPublish(c, Message{m.Topic, m.Payload, m.ID, m.QoS, m.Dup, m.Retain, m.Properties})
	}
	if m.QoS > 0 && !c.opts.ManualAck {
		c.Ack(m.ID, 0)
	}
	return nil
}
