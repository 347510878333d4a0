// Package mqtt is the MQTT transport: MQTT 3.1, 3.1.1 and 5 with ThingsBoard's device topics, on a server loop of its own. A
// device has a handful of known topics, so there is no topic tree, no retained message and no stored session; what there is
// instead is durability before acknowledgement: a device's PUBLISH is acknowledged when the engine says that it is kept.
//
// It knows connections, topics and packets, and the contract in package transports; no database, no rule chain.
package mqtt

import (
	"fmt"
	"time"
)

// Config limits the transport. Every queue and every wait of a connection has its bound here.
type Config struct {
	// MaxPacket is the largest packet taken from a device, in bytes after the fixed header. What is sent to a device is
	// limited by nothing but the Maximum Packet Size it states in an MQTT 5 CONNECT.
	MaxPacket int
	// MaxConnections is how many connections are served at once; one more is closed at once.
	MaxConnections int
	// ConnectTimeout is how long a connection may take to send CONNECT, and the engine to accept it.
	ConnectTimeout time.Duration
	// WriteTimeout is how long one write may wait for a device that does not read; then the connection is closed.
	WriteTimeout time.Duration
	// CloseTimeout is how long a connection lingers so that its last packet is read ("transport.mqtt.disconnect_timeout").
	CloseTimeout time.Duration
	// DrainTimeout is how long Serve waits for its connections once its context has ended.
	DrainTimeout time.Duration
	// QueueMessages and QueueBytes bound what waits for a device besides acknowledgements. A message larger than QueueBytes
	// is taken when nothing else waits.
	QueueMessages int
	QueueBytes    int
	// DataOutstanding is how many telemetry and attribute messages of a connection the engine may be working on. More are
	// dropped (QoS 0) or left unacknowledged (QoS 1).
	DataOutstanding int
	// RPCOutstanding is the same for answers, calls and subscriptions. They are never dropped: at the bound the connection is
	// not read until one is settled.
	RPCOutstanding int
	// Limits is what getSessionLimits tells a device.
	Limits SessionLimits
}

// SessionLimits are the numbers of ThingsBoard's built-in call getSessionLimits. A rate is written as "20:600": 20 messages in
// 600 seconds; empty means no limit and is left out.
type SessionLimits struct {
	MaxInflight int // reported as maxInflightMessages
	Device      Rates
	Gateway     Rates // a gateway's own; Device is then what each device behind it has
}

// Rates are the rate limits of one kind of session.
type Rates struct {
	Messages            string `json:"messages,omitempty"`
	TelemetryMessages   string `json:"telemetryMessages,omitempty"`
	TelemetryDataPoints string `json:"telemetryDataPoints,omitempty"`
}

// Default returns ThingsBoard's limits where it has them (thingsboard.yml: transport.mqtt.netty.max_payload_size,
// transport.mqtt.msg_queue_size_per_device_limit, transport.mqtt.disconnect_timeout).
func Default() Config {
	return Config{
		MaxPacket:       65536,
		MaxConnections:  100_000,
		ConnectTimeout:  10 * time.Second,
		WriteTimeout:    10 * time.Second,
		CloseTimeout:    time.Second,
		DrainTimeout:    5 * time.Second,
		QueueMessages:   1000,
		QueueBytes:      1 << 20,
		DataOutstanding: 100,
		RPCOutstanding:  1024,
		Limits:          SessionLimits{MaxInflight: 100},
	}
}

// Validate returns the first bad field as "field: reason".
func (c Config) Validate() error {
	for _, f := range []struct {
		name       string
		value, min int64
		max        int64
	}{
		{"MaxPacket", int64(c.MaxPacket), 128, 268_435_455}, // section 2.2.3: four bytes of length
		{"MaxConnections", int64(c.MaxConnections), 1, 10_000_000},
		{"ConnectTimeout", int64(c.ConnectTimeout), int64(time.Millisecond), int64(time.Hour)},
		{"WriteTimeout", int64(c.WriteTimeout), int64(time.Millisecond), int64(time.Hour)},
		{"CloseTimeout", int64(c.CloseTimeout), 0, int64(time.Minute)},
		{"DrainTimeout", int64(c.DrainTimeout), 0, int64(time.Hour)},
		{"QueueMessages", int64(c.QueueMessages), 1, 1_000_000},
		{"QueueBytes", int64(c.QueueBytes), 1024, 1 << 30},
		{"DataOutstanding", int64(c.DataOutstanding), 1, 65535},
		{"RPCOutstanding", int64(c.RPCOutstanding), 1, 65535},
		{"Limits.MaxInflight", int64(c.Limits.MaxInflight), 0, 65535},
	} {
		if f.value < f.min || f.value > f.max {
			return fmt.Errorf("%s: must be from %d to %d, is %d", f.name, f.min, f.max, f.value)
		}
	}
	return nil
}
