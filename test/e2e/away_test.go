package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"callchain/cmd/callchain/client"

	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/message/pool"
	"github.com/plgd-dev/go-coap/v3/udp"
)

// TestAway: while the broker or the database is away, no call is accepted and each refusal says when to come again; devices stay connected, and all is
// well soon after.
func TestAway(t *testing.T) {
	needsBinary(t)
	p := onKafka(t)
	p.coap = freePacketAddr(t)
	broker, database := controlled(t, "broker", "CALLCHAIN_TEST_KAFKA_CTL"), controlled(t, "database", "CALLCHAIN_TEST_POSTGRES_CTL")
	c := newCrashing(t, p)
	defer c.fleet.Close()
	for i, s := range []struct {
		service
		leave, back string
	}{
		{broker, "kill", "start"},
		{broker, "pause", "resume"}, // its connections stay, and nothing answers
		{database, "kill", "start"},
	} {
		c.online()
		before, others := c.fleet.Stats().Reconnects, c.wait(fmt.Sprintf("%s-%d", s.name, i))
		s.do(t, s.leave)
		eventually(t, 10*time.Second, func() string { return c.refusesHonestly() })
		s.do(t, s.back)
		c.served()
		back := time.Now()
		eventually(t, wellMax, func() string { return c.well(t.Context()) })
		t.Logf("%s, %s: well again after %s", s.name, s.leave, time.Since(back))
		if n := c.fleet.Stats(); n.Online != crashDevices || n.Reconnects != before {
			t.Errorf("while the %s was away, devices came anew %d times, %d are connected", s.name, n.Reconnects-before, n.Online)
		}
		others.called(c)
	}
	c.finish(c.server)
}

// refusesHonestly tells what is not yet as it must be of a server that cannot work: 503 with Retry-After for a new call, at once, and for /readyz.
func (c *crashing) refusesHonestly() string {
	ready, err := http.Get("http://" + c.place.http + "/readyz")
	if err != nil {
		return err.Error()
	}
	_ = ready.Body.Close() // its status is enough
	if ready.StatusCode != http.StatusServiceUnavailable {
		return fmt.Sprintf("/readyz says %d", ready.StatusCode)
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Second)
	defer cancel()
	for kind, call := range map[string]func() error{
		"persistent": func() error { return c.call(ctx, true) },
		"light":      func() error { return c.call(ctx, false) },
		"v1": func() error {
			return c.rest.Do(ctx, "POST", "/api/plugins/rpc/twoway/"+c.devices[0], client.CallRequest{Method: "count", Params: json.RawMessage(`{"n":0}`)}, nil)
		},
	} {
		err := call()
		if err == nil {
			c.t.Errorf("a %s call was accepted while the server said that it is not ready", kind)
		}
		if client.StatusOf(err) != http.StatusServiceUnavailable || client.RetryAfterOf(err) <= 0 {
			return fmt.Sprintf("a new %s call gets %v, to be tried again after %s", kind, err, client.RetryAfterOf(err))
		}
	}
	return ""
}

// waiting are devices that began to wait for a call before a service went away: one polls over HTTP, one observes over CoAP. What comes,
// or what is wrong with it, goes into the channels.
type waiting struct {
	devices          []string
	polled, observed chan string
}

func (c *crashing) wait(name string) *waiting {
	c.t.Helper()
	w := &waiting{polled: make(chan string, 1), observed: make(chan string, 4)}
	for _, protocol := range []string{"http", "coap"} {
		d, err := c.rest.CreateDevice(c.t.Context(), client.Device{Name: name + "-" + protocol}, name+"-"+protocol)
		if err != nil {
			c.t.Fatal(err)
		}
		w.devices = append(w.devices, d.ID.ID)
	}
	go func() { w.polled <- poll(c.place.http, name+"-http") }()
	observe(c.t, c.place.coap, name+"-coap", w.observed)
	eventually(c.t, 10*time.Second, func() string {
		if !bytes.Contains(get(c.t, "http://"+c.place.http+"/metrics"), []byte("\ncallchain_http_device_polls 1\n")) {
			return "no poll waits"
		}
		return ""
	})
	return w
}

// called calls the devices: what they began before the outage has to bring the calls.
func (w *waiting) called(c *crashing) {
	c.t.Helper()
	for i, came := range []chan string{w.polled, w.observed} {
		r := client.CallRequest{Method: "count", Params: json.RawMessage(`"after"`), Persistent: true}
		if _, err := c.rest.Send(c.t.Context(), w.devices[i], true, r); err != nil {
			c.t.Fatal(err)
		}
		select {
		case got := <-came:
			if want := `{"id":0,"method":"count","params":"after"}`; got != want {
				c.t.Errorf("device %d got %s, want %s", i, got, want)
			}
		case <-time.After(10 * time.Second):
			c.t.Errorf("device %d was not called", i)
		}
	}
}

func poll(addr, token string) string {
	resp, err := http.Get("http://" + addr + "/api/v1/" + token + "/rpc?timeout=120000")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Sprintf("%s: %s, %v", resp.Status, body, err)
	}
	return string(body)
}

// observe returns when the server has accepted the observation.
func observe(t *testing.T, addr, token string, came chan<- string) {
	t.Helper()
	conn, err := udp.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // it only ends a goroutine
	accepted := make(chan struct{}, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = conn.Observe(ctx, "/api/v1/"+token+"/rpc", func(m *pool.Message) {
		body, err := m.ReadBody()
		switch {
		case err == nil && m.Code() == codes.Valid:
			accepted <- struct{}{}
		case err == nil && m.Code() == codes.Content:
			came <- string(body)
		default:
			came <- fmt.Sprintf("%s: %s, %v", m.Code(), body, err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-accepted:
	case <-ctx.Done():
		t.Fatal("the observation was not accepted")
	}
}

func get(t *testing.T, url string) []byte {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// freePacketAddr is an address that nothing listens on now, for UDP.
func freePacketAddr(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().String()
}
