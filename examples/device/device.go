// Package device is what the example devices have in common: one connection to the server over MQTT, calls that come in and are
// answered, calls that go out, telemetry and attributes. It stands on paho, as the program of any maker of devices would, and knows
// nothing of the server but ThingsBoard's topics.
package device

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// The topics of a device.
const (
	requests   = "v1/devices/me/rpc/request/"  // + id: a call, in both directions
	responses  = "v1/devices/me/rpc/response/" // + id: its answer
	telemetry  = "v1/devices/me/telemetry"
	attributes = "v1/devices/me/attributes"
)

const (
	patience    = 30 * time.Second // for the server's acknowledgements and answers
	remembered  = 64               // answers that are kept for a call that comes again
	pauseMax    = 5 * time.Second  // between attempts to reconnect
	quiesceTime = 250              // milliseconds for what is on its way when the device disconnects
)

// Method carries out a call. What it returns is the answer, made JSON; an error becomes {"error": text}.
type Method func(params json.RawMessage) (any, error)

// Options say what a device does.
type Options struct {
	Server  string // host:port of the MQTT listener
	Token   string // access token
	Methods map[string]Method
	// Attributes gets the shared attributes that were changed at the server. nil: the device does not want them.
	Attributes func(map[string]json.RawMessage)
}

// Device is a connection that comes back by itself. Its methods may be used from many goroutines.
type Device struct {
	o      Options
	client mqtt.Client

	mu       sync.Mutex
	answers  map[string][]byte // of the last calls, by id
	order    []string          // their ids, the oldest first
	lastID   int
	pending  map[string]chan []byte // own calls without an answer yet
	ready    chan error             // nil when subscribed for the first time, or why not
	answered bool                   // ready has been told
}

// Connect returns when the device is subscribed: a call that is made from then on reaches it.
func Connect(ctx context.Context, o Options) (*Device, error) {
	d := &Device{o: o, answers: map[string][]byte{}, pending: map[string]chan []byte{}, ready: make(chan error, 1)}
	d.client = mqtt.NewClient(mqtt.NewClientOptions().
		AddBroker("tcp://" + o.Server).SetUsername(o.Token).SetClientID("device-" + o.Token).
		SetCleanSession(true). // the server keeps the calls, not the session
		SetMaxReconnectInterval(pauseMax).
		SetOnConnectHandler(d.connected))
	if err := await(ctx, d.client.Connect()); err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", o.Server, err)
	}
	select {
	case err := <-d.ready:
		if err != nil {
			d.Close()
			return nil, err
		}
		return d, nil
	case <-ctx.Done():
		d.Close()
		return nil, ctx.Err()
	}
}

// connected runs after each connect, the first one and those after a loss: subscriptions do not outlive a connection.
func (d *Device) connected(client mqtt.Client) {
	filters := map[string]byte{requests + "+": 1, responses + "+": 1}
	if d.o.Attributes != nil {
		filters[attributes] = 1
	}
	token := client.SubscribeMultiple(filters, d.received)
	go func() {
		token.Wait()
		err := token.Error()
		if err != nil {
			err = fmt.Errorf("subscribing: %w", err)
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if !d.answered {
			d.answered = true
			d.ready <- err
		}
	}()
}

// received runs for one message after the other; the client acknowledges each when this returns.
func (d *Device) received(_ mqtt.Client, m mqtt.Message) {
	if id, ok := strings.CutPrefix(m.Topic(), requests); ok {
		d.client.Publish(responses+id, 1, false, d.answer(id, m.Payload()))
		return
	}
	if id, ok := strings.CutPrefix(m.Topic(), responses); ok {
		d.mu.Lock()
		waiting := d.pending[id]
		delete(d.pending, id)
		d.mu.Unlock()
		if waiting != nil {
			waiting <- m.Payload()
		}
		return
	}
	var changed map[string]json.RawMessage
	if json.Unmarshal(m.Payload(), &changed) == nil && d.o.Attributes != nil {
		d.o.Attributes(changed)
	}
}

// answer carries a call out once: one that comes a second time, because its acknowledgement was lost, has the same id and gets the
// same answer.
func (d *Device) answer(id string, payload []byte) []byte {
	d.mu.Lock()
	answer, again := d.answers[id]
	d.mu.Unlock()
	if again {
		return answer
	}
	answer = d.carryOut(payload)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answers[id] = answer
	if d.order = append(d.order, id); len(d.order) > remembered {
		delete(d.answers, d.order[0])
		d.order = d.order[1:]
	}
	return answer
}

func (d *Device) carryOut(payload []byte) []byte {
	var call struct {
		Method string          `json:"method"`
		Params json.RawMessage `json:"params"`
	}
	result, err := any(nil), json.Unmarshal(payload, &call)
	if err == nil {
		method := d.o.Methods[call.Method]
		if method == nil {
			err = fmt.Errorf("unknown method %s", call.Method)
		} else {
			result, err = method(call.Params)
		}
	}
	var answer []byte
	if err == nil {
		answer, err = json.Marshal(result)
	}
	if err != nil {
		answer, _ = json.Marshal(map[string]string{"error": err.Error()}) // a text always marshals
	}
	return answer
}

// Call calls the server, that is a rule chain, and reads its answer into result.
func (d *Device) Call(ctx context.Context, method string, params, result any) error {
	payload, err := json.Marshal(map[string]any{"method": method, "params": params})
	if err != nil {
		return fmt.Errorf("calling %s: %w", method, err)
	}
	waiting := make(chan []byte, 1)
	d.mu.Lock()
	d.lastID++
	id := strconv.Itoa(d.lastID)
	d.pending[id] = waiting
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		delete(d.pending, id)
		d.mu.Unlock()
	}()
	if err := await(ctx, d.client.Publish(requests+id, 1, false, payload)); err != nil {
		return fmt.Errorf("calling %s: %w", method, err)
	}
	select {
	case answer := <-waiting:
		return readAnswer(method, answer, result)
	case <-ctx.Done():
		return fmt.Errorf("calling %s: %w", method, ctx.Err())
	}
}

func readAnswer(method string, answer []byte, result any) error {
	var failed struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(answer, &failed) == nil && failed.Error != "" {
		return fmt.Errorf("calling %s: %s", method, failed.Error)
	}
	if err := json.Unmarshal(answer, result); err != nil {
		return fmt.Errorf("calling %s: reading the answer %s: %w", method, answer, err)
	}
	return nil
}

// Report sends telemetry and returns when the server has stored it.
func (d *Device) Report(ctx context.Context, values any) error {
	payload, err := json.Marshal(values)
	if err == nil {
		err = await(ctx, d.client.Publish(telemetry, 1, false, payload))
	}
	if err != nil {
		return fmt.Errorf("reporting: %w", err)
	}
	return nil
}

// Close disconnects.
func (d *Device) Close() { d.client.Disconnect(quiesceTime) }

var errPatience = errors.New("the server does not answer")

func await(ctx context.Context, token mqtt.Token) error {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-token.Done():
		return token.Error()
	case <-late.C:
		return errPatience
	case <-ctx.Done():
		return ctx.Err()
	}
}
