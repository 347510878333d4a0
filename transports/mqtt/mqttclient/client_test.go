package mqttclient_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"callchain/transports"
	"callchain/transports/internal/mqttwire"
	"callchain/transports/mqtt"
	"callchain/transports/mqtt/mqttclient"
	"callchain/transports/transporttest"
)

const wait = 15 * time.Second

func serve(t *testing.T) (*transporttest.Engine, string) {
	t.Helper()
	engine := transporttest.NewEngine()
	s, err := mqtt.New(mqtt.Default(), engine, engine, slog.New(slog.DiscardHandler))
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
			t.Error(err)
		}
	})
	return engine, ln.Addr().String()
}

func connect(t *testing.T, addr string, opts mqttclient.Options) *mqttclient.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	c, err := mqttclient.Connect(ctx, addr, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Drop)
	return c
}

func next[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(wait):
		t.Fatal("nothing came")
	}
	panic("unreachable")
}

func TestRefusedConnectIsACode(t *testing.T) {
	_, addr := serve(t)
	for version, want := range map[byte]byte{mqttclient.V311: 5, mqttclient.V5: 0x86} {
		_, err := mqttclient.Connect(t.Context(), addr, mqttclient.Options{Token: "unknown", Version: version})
		if !errors.Is(err, mqttclient.Code{Packet: "CONNACK", Value: want}) {
			t.Errorf("version %d: %v, want code %x", version, err, want)
		}
	}
}

// A server that accepts and stays silent: Connect ends with its context.
func TestConnectEndsWithItsContext(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := mqttclient.Connect(ctx, ln.Addr().String(), mqttclient.Options{Token: "a"}); err == nil {
		t.Fatal("connected to a server that said nothing")
	}
}

// A server that answers CONNECT and no ping, as one does that is stopped: the connection ends.
func TestSilentServerIsLeft(t *testing.T) {
	ours, theirs := net.Pipe()
	go func() {
		in := make([]byte, 256)
		_, err := theirs.Read(in)
		if err == nil {
			_, err = theirs.Write([]byte{0x20, 2, 0, 0})
		}
		if err != nil {
			t.Error(err)
		}
		for err == nil { // the pings, until the client has gone
			_, err = theirs.Read(in)
		}
	}()
	ended := make(chan error, 1)
	c, err := mqttclient.Open(t.Context(), ours, mqttclient.Options{
		KeepAlive: time.Second, OnClose: func(_ *mqttclient.Client, err error) { ended <- err },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Drop)
	if err := next(t, ended); !errors.Is(err, mqttclient.ErrSilent) {
		t.Errorf("the connection ended with %v", err)
	}
}

// Messages are acknowledged when the handler has returned, and a reply sent from it goes out first.
func TestAcknowledgesByItself(t *testing.T) {
	for _, coalesce := range []bool{false, true} {
		t.Run(fmt.Sprint("coalesce ", coalesce), func(t *testing.T) {
			engine, addr := serve(t)
			c := connect(t, addr, mqttclient.Options{
				Token: "device", Version: mqttclient.V5, Coalesce: coalesce,
				OnPublish: func(c *mqttclient.Client, m mqttclient.Message) {
					p, err := m.Properties()
					if err != nil {
						t.Error(err)
					}
					if err := c.Publish(p.ResponseTopic, []byte("{}"), 1, nil); err != nil {
						t.Error(err)
					}
				},
			})
			codes, err := c.Subscribe(t.Context(), mqttclient.Filter{Topic: "v1/devices/me/rpc/request/+", QoS: 1})
			if err != nil || !bytes.Equal(codes, []byte{1}) {
				t.Fatalf("SUBACK %x %v", codes, err)
			}
			link := engine.Session(t, "device").Link
			const calls = 100
			for i := range int32(calls) {
				link.Send(transports.Command{Call: transporttest.DeviceID(fmt.Sprint(i)), Wire: i, Method: "m", Deadline: time.Now().Add(wait)})
			}
			for i := range int32(calls) {
				if ev := engine.Next(t, transporttest.Reply); ev.Number != i {
					t.Fatalf("reply %d, want %d", ev.Number, i)
				}
				engine.Next(t, transporttest.Acknowledged)
			}
		})
	}
}

func TestPublishTellsTheCodeOrTheEnd(t *testing.T) {
	engine, addr := serve(t)
	c := connect(t, addr, mqttclient.Options{Token: "device", Version: mqttclient.V5})
	type ack struct {
		code byte
		err  error
	}
	acks := make(chan ack, 1)
	note := func(code byte, err error) { acks <- ack{code, err} }
	if err := c.Publish("nobody/knows/it", nil, 1, note); err != nil {
		t.Fatal(err)
	}
	if a := next(t, acks); a != (ack{0x90, nil}) {
		t.Fatalf("unknown topic: %+v", a)
	}
	engine.Hold(transporttest.Telemetry)
	if err := c.Publish("v1/devices/me/telemetry", []byte("{}"), 1, note); err != nil {
		t.Fatal(err)
	}
	engine.Next(t, transporttest.Telemetry)
	engine.Session(t, "device").Link.Close(transports.ReasonTakenOver)
	want := mqttclient.Code{Packet: "DISCONNECT", Value: 0x8e}
	if a := next(t, acks); !errors.Is(a.err, want) {
		t.Fatalf("connection ended: %+v", a)
	}
	<-c.Done()
	if err := c.Publish("v1/devices/me/telemetry", []byte("{}"), 0, nil); !errors.Is(err, want) {
		t.Fatalf("publishing after the end: %v", err)
	}
}

// The end is told once, whoever made it.
func TestOnClose(t *testing.T) {
	engine, addr := serve(t)
	for name, end := range map[string]func(*mqttclient.Client){"close": (*mqttclient.Client).Close, "drop": (*mqttclient.Client).Drop} {
		ended := make(chan error, 2)
		c := connect(t, addr, mqttclient.Options{Token: name, OnClose: func(_ *mqttclient.Client, err error) { ended <- err }})
		end(c)
		if err := next(t, ended); !errors.Is(err, mqttclient.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
		engine.Next(t, transporttest.Disconnect)
		c.Drop()
		if len(ended) != 0 {
			t.Errorf("%s: told twice", name)
		}
	}
}

// A silent client pings within its keep-alive time.
func TestKeepAlive(t *testing.T) {
	ours, theirs := net.Pipe()
	pinged := make(chan error, 1)
	go func() {
		var rd mqttwire.Reader
		rd.Reset(theirs, 1000)
		if _, _, err := rd.Next(); err != nil {
			pinged <- err
			return
		}
		if _, err := theirs.Write([]byte{packets.Connack << 4, 2, 0, 0}); err != nil {
			pinged <- err
			return
		}
		header, _, err := rd.Next()
		if err == nil && header != packets.Pingreq<<4 {
			err = fmt.Errorf("packet %x", header)
		}
		pinged <- err
	}()
	c, err := mqttclient.Open(t.Context(), ours, mqttclient.Options{Token: "a", KeepAlive: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Drop()
	if err := next(t, pinged); err != nil {
		t.Fatal(err)
	}
}
