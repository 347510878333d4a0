package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"callchain/cmd/callchain/client"
	"callchain/cmd/callchain/fleet"
	"callchain/engine/relay"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// published is a server on Kafka with a device that answers, and the topic that its events go to.
type published struct {
	t       *testing.T
	rest    *client.Client
	device  string
	brokers string
	prefix  string
	calls   []string // ids, in the order in which they were made
}

// flag is the value of a flag of the place.
func (p *place) flag(name string) string {
	i := slices.Index(p.flags, name)
	return p.flags[i+1]
}

func publish(t *testing.T) *published {
	t.Helper()
	place := onKafka(t)
	p := &published{t: t, rest: start(t, place).login(t), brokers: place.flag("--bus.kafka.brokers"), prefix: place.flag("--bus.kafka.prefix")}
	d, err := p.rest.CreateDevice(t.Context(), client.Device{Name: "published", Type: "default"}, "published")
	if err != nil {
		t.Fatal(err)
	}
	p.device = d.ID.ID
	f := fleet.New(fleet.Options{Addr: place.mqtt, QoS: 1, Answer: fleet.Echo}, []string{"published"})
	t.Cleanup(f.Close)
	if err := f.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

// call makes a call that the device answers.
func (p *published) call(method string) {
	p.t.Helper()
	answer, err := p.rest.Send(p.t.Context(), p.device, false, client.CallRequest{Method: method, Params: json.RawMessage(`{"text":"<ä> & 1.0"}`)})
	if err != nil {
		p.t.Fatal(err)
	}
	p.calls = append(p.calls, answer.ID)
}

// lines are what the examples print of a call, made of what the server shows over REST.
func (p *published) lines(calls ...string) []string {
	p.t.Helper()
	var out []string
	for _, id := range calls {
		events, err := p.rest.Events(p.t.Context(), id)
		if err != nil {
			p.t.Fatal(err)
		}
		for _, e := range events {
			occurred := e.Occurred.UTC().Format("2006-01-02T15:04:05.000000Z")
			out = append(out, strings.Join([]string{occurred, id, e.Type, e.Actor, e.Cause, string(e.Data)}, "  "))
		}
	}
	return out
}

// messages reads the topic from its beginning until it has every event of the calls.
func (p *published) messages() []*sarama.ConsumerMessage {
	p.t.Helper()
	want := len(p.lines(p.calls...))
	consumer, err := sarama.NewConsumer([]string{p.brokers}, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	defer consumer.Close()
	topic := p.prefix + "callchain.events"
	numbers, err := consumer.Partitions(topic)
	if err != nil {
		p.t.Fatal(err)
	}
	all := make(chan *sarama.ConsumerMessage, 1000)
	for _, n := range numbers {
		source, err := consumer.ConsumePartition(topic, n, sarama.OffsetOldest)
		if err != nil {
			p.t.Fatal(err)
		}
		defer source.Close()
		go func() {
			for m := range source.Messages() {
				all <- m
			}
		}()
	}
	var out []*sarama.ConsumerMessage
	for late := time.After(15 * time.Second); want > 0; {
		select {
		case m := <-all:
			out = append(out, m)
			if strings.HasPrefix(string(m.Key), "rpc/") {
				want--
			}
		case <-late:
			p.t.Fatalf("%d events of calls are not in the topic", want)
		}
	}
	return out
}

// repeat publishes a message once more, as the server does after a crash.
func (p *published) repeat(m *sarama.ConsumerMessage) {
	p.t.Helper()
	c := sarama.NewConfig()
	c.Producer.Return.Successes, c.Producer.Partitioner = true, sarama.NewManualPartitioner
	producer, err := sarama.NewSyncProducer([]string{p.brokers}, c)
	if err != nil {
		p.t.Fatal(err)
	}
	again := &sarama.ProducerMessage{Topic: m.Topic, Partition: m.Partition, Key: sarama.ByteEncoder(m.Key), Value: sarama.ByteEncoder(m.Value)}
	for _, h := range m.Headers {
		again.Headers = append(again.Headers, *h)
	}
	if _, _, err := producer.SendMessage(again); err != nil {
		p.t.Fatal(err)
	}
	if err := producer.Close(); err != nil {
		p.t.Fatal(err)
	}
}

// TestPublishedEvents holds the topic against its description: docs/asyncapi.yaml and docs/events.schema.json.
func TestPublishedEvents(t *testing.T) {
	needsBinary(t)
	p := publish(t)
	p.call("first")
	p.call("second")
	schema, err := jsonschema.NewCompiler().Compile("../../docs/events.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	last := map[int32]int64{}
	for _, m := range p.messages() {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(m.Value))
		if err == nil {
			err = schema.Validate(v)
		}
		if err != nil {
			t.Errorf("%s: %v", m.Value, err)
		}
		var e client.Event
		if err := json.Unmarshal(m.Value, &e); err != nil {
			t.Fatal(err)
		}
		if e.Seq != last[m.Partition]+1 || e.Partition != m.Partition || e.Stream != string(m.Key) {
			t.Errorf("partition %d, key %s, after event %d: %s", m.Partition, m.Key, last[m.Partition], m.Value)
		}
		last[m.Partition] = e.Seq
		checkHeaders(t, m, v.(map[string]any))
	}
}

// checkHeaders compares a message's headers with its value.
func checkHeaders(t *testing.T, m *sarama.ConsumerMessage, value map[string]any) {
	t.Helper()
	got, want := map[string]string{}, map[string]string{}
	for _, h := range m.Headers {
		got[string(h.Key)] = string(h.Value)
	}
	if _, err := uuid.Parse(got["_watermill_message_uuid"]); err != nil {
		t.Errorf("the message's own id: %v", err)
	}
	delete(got, "_watermill_message_uuid")
	for header, field := range map[string]string{
		relay.HeaderType: "type", relay.HeaderTypeVersion: "typeVersion", relay.HeaderSeq: "seq", relay.HeaderTenant: "tenantId",
		relay.HeaderDevice: "deviceId", relay.HeaderTraceID: "trace",
	} {
		if v, ok := value[field]; ok {
			want[header] = fmt.Sprint(v)
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("the headers are %v, the value says %v", got, want)
	}
}

// example is one of the programs in examples/consumers, with its own positions.
type example struct {
	t       *testing.T
	command []string
}

// run lets the program print what it has not seen yet.
func (e *example) run(more ...string) []string {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, e.command[0], append(e.command[1:len(e.command):len(e.command)], more...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		e.t.Fatalf("%s: %v: %s", strings.Join(cmd.Args, " "), err, errs.String())
	}
	return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
}

func (e *example) expect(what string, want []string, more ...string) {
	e.t.Helper()
	if got := e.run(more...); !slices.Equal(got, want) {
		e.t.Errorf("%s: got\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestExampleConsumers runs the examples in Go and Python against a server on Kafka.
func TestExampleConsumers(t *testing.T) {
	needsBinary(t)
	p := publish(t)
	p.call("first")
	p.call("second")
	inGo := filepath.Join(t.TempDir(), "follow")
	if out, err := exec.Command("go", "build", "-o", inGo, "callchain/examples/consumers/go").CombinedOutput(); err != nil {
		t.Fatalf("building the example: %v\n%s", err, out)
	}
	for name, command := range map[string][]string{"Go": {inGo}, "Python": {"", "../../examples/consumers/python/follow.py"}} {
		t.Run(name, func(t *testing.T) {
			if command[0] == "" {
				command[0] = python(t)
			}
			state := filepath.Join(t.TempDir(), "positions.json")
			e := &example{t: t, command: append(command, "--brokers", p.brokers, "--prefix", p.prefix, "--state", state)}
			all := p.messages()
			e.expect("everything so far", p.lines(p.calls...), "--once")
			e.expect("nothing new", []string{""}, "--once")
			for _, m := range all {
				p.repeat(m)
			}
			e.expect("repetitions only", []string{""}, "--once")
			p.call("for " + name)
			last := p.calls[len(p.calls)-1]
			e.expect("one call until its end", p.lines(last), "--call", last)

			if err := os.WriteFile(state, []byte(`{"0":{"offset":`+strconv.Itoa(1<<40)+`,"seq":1}}`), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(e.command[0], append(e.command[1:], "--once")...).CombinedOutput()
			if err == nil || !strings.Contains(string(out), "remove the file to begin with what is there") {
				t.Errorf("positions beyond the topic: %v, %s", err, out)
			}
		})
	}
}
