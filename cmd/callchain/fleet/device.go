package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"callchain/transports/mqtt/mqttclient"
)

// The topics of ThingsBoard's device API over MQTT.
const (
	requests  = "v1/devices/me/rpc/request/"
	responses = "v1/devices/me/rpc/response/"
)

var responsesPrefix = []byte(responses)

// device is one simulated device.
type device struct {
	fleet *Fleet
	index int
	token string

	mu         sync.Mutex
	client     *mqttclient.Client // nil while offline
	subscribed bool               // it counts as online
	node       int                // index of the address
	lastID     int32
	waiting    map[int32]chan []byte // own calls without an answer yet
}

func (d *device) current() *mqttclient.Client {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.client
}

// connect returns when the device is subscribed: a call sent from then on finds it online.
func (d *device) connect(ctx context.Context) error {
	o := &d.fleet.o
	c, err := mqttclient.Connect(ctx, d.addr(), mqttclient.Options{
		Token: d.token, Version: o.Version, ClientID: "fleet-" + strconv.Itoa(d.index), KeepAlive: o.KeepAlive, Coalesce: true,
		OnPublish: d.received, OnClose: d.closed,
	})
	if err != nil {
		return err
	}
	d.take(c)
	filters := []mqttclient.Filter{{Topic: requests + "+", QoS: o.QoS}}
	if o.Calling {
		filters = append(filters, mqttclient.Filter{Topic: responses + "+", QoS: o.QoS})
	}
	codes, err := c.Subscribe(ctx, filters...)
	if err == nil && bytes.ContainsFunc(codes, func(code rune) bool { return code >= 0x80 }) {
		err = fmt.Errorf("subscribing: the server refused with codes %x", codes)
	}
	if err == nil && !d.up(c) {
		err = c.Err()
	}
	if err != nil {
		c.Drop()
		d.take(nil)
	}
	return err
}

func (d *device) addr() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fleet.o.Addrs[d.node]
}

// elsewhere lets the next connection go to the next address.
func (d *device) elsewhere() {
	d.mu.Lock()
	d.node = (d.node + 1) % len(d.fleet.o.Addrs)
	d.mu.Unlock()
}

func (d *device) take(c *mqttclient.Client) {
	d.mu.Lock()
	d.client, d.subscribed = c, false
	d.mu.Unlock()
}

// up counts the device as online, unless the connection has ended meanwhile.
func (d *device) up(c *mqttclient.Client) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.client != c {
		return false
	}
	d.subscribed = true
	d.fleet.online.Add(1)
	return true
}

// closed runs when the connection has ended, on its reader.
func (d *device) closed(c *mqttclient.Client, _ error) {
	d.mu.Lock()
	was := d.client == c && d.subscribed
	if d.client == c {
		d.client, d.subscribed = nil, false
	}
	d.mu.Unlock()
	if !was {
		return // connect tells whoever connects
	}
	d.fleet.online.Add(-1)
	if d.fleet.o.Reconnect {
		d.fleet.beside(func() { d.fleet.reconnect(d) })
	}
}

// received runs for each message, on the connection's reader.
func (d *device) received(c *mqttclient.Client, m mqttclient.Message) {
	if id, ok := bytes.CutPrefix(m.Topic, responsesPrefix); ok {
		d.answered(id, m.Payload)
		return
	}
	id, ok := bytes.CutPrefix(m.Topic, []byte(requests))
	f := d.fleet
	if !ok {
		return // an attribute update
	}
	f.calls.Add(1)
	if f.o.Answer == nil {
		return
	}
	cmd := Command{Device: d.index, Wire: string(id), Payload: m.Payload, Dup: m.Dup}
	answer, ok := f.o.Answer(cmd)
	if !ok {
		return
	}
	if f.o.Delay > 0 || f.o.Answered != nil {
		cmd.Payload = bytes.Clone(m.Payload)
	}
	if f.o.Delay > 0 {
		time.AfterFunc(f.o.Delay, func() { d.answer(c, cmd, answer) })
		return
	}
	d.answer(c, cmd, answer)
}

func (d *device) answer(c *mqttclient.Client, cmd Command, answer []byte) {
	o := &d.fleet.o
	var acked func(byte, error)
	if o.Answered != nil && o.QoS > 0 {
		acked = func(_ byte, err error) { o.Answered(cmd, err) }
	}
	err := c.Publish(responses+cmd.Wire, answer, o.QoS, acked)
	if err == nil {
		d.fleet.answers.Add(1)
	} else if o.Answered != nil {
		o.Answered(cmd, err)
	}
}

// request makes a call of the device.
func (d *device) request(ctx context.Context, method string, params []byte) ([]byte, error) {
	got := make(chan []byte, 1)
	d.mu.Lock()
	c := d.client
	d.lastID++
	id := d.lastID
	d.waiting[id] = got
	d.mu.Unlock()
	defer d.forget(id)
	if c == nil {
		return nil, errOffline
	}
	name, err := json.Marshal(method)
	if err != nil {
		return nil, err
	}
	payload := append(append(append(append([]byte(`{"method":`), name...), `,"params":`...), params...), '}')
	if err := c.Publish(requests+strconv.Itoa(int(id)), payload, d.fleet.o.QoS, nil); err != nil {
		return nil, err
	}
	select {
	case answer := <-got:
		return answer, nil
	case <-c.Done():
		return nil, errors.Join(errOffline, c.Err())
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (d *device) answered(id, payload []byte) {
	n, err := strconv.ParseInt(string(id), 10, 32)
	if err != nil {
		return
	}
	d.mu.Lock()
	got := d.waiting[int32(n)]
	d.mu.Unlock()
	if got == nil {
		return
	}
	select {
	case got <- bytes.Clone(payload):
	default: // answered twice
	}
}

func (d *device) forget(id int32) {
	d.mu.Lock()
	delete(d.waiting, id)
	d.mu.Unlock()
}

// Echo answers with the command's params.
func Echo(c Command) ([]byte, bool) {
	var in struct {
		Params json.RawMessage `json:"params"`
	}
	if json.Unmarshal(c.Payload, &in) != nil || in.Params == nil {
		return []byte("{}"), true
	}
	return in.Params, true
}

// Fixed answers always the same.
func Fixed(answer []byte) func(Command) ([]byte, bool) {
	return func(Command) ([]byte, bool) { return answer, true }
}
