package mqtt_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"callchain/transports"
	"callchain/transports/mqtt"
	"callchain/transports/mqtt/mqttclient"
	"callchain/transports/transporttest"
)

const (
	commandFilter = "v1/devices/me/rpc/request/+"
	commandTopic  = "v1/devices/me/rpc/request/"
	replyTopic    = "v1/devices/me/rpc/response/"
	askTopic      = "v1/devices/me/attributes/request/"
	askedTopic    = "v1/devices/me/attributes/response/"
	updateTopic   = "v1/devices/me/attributes"
	telemetry     = "v1/devices/me/telemetry"
)

// start runs a server until the test ends, with the default limits as change leaves them.
func start(t testing.TB, auth transports.Authenticator, in transports.Inbound, change func(*mqtt.Config)) (*mqtt.Server, string) {
	t.Helper()
	cfg := mqtt.Default()
	if change != nil {
		change(&cfg)
	}
	s, err := mqtt.New(cfg, auth, in, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("serving: %v", err)
		}
		if st := s.Stats(); st.Connections != 0 || st.Sessions != 0 {
			t.Errorf("after the end there are %d connections and %d sessions", st.Connections, st.Sessions)
		}
	})
	return s, ln.Addr().String()
}

// double is a device on the bare client that acknowledges commands only when told to.
type double struct {
	c        *mqttclient.Client
	commands chan transporttest.Received
	answers  chan transporttest.Answer
	updates  chan []byte

	mu   sync.Mutex
	gate chan struct{} // while stalled: closed by Resume
}

func dial(addr string, opts mqttclient.Options) (*double, error) {
	d := &double{
		commands: make(chan transporttest.Received, 4096), answers: make(chan transporttest.Answer, 64), updates: make(chan []byte, 64),
	}
	opts.ManualAck, opts.OnPublish = true, d.received
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	var err error
	d.c, err = mqttclient.Connect(ctx, addr, opts)
	return d, err
}

func (d *double) received(c *mqttclient.Client, m mqttclient.Message) {
	d.mu.Lock()
	gate := d.gate
	d.mu.Unlock()
	if gate != nil {
		<-gate
	}
	topic, payload := string(m.Topic), bytes.Clone(m.Payload)
	number := func(prefix string) int32 {
		n, err := strconv.ParseInt(topic[len(prefix):], 10, 32)
		if err != nil {
			panic("the server published on " + topic)
		}
		return int32(n)
	}
	switch {
	case strings.HasPrefix(topic, commandTopic):
		d.commands <- transporttest.Received{Wire: number(commandTopic), Payload: payload, Handle: m.ID}
		return
	case strings.HasPrefix(topic, replyTopic):
		d.answers <- transporttest.Answer{Request: number(replyTopic), Payload: payload}
	case strings.HasPrefix(topic, askedTopic):
		d.answers <- transporttest.Answer{Request: number(askedTopic), Payload: payload}
	case topic == updateTopic:
		d.updates <- payload
	default:
		panic("the server published on " + topic)
	}
	if m.QoS > 0 {
		c.Ack(m.ID, 0)
	}
}

func (d *double) Subscribe() error {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	codes, err := d.c.Subscribe(ctx, mqttclient.Filter{Topic: commandFilter, QoS: 1}, mqttclient.Filter{Topic: updateTopic, QoS: 1})
	if err == nil && !bytes.Equal(codes, []byte{1, 1}) {
		err = fmt.Errorf("SUBACK %x", codes)
	}
	return err
}

func (d *double) Commands() <-chan transporttest.Received { return d.commands }
func (d *double) Ack(r transporttest.Received)            { d.c.Ack(r.Handle.(uint16), 0) }
func (d *double) Answers() <-chan transporttest.Answer    { return d.answers }
func (d *double) Updates() <-chan []byte                  { return d.updates }
func (d *double) Gone() <-chan struct{}                   { return d.c.Done() }
func (d *double) Drop()                                   { d.c.Drop() }

func (d *double) publish(topic string, payload []byte) <-chan error {
	acked := make(chan error, 1)
	err := d.c.Publish(topic, payload, 1, func(code byte, err error) {
		if err == nil && code >= 0x80 {
			err = mqttclient.Code{Packet: "PUBACK", Value: code}
		}
		acked <- err
	})
	if err != nil {
		select {
		case acked <- err:
		default: // the callback has told it already
		}
	}
	return acked
}

func (d *double) Reply(wire int32, payload []byte) <-chan error {
	return d.publish(fmt.Sprint(replyTopic, wire), payload)
}

func (d *double) Telemetry(payload []byte) <-chan error { return d.publish(telemetry, payload) }

func (d *double) Call(request int32, method, params string) <-chan error {
	return d.publish(fmt.Sprint(commandTopic, request), fmt.Appendf(nil, `{"method":%q,"params":%s}`, method, params))
}

func (d *double) AskAttributes(request int32, client, shared string) <-chan error {
	return d.publish(fmt.Sprint(askTopic, request), fmt.Appendf(nil, `{"clientKeys":%q,"sharedKeys":%q}`, client, shared))
}

// Foreign publishes where no device may; MQTT keeps the connection ([MQTT-3.3.5-2] leaves it to the server).
func (d *double) Foreign() bool {
	<-d.publish("v1/devices/other/telemetry", []byte("{}"))
	return d.c.Err() == nil
}

func (d *double) Stall() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gate = make(chan struct{})
}

func (d *double) Resume() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gate != nil {
		close(d.gate)
		d.gate = nil
	}
}

func TestTransport(t *testing.T) {
	for name, version := range map[string]byte{"3.1": mqttclient.V31, "3.1.1": mqttclient.V311, "5": mqttclient.V5} {
		t.Run(name, func(t *testing.T) {
			transporttest.Run(t, transporttest.Fixture{
				Start: func(t testing.TB, auth transports.Authenticator, in transports.Inbound) transporttest.Dial {
					_, addr := start(t, auth, in, nil)
					return func(token string) (transporttest.Device, error) {
						return dial(addr, mqttclient.Options{Token: token, Version: version, ClientID: "suite"})
					}
				},
				Features: transporttest.Features{
					Evidence: transports.EvidencePuback, Confirms: true, Numbers: true, Connections: true, AnswersData: true, ClientCalls: true, AsksForData: true,
					UpdatesData: true, Stalls: true, PayloadMax: mqtt.Default().MaxPacket, ForeignPaths: true,
				},
			})
		})
	}
}
