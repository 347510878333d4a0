package mqtt

import (
	"context"
	"errors"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mochi-mqtt/server/v2/packets"

	"callchain/transports"
	"callchain/transports/internal/mqttwire"
)

// errTimeout: the engine did not answer a CONNECT in time.
var errTimeout = errors.New("the engine did not accept the session in time")

// connect handles the first packet. It returns whether the session is open; else the connection is ending.
func (c *conn) connect(ctx context.Context, header byte, body []byte) bool {
	c.srv.count.packetsIn.Add(1)
	if header != mqttwire.Connect<<4 {
		c.reject(violation(codeProtocolError, "the first packet is no CONNECT")) // [MQTT-3.1.0-1]
		return false
	}
	pk, code := parseConnect(body)
	c.version = pk.ProtocolVersion
	if code != codeSuccess {
		c.srv.count.protocolErrors.Add(1)
		c.refuse(code, "bad CONNECT")
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, c.srv.cfg.ConnectTimeout)
	defer cancel()
	id, code, err := c.authenticate(ctx, &pk)
	if code != codeSuccess {
		c.refuse(code, err.Error())
		return false
	}
	c.adopt(&pk, id)
	if err := c.openSession(ctx, id); err != nil {
		c.refuse(connectCode(err), err.Error())
		return false
	}
	return c.accept(&pk)
}

// parseConnect decodes and judges a CONNECT packet; code says what is wrong with it. A device that ThingsBoard takes is
// taken: an empty client id without a clean session is no fault, because no session is kept anyway.
func parseConnect(body []byte) (pk packets.Packet, code byte) {
	pk.FixedHeader = packets.FixedHeader{Type: packets.Connect, Remaining: len(body)}
	err := pk.ConnectDecode(body)
	p := &pk.Connect
	switch name := string(p.ProtocolName); {
	case name != "MQTT" && name != "MQIsdp":
		pk.ProtocolVersion = mqttwire.V311
		return pk, noCode // [MQTT-3.1.2-1]
	case name == "MQIsdp" && pk.ProtocolVersion != mqttwire.V31,
		name == "MQTT" && pk.ProtocolVersion != mqttwire.V311 && pk.ProtocolVersion != mqttwire.V5:
		pk.ProtocolVersion = mqttwire.V311
		return pk, refusedVersion311 // [MQTT-3.1.2-2]
	case err != nil && !isFive(&pk):
		return pk, noCode // [MQTT-3.1.4-1]: close without CONNACK
	case err != nil:
		return pk, codeMalformed
	case pk.ReservedBit != 0, // [MQTT-3.1.2-3]
		p.WillQos > 2, // [MQTT-3.1.2-14]
		!p.WillFlag && (p.WillQos != 0 || p.WillRetain),   // [MQTT-3.1.2-13], [MQTT-3.1.2-15]
		!utf8.Valid(p.Username),                           // [MQTT-3.1.3-11]
		p.PasswordFlag && !p.UsernameFlag && !isFive(&pk): // [MQTT-3.1.2-22] of 3.1.1
		if isFive(&pk) {
			return pk, codeMalformed
		}
		return pk, noCode
	case isFive(&pk) && pk.Properties.AuthenticationMethod != "":
		return pk, codeBadAuthMethod
	}
	// The decoder's strings point into the read buffer.
	p.ClientIdentifier = strings.Clone(p.ClientIdentifier)
	return pk, codeSuccess
}

func isFive(pk *packets.Packet) bool { return pk.ProtocolVersion == mqttwire.V5 }

// authenticate asks who the device is.
func (c *conn) authenticate(ctx context.Context, pk *packets.Packet) (transports.Identity, byte, error) {
	cred := transports.Credentials{
		Token: string(pk.Connect.Username), UserName: string(pk.Connect.Username),
		Password: string(pk.Connect.Password), ClientID: pk.Connect.ClientIdentifier,
	}
	if cred.UserName == "" && cred.Password == "" && strings.TrimSpace(cred.ClientID) == "" {
		return transports.Identity{}, codeNotAuthorized, transports.ErrUnauthorized
	}
	id, err := c.srv.auth.Authenticate(ctx, cred)
	switch {
	case err == nil:
		return id, codeSuccess, nil
	case errors.Is(err, transports.ErrUnauthorized):
		return id, unknownCredentials(cred), err
	}
	return id, connectCode(err), err
}

// unknownCredentials is ThingsBoard's ReturnCodeResolver: the code tells which kind of credentials was not found.
func unknownCredentials(c transports.Credentials) byte {
	if c.UserName == "" && c.Password == "" {
		return codeClientID
	}
	return codeBadCredentials
}

// connectCode is the reason code for a CONNECT that could not be accepted now.
func connectCode(err error) byte {
	switch {
	case errors.Is(err, transports.ErrBusy):
		return codeBusy
	case errors.Is(err, transports.ErrRefused), errors.Is(err, transports.ErrUnauthorized):
		return codeNotAuthorized
	}
	return codeUnavailable
}

// adopt takes over what the device said about itself.
func (c *conn) adopt(pk *packets.Packet, id transports.Identity) {
	c.gateway = id.Gateway
	c.keepAlive = time.Duration(pk.Connect.Keepalive) * time.Second
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.inflightMax = math.MaxUint16
	if isFive(pk) {
		if n := int(pk.Properties.ReceiveMaximum); n > 0 {
			c.out.inflightMax = n // [MQTT-3.3.4-9]
		}
		c.out.packetMax = int(pk.Properties.MaximumPacketSize)
	}
}

// openSession waits until the engine has accepted the session: CONNACK follows what is durable.
func (c *conn) openSession(ctx context.Context, id transports.Identity) error {
	done := make(chan error, 1)
	c.srv.in.Connect(transports.Session{
		ID: c.id, Identity: id, Transport: transports.MQTT, Remote: c.nc.RemoteAddr().String(), Link: link{c},
	}, func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-c.quit:
	case <-ctx.Done():
	}
	// It may still be accepted; then this ends it.
	c.srv.in.Disconnect(c.id, errTimeout.Error())
	return errTimeout
}

// accept sends CONNACK with sessionPresent 0: nothing is kept between connections ([MQTT-3.2.2-1]). It returns false if the
// connection was ended meanwhile.
func (c *conn) accept(pk *packets.Packet) bool {
	ack := connack(pk.ProtocolVersion, codeSuccess)
	if isFive(pk) {
		c.describe(&ack, pk)
	}
	text := encode(ack.ConnackEncode, &ack)
	c.connected = true
	c.srv.count.sessions.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at() != opening {
		return false
	}
	if err := c.nc.SetReadDeadline(time.Time{}); err != nil {
		c.failLocked("connection lost")
		return false
	}
	c.phase.Store(uint32(open))
	c.out.control = append(c.out.control, text...)
	c.out.packets++
	c.kick()
	return true
}

// describe states the server's limits to an MQTT 5 client (section 3.2.2.3).
func (c *conn) describe(ack, pk *packets.Packet) {
	p := &ack.Properties
	p.MaximumQos, p.MaximumQosFlag = 1, true // [MQTT-3.2.2-9]
	p.MaximumPacketSize = uint32(c.srv.cfg.MaxPacket)
	p.SharedSubAvailableFlag = true // 0: not available
	if pk.Properties.SessionExpiryInterval > 0 {
		p.SessionExpiryIntervalFlag = true // 0: the session ends with the connection
	}
	if pk.Connect.ClientIdentifier == "" {
		p.AssignedClientID = c.id.String() // [MQTT-3.2.2-16]
	}
}

// refuse answers CONNECT with a code and closes. ThingsBoard sends an MQTT 5 client a DISCONNECT after it, against
// [MQTT-3.14.0-1]; clients expect what they know, so this is kept.
func (c *conn) refuse(code byte, why string) {
	c.srv.count.refused.Add(1)
	c.log.Info("mqtt: refusing a connection", "remote", c.nc.RemoteAddr().String(), "code", code, "reason", why)
	if code == noCode {
		c.stop(noCode, why)
		return
	}
	pk := connack(c.version, code)
	if c.version != mqttwire.V5 && code != refusedVersion311 {
		pk.ReasonCode = connack311(code)
	}
	text := encode(pk.ConnackEncode, &pk)
	if c.version == mqttwire.V5 {
		text = append(text, disconnect(code)...)
	}
	c.mu.Lock()
	c.out.control = append(c.out.control, text...)
	c.out.packets++
	c.mu.Unlock()
	c.stop(noCode, why)
}

func connack(version, code byte) packets.Packet {
	return packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connack}, ProtocolVersion: version, ReasonCode: code}
}

// disconnect is a DISCONNECT of MQTT 5; earlier versions have none from the server.
func disconnect(code byte) []byte {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}, ProtocolVersion: mqttwire.V5, ReasonCode: code}
	return encode(pk.DisconnectEncode, &pk)
}
