// Command meters is a fleet of simulated electricity meters in one process, each with a connection of its own. They answer getReading.
// Every -broken'th of them has a broken counter and answers with what cannot be true.
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

	"callchain/examples/device"
)

// connecting is how many meters connect at a time: a fleet that comes back after a power cut should not come as one wave.
const connecting = 20

// fleet says which meters there are.
type fleet struct {
	server, prefix string
	count, broken  int
}

func main() {
	var f fleet
	flag.StringVar(&f.server, "mqtt", "127.0.0.1:1883", "host:port of the server's MQTT listener")
	flag.StringVar(&f.prefix, "tokens", "METER_", "access tokens are this and 1, 2, …")
	flag.IntVar(&f.count, "count", 200, "number of meters")
	flag.IntVar(&f.broken, "broken", 50, "every so many'th is broken; 0: none")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := f.run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "meters:", err)
		os.Exit(1)
	}
}

func (f *fleet) run(ctx context.Context) error {
	devices, err := f.connect(ctx)
	defer func() {
		var wg sync.WaitGroup
		for _, d := range devices {
			if d != nil {
				wg.Go(d.Close)
			}
		}
		wg.Wait()
	}()
	if err != nil {
		return err
	}
	fmt.Printf("%d meters are ready\n", len(devices))
	<-ctx.Done()
	return nil
}

// connect connects all meters, or fails with the first that could not; the others are given back all the same.
func (f *fleet) connect(ctx context.Context) ([]*device.Device, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	devices := make([]*device.Device, f.count)
	places := make(chan struct{}, connecting)
	var wg sync.WaitGroup
	for i := range devices {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			d, err := device.Connect(ctx, device.Options{
				Server: f.server, Token: fmt.Sprint(f.prefix, i+1), Methods: map[string]device.Method{"getReading": f.reading(i + 1)},
			})
			if err != nil {
				cancel(fmt.Errorf("meter %d: %w", i+1, err))
				return
			}
			devices[i] = d
		})
	}
	wg.Wait()
	return devices, context.Cause(ctx)
}

// reading makes the method getReading of a meter; each time it has counted 0.5 kWh more.
func (f *fleet) reading(meter int) device.Method {
	kwh := 100 * float64(meter)
	if f.broken > 0 && meter%f.broken == 0 {
		return func(json.RawMessage) (any, error) { return map[string]any{"meter": meter, "kwh": -1}, nil }
	}
	return func(json.RawMessage) (any, error) { // a connection's calls come one after the other
		kwh += 0.5
		return map[string]any{"meter": meter, "kwh": kwh}, nil
	}
}
