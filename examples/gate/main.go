// Command gate is a simulated gate with a radio that is on for a while and off for longer. Calls wait for it at the server; it takes
// them when it is back.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"callchain/examples/device"
)

// gate is what is opened and closed.
type gate struct {
	mu   sync.Mutex
	open bool
}

// radio says when the gate can be reached.
type radio struct {
	server, token string
	on, off       time.Duration // off 0: always on
}

func main() {
	var r radio
	flag.StringVar(&r.server, "mqtt", "127.0.0.1:1883", "host:port of the server's MQTT listener")
	flag.StringVar(&r.token, "token", "GATE_1", "access token of the device")
	flag.DurationVar(&r.on, "on", 10*time.Second, "how long the radio is on")
	flag.DurationVar(&r.off, "off", 20*time.Second, "how long it is off; 0: never")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, r, &gate{}); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "gate:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, r radio, g *gate) error {
	for ctx.Err() == nil {
		if err := g.reachable(ctx, r); err != nil {
			return err
		}
		pass(ctx, r.off)
	}
	return nil
}

// reachable has the gate online for a while.
func (g *gate) reachable(ctx context.Context, r radio) error {
	d, err := device.Connect(ctx, device.Options{Server: r.server, Token: r.token, Methods: map[string]device.Method{
		"open": g.turn(true), "close": g.turn(false), "getState": g.state,
	}})
	if err != nil {
		return err
	}
	defer d.Close()
	fmt.Println("online")
	if r.off == 0 {
		<-ctx.Done()
		return nil
	}
	pass(ctx, r.on)
	fmt.Println("offline")
	return nil
}

func pass(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (g *gate) turn(open bool) device.Method {
	return func(json.RawMessage) (any, error) {
		g.mu.Lock()
		g.open = open
		g.mu.Unlock()
		return g.state(nil)
	}
}

func (g *gate) state(json.RawMessage) (any, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	fmt.Printf("open %t\n", g.open)
	return map[string]bool{"open": g.open}, nil
}
