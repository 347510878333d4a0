// Command thermostat is a simulated thermostat. Its room follows the target temperature; it reports the temperature, asks the server
// for the day's schedule when it starts, takes calls, and stops heating as long as the shared attribute "alarm" is true.
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

// safe is the temperature that the room falls to when the heating is off.
const safe = 18.0

// room is what the thermostat controls.
type room struct {
	mu     sync.Mutex
	now    float64
	target float64
	alarm  bool
}

// schedule is the server's answer to getSchedule.
type schedule struct {
	Schedule []struct {
		From    string  `json:"from"` // hh:mm
		Celsius float64 `json:"celsius"`
	} `json:"schedule"`
}

func main() {
	server := flag.String("mqtt", "127.0.0.1:1883", "host:port of the server's MQTT listener")
	token := flag.String("token", "THERMOSTAT_1", "access token of the device")
	interval := flag.Duration("interval", 5*time.Second, "between two reports")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *server, *token, *interval); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "thermostat:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, server, token string, interval time.Duration) error {
	r := &room{now: 19, target: 20}
	d, err := device.Connect(ctx, device.Options{
		Server: server, Token: token, Attributes: r.attributes,
		Methods: map[string]device.Method{"setTarget": r.setTarget, "getStatus": r.getStatus},
	})
	if err != nil {
		return err
	}
	defer d.Close()
	var day schedule
	if err := d.Call(ctx, "getSchedule", map[string]any{}, &day); err != nil {
		return err
	}
	for _, part := range day.Schedule {
		fmt.Printf("schedule: from %s %g °C\n", part.From, part.Celsius)
	}
	fmt.Println("ready")
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if err := d.Report(ctx, map[string]float64{"temperature": r.warm()}); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "thermostat:", err) // the connection comes back by itself
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// warm lets time pass: the room comes half the way to where it is heated to.
func (r *room) warm() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	goal := r.target
	if r.alarm {
		goal = min(goal, safe)
	}
	r.now += (goal - r.now) / 2
	return float64(int(r.now*10+0.5)) / 10
}

func (r *room) setTarget(params json.RawMessage) (any, error) {
	var in struct {
		Celsius *float64 `json:"celsius"`
	}
	if err := json.Unmarshal(params, &in); err != nil || in.Celsius == nil {
		return nil, errors.New(`setTarget wants {"celsius": number}`)
	}
	if *in.Celsius < 5 || *in.Celsius > 35 {
		return nil, errors.New("celsius must be from 5 to 35")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.target = *in.Celsius
	fmt.Printf("target %g °C\n", r.target)
	return map[string]float64{"target": r.target}, nil
}

func (r *room) getStatus(json.RawMessage) (any, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return map[string]any{"target": r.target, "heating": !r.alarm}, nil
}

func (r *room) attributes(changed map[string]json.RawMessage) {
	text, told := changed["alarm"]
	if !told {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.alarm = string(text) == "true"
	fmt.Printf("alarm %t\n", r.alarm)
}
