package command

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"callchain/cmd/callchain/bench"

	"github.com/spf13/cobra"
)

// benchFlags are the flags of "bench" beside bench.Options.
type benchFlags struct {
	serve, noisy bool
	on           bench.On
	names        []string
}

func (a *app) bench() *cobra.Command {
	o := bench.Options{Mode: "twoway"}
	var f benchFlags
	c := &cobra.Command{
		Use: "bench [MODE]", Short: "Measure a server", Args: args(0, 1),
		Long: `Measure a server from outside, with simulated devices over MQTT (QoS 1) and callers over REST.

  twoway      the caller has the device's answer (default)
  oneway      the call is stored and sent
  persistent  the call is stored, sent, answered and ended
  client      a device has the chain's answer to its own call
  offline     calls are stored for devices that are away, then delivered
  idle        connected devices that do nothing: memory a connection

callchain bench cluster watches several nodes, and is a command of its own.

Without --rate each caller sends when it has its answer (closed loop); with it, calls are due at fixed times and latency counts from there.
Exit status 3 if other programs used more than 0.3 core meanwhile, unless --noisy.`,
		Example: `  callchain bench --serve
  callchain bench persistent --serve --callers 256 --duration 30s
  callchain bench twoway --url http://10.0.0.5:8080 --mqtt 10.0.0.5:1883 --rate 2000
  callchain bench --serve --store-url postgres://… --brokers 127.0.0.1:9092
  callchain bench idle --serve --devices 10000 --duration 10s`,
	}
	flags := a.serverFlags(c).Flags()
	flags.IntVar(&o.Devices, "devices", 1000, "number of devices")
	flags.IntVar(&o.Callers, "callers", 64, "callers at a time")
	flags.Float64Var(&o.Rate, "rate", 0, "operations a second; 0: as fast as they are answered")
	flags.DurationVar(&o.Duration, "duration", 60*time.Second, "measured time")
	flags.DurationVar(&o.Warmup, "warmup", 5*time.Second, "time before it")
	flags.StringVar(&o.MQTT, "mqtt", "127.0.0.1:1883", "host:port of the MQTT listener")
	flags.IntVar(&o.PID, "server-pid", 0, "process of the server, for its use of processor and memory")
	flags.StringSliceVar(&f.names, "server-program", nil, "programs that work for the server, like postgres or Kafka's java")
	flags.BoolVar(&o.Keep, "keep", false, "leave the devices that were made for the run")
	flags.BoolVar(&f.serve, "serve", false, "start a server for the run, in a temporary folder; its other settings come from the environment")
	flags.StringVar(&f.on.StoreURL, "store-url", "", "with --serve: its store.url")
	flags.StringVar(&f.on.Brokers, "brokers", "", "with --serve and --store-url: its bus.kafka.brokers; new topics are made there")
	flags.BoolVar(&f.noisy, "noisy", false, "take the figures although other programs disturb")
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 1 {
			o.Mode = args[0]
		}
		if err := o.Validate(); err != nil {
			return err
		}
		o.Names = f.names
		o.Log = func(format string, args ...any) { fmt.Fprintf(a.Err, format+"\n", args...) }
		ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM, os.Interrupt)
		defer stop()
		return a.measure(ctx, o, &f)
	}
	c.AddCommand(a.benchCluster())
	return c
}

func (a *app) measure(ctx context.Context, o bench.Options, f *benchFlags) (err error) {
	if f.on.Brokers != "" && f.on.StoreURL == "" {
		return wrongUse("--brokers needs --store-url: on Kafka the server stores its events in a PostgreSQL")
	}
	if !f.serve && f.on != (bench.On{}) {
		return wrongUse("--store-url and --brokers are of the server that --serve starts: give --serve, too")
	}
	if f.serve {
		var child *bench.Child
		child, err = bench.StartServer(ctx, f.on, a.Err)
		if err != nil {
			return err
		}
		defer func() {
			if stopping := child.Stop(); err == nil {
				err = stopping
			}
		}()
		o.Client, o.MQTT, o.PID, o.Keep = child.Client, child.MQTT, child.PID, o.Keep || f.on.StoreURL == ""
		if len(f.names) == 0 {
			o.Names = f.on.Programs()
		}
	} else if o.Client, err = a.client(ctx); err != nil {
		return err
	}
	result, err := bench.Run(ctx, o)
	if err != nil {
		return err
	}
	if a.json {
		err = a.printJSON(result)
	} else {
		result.Print(a.Out)
	}
	if err == nil && result.Disturbed() && !f.noisy {
		err = errDisturbed
	}
	return err
}
