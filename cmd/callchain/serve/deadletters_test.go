package serve

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"callchain/cmd/callchain/client"
	"callchain/eventstore/pgtest"

	"github.com/IBM/sarama"
)

// greedyChain reads so many values, one after the other, that a step gives up: a real way to have a command rejected.
func greedyChain(reads int) string {
	var b strings.Builder
	b.WriteString("name: Greedy\nnodes:\n")
	for n := range reads {
		fmt.Fprintf(&b, "  - name: read %d\n    type: originator attributes\n    config: {serverAttributeNames: [a%d], tellFailureIfAbsent: false}\n", n, n)
		next := "send"
		if n+1 < reads {
			next = fmt.Sprintf("read %d", n+1)
		}
		fmt.Fprintf(&b, "    to:\n      Success: %s\n", next)
	}
	b.WriteString("  - name: send\n    type: rpc call request\n")
	return b.String()
}

// letter is a dead letter as REST shows it.
type letter struct {
	ID      string `json:"id"`
	Device  string `json:"deviceId"`
	Reason  string `json:"reason"`
	Detail  string `json:"detail"`
	Command struct {
		Kind   string `json:"kind"`
		Actor  string `json:"actor"`
		Base64 string `json:"base64"`
		Stored struct {
			Do struct {
				ID     string         `json:"id"`
				Method string         `json:"method"`
				Params map[string]any `json:"params"`
			} `json:"do"`
		} `json:"stored"`
	} `json:"command"`
}

func letters(t *testing.T, c *client.Client) []letter {
	t.Helper()
	var page struct {
		Data []letter `json:"data"`
	}
	if err := c.Do(t.Context(), http.MethodGet, "/api/dead-letters", nil, &page); err != nil {
		t.Fatal(err)
	}
	return page.Data
}

func wantCode(t *testing.T, err error, status int, code string) {
	t.Helper()
	var failed *client.Error
	if !errors.As(err, &failed) || failed.Status != status || failed.Code != code {
		t.Errorf("%v, want %d %s", err, status, code)
	}
}

// TestDeadLetters: a call that its chain cannot take becomes a letter. It fails once more, runs when the chain is mended, and is sent once;
// another letter is dropped.
func TestDeadLetters(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) { deadLetters(t, nil) })
	t.Run("PostgreSQL", func(t *testing.T) { deadLetters(t, map[string]string{"store.url": pgtest.Database(t)}) })
}

func deadLetters(t *testing.T, more map[string]string) {
	server, c := run(t, load(t, t.TempDir(), more))
	chain, err := c.CreateChain(t.Context(), []byte(greedyChain(40)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateProfile(t.Context(), "greedy", chain.ID, nil); err != nil {
		t.Fatal(err)
	}
	id, f := device(t, server, c, "d", "greedy")
	const call = "11111111-2222-4333-8444-555555555555"
	for _, own := range []string{call, ""} {
		_, err := c.Send(t.Context(), id, false, client.CallRequest{Method: "setGpio", Params: []byte(`{"pin":7}`), Persistent: true, Timeout: 600_000, ID: own})
		wantCode(t, err, http.StatusConflict, "command_rejected")
	}
	all := letters(t, c)
	if len(all) != 2 {
		t.Fatalf("%d letters: %+v", len(all), all)
	}
	other, l := all[0], all[1] // the newest first
	if do := l.Command.Stored.Do; l.Device != id || l.Reason != "command_rejected" || l.Command.Kind != "call" || !strings.HasPrefix(l.Command.Actor, "user:") ||
		do.ID != call || do.Method != "setGpio" || do.Params["pin"] != 7.0 {
		t.Errorf("the letter: %+v", l)
	}
	rerun := func(letter string) (out map[string]any, err error) {
		err = c.Do(t.Context(), http.MethodPost, "/api/dead-letters/"+letter+"/rerun", nil, &out)
		return out, err
	}
	_, err = rerun(l.ID)
	wantCode(t, err, http.StatusConflict, "command_rejected")
	if err := c.Do(t.Context(), http.MethodDelete, "/api/dead-letters/"+other.ID, nil, nil); err != nil {
		t.Error(err)
	}
	wantCode(t, c.Do(t.Context(), http.MethodDelete, "/api/dead-letters/"+other.ID, nil, nil), http.StatusNotFound, "not_found")

	mended := map[string]any{"name": "Greedy", "nodes": []any{map[string]any{"name": "send", "type": "rpc call request"}}}
	if err := c.Do(t.Context(), http.MethodPut, "/api/chains/"+chain.ID+"?activate=true", mended, nil); err != nil {
		t.Fatal(err)
	}
	if out, err := rerun(l.ID); err != nil || out["outcome"] != "accepted" || out["rpcId"] != call || out["deviceId"] != id {
		t.Errorf("the rerun: %v, %v", out, err)
	}
	_, err = rerun(l.ID)
	wantCode(t, err, http.StatusNotFound, "not_found")
	if left := letters(t, c); len(left) > 0 {
		t.Errorf("letters are left: %+v", left)
	}
	until(t, func() bool {
		state, err := c.Call(t.Context(), call)
		return err == nil && state.Status == "SUCCESSFUL"
	}, "the call has not ended")
	if n := f.Stats().Calls; n != 1 {
		t.Errorf("the device was sent %d commands, want 1", n)
	}
}

// TestUnreadableLetter: bytes that a stranger wrote into the inbox can be seen, read on their topic, and dropped. They cannot be run again.
func TestUnreadableLetter(t *testing.T) {
	more := onKafka(t)
	_, c := run(t, load(t, t.TempDir(), more))
	brokers, prefix := []string{more["bus.kafka.brokers"]}, more["bus.kafka.prefix"]
	write(t, brokers, prefix+"callchain.inbox", []byte("\xff no command"))
	var all []letter
	until(t, func() bool { all = letters(t, c); return len(all) > 0 }, "there is no letter")
	if len(all) != 1 || all[0].Reason != "command_unreadable" || all[0].Command.Base64 != "/yBubyBjb21tYW5k" {
		t.Errorf("the letters: %+v", all)
	}
	if reason, value := first(t, brokers, prefix+"callchain.dead-letters"); reason != "command_unreadable" || !strings.Contains(value, all[0].ID) {
		t.Errorf("the topic has %s %s", reason, value)
	}
	path := "/api/dead-letters/" + all[0].ID
	wantCode(t, c.Do(t.Context(), http.MethodPost, path+"/rerun", nil, nil), http.StatusConflict, "command_unreadable")
	if err := c.Do(t.Context(), http.MethodDelete, path, nil, nil); err != nil || len(letters(t, c)) > 0 {
		t.Errorf("dropping it: %v, left are %+v", err, letters(t, c))
	}
}

// write puts bytes into partition 0 of a topic.
func write(t *testing.T, brokers []string, topic string, value []byte) {
	t.Helper()
	config := sarama.NewConfig()
	config.Producer.Partitioner, config.Producer.Return.Successes = sarama.NewManualPartitioner, true
	p, err := sarama.NewSyncProducer(brokers, config)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.ByteEncoder(value)}); err != nil {
		t.Fatal(err)
	}
}

// first is the first record of a topic: its header reason, and its value.
func first(t *testing.T, brokers []string, topic string) (reason, value string) {
	t.Helper()
	c, err := sarama.NewConsumer(brokers, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	source, err := c.ConsumePartition(topic, 0, sarama.OffsetOldest)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	select {
	case m := <-source.Messages():
		for _, h := range m.Headers {
			if string(h.Key) == "reason" {
				reason = string(h.Value)
			}
		}
		return reason, string(m.Value)
	case <-time.After(15 * time.Second):
		t.Fatal("nothing is in the topic " + topic)
		return "", ""
	}
}
