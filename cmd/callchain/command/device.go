package command

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"text/tabwriter"
	"time"

	"callchain/cmd/callchain/client"
	"callchain/cmd/callchain/fleet"
	"callchain/transports/mqtt/mqttclient"

	"github.com/spf13/cobra"
)

func (a *app) device() *cobra.Command {
	return group("device", "Make, list and simulate devices", "Make and list devices, and simulate devices that answer calls.",
		a.serverFlags(a.deviceCreate()), a.serverFlags(a.deviceList()), a.serverFlags(a.deviceSimulate()))
}

func (a *app) deviceCreate() *cobra.Command {
	var kind, token string
	c := &cobra.Command{
		Use: "create NAME", Short: "Make a device and print its access token", Args: args(1, 1),
		Example: `  callchain device create thermostat-1
  callchain device create thermostat-2 --profile thermostats --access-token A1_TOKEN`,
	}
	c.Flags().StringVar(&kind, "profile", "default", "name of the device profile; it is made if there is none")
	c.Flags().StringVar(&token, "access-token", "", "access token; made at random by default")
	c.RunE = func(c *cobra.Command, args []string) error {
		server, err := a.client(c.Context())
		if err != nil {
			return err
		}
		d, err := server.CreateDevice(c.Context(), client.Device{Name: args[0], Type: kind}, token)
		if err != nil {
			return err
		}
		if token, err = server.DeviceToken(c.Context(), d.ID.ID); err != nil {
			return err
		}
		if a.json {
			return a.printJSON(map[string]string{"id": d.ID.ID, "name": d.Name, "accessToken": token})
		}
		a.printf("device %s\nid     %s\ntoken  %s\n", d.Name, d.ID.ID, token)
		return nil
	}
	return c
}

func (a *app) deviceList() *cobra.Command {
	var search string
	var limit int
	c := &cobra.Command{
		Use: "list", Short: "List devices by name", Args: args(0, 0),
		Example: "  callchain device list --search thermostat",
	}
	c.Flags().StringVar(&search, "search", "", "part of the name")
	c.Flags().IntVar(&limit, "limit", 100, "at most so many")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if limit < 1 || limit > 1000 {
			return wrongUse("--limit must be between 1 and 1000, is %d", limit)
		}
		server, err := a.client(c.Context())
		if err != nil {
			return err
		}
		page, err := server.Devices(c.Context(), limit, 0, search)
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON(page.Data)
		}
		w := tabwriter.NewWriter(a.Out, 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "DEVICE\tNAME\tPROFILE\tCREATED")
		for _, d := range page.Data {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", d.ID.ID, d.Name, d.Type, time.UnixMilli(d.Created).Format(time.DateTime))
		}
		if page.HasNext {
			fmt.Fprintf(w, "… %d in all\n", page.Total)
		}
		return w.Flush()
	}
	return c
}

// simulateFlags are the flags of "device simulate".
type simulateFlags struct {
	mqtt, prefix, answer, version string
	count, qos                    int
	delay, duration               time.Duration
	tokens                        []string
}

func (a *app) deviceSimulate() *cobra.Command {
	var f simulateFlags
	c := &cobra.Command{
		Use: "simulate", Short: "Connect devices that answer calls", Args: args(0, 0),
		Long: `Connect devices over MQTT that answer every call. They are made at the server if they do not exist (--count, --prefix), or named by their
access tokens (--device-token), which needs no login. Ends with Ctrl-C or after --for.`,
		Example: `  callchain device simulate --count 10
  callchain device simulate --device-token A1_TOKEN --answer '{"ok":true}' --delay 200ms
  callchain device simulate --count 1000 --answer silent --for 1m`,
	}
	c.Flags().StringVar(&f.mqtt, "mqtt", "127.0.0.1:1883", "host:port of the MQTT listener")
	c.Flags().IntVar(&f.count, "count", 1, "number of devices")
	c.Flags().StringVar(&f.prefix, "prefix", "simulated", "devices are called prefix-0, prefix-1, …")
	c.Flags().StringSliceVar(&f.tokens, "device-token", nil, "access tokens of devices that exist")
	c.Flags().StringVar(&f.answer, "answer", "echo", "echo (the params), silent, or the JSON of each answer")
	c.Flags().StringVar(&f.version, "mqtt-version", "3.1.1", "3.1, 3.1.1 or 5")
	c.Flags().IntVar(&f.qos, "qos", 1, "0 or 1")
	c.Flags().DurationVar(&f.delay, "delay", 0, "wait before each answer")
	c.Flags().DurationVar(&f.duration, "for", 0, "end after this; 0: never")
	c.RunE = func(c *cobra.Command, _ []string) error {
		o, err := f.options()
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM, os.Interrupt)
		defer stop()
		tokens := f.tokens
		if len(tokens) == 0 {
			if tokens, err = a.simulatedDevices(ctx, &f); err != nil {
				return err
			}
		}
		return a.simulate(ctx, o, tokens, f.duration)
	}
	return c
}

func (f *simulateFlags) options() (fleet.Options, error) {
	o := fleet.Options{Addr: f.mqtt, Delay: f.delay, KeepAlive: time.Minute, Reconnect: true}
	switch f.version {
	case "3.1":
		o.Version = mqttclient.V31
	case "3.1.1":
		o.Version = mqttclient.V311
	case "5":
		o.Version = mqttclient.V5
	default:
		return o, wrongUse("--mqtt-version must be 3.1, 3.1.1 or 5, is %q", f.version)
	}
	if f.qos != 0 && f.qos != 1 {
		return o, wrongUse("--qos must be 0 or 1, is %d", f.qos)
	}
	if f.count < 1 || f.count > 100_000 {
		return o, wrongUse("--count must be between 1 and 100000, is %d", f.count)
	}
	o.QoS = byte(f.qos)
	switch f.answer {
	case "echo":
		o.Answer = fleet.Echo
	case "silent":
	default:
		if !json.Valid([]byte(f.answer)) {
			return o, wrongUse("--answer must be echo, silent or JSON, is %q", f.answer)
		}
		o.Answer = fleet.Fixed([]byte(f.answer))
	}
	return o, nil
}

// simulatedDevices finds or makes the devices and gives their access tokens.
func (a *app) simulatedDevices(ctx context.Context, f *simulateFlags) ([]string, error) {
	server, err := a.client(ctx)
	if err != nil {
		return nil, err
	}
	tokens := make([]string, f.count)
	for i := range tokens {
		name := f.prefix + "-" + strconv.Itoa(i)
		d, err := server.DeviceByName(ctx, name)
		if client.StatusOf(err) == 404 {
			d, err = server.CreateDevice(ctx, client.Device{Name: name, Type: "default"}, "")
		}
		if err != nil {
			return nil, fmt.Errorf("making device %s: %w", name, err)
		}
		if tokens[i], err = server.DeviceToken(ctx, d.ID.ID); err != nil {
			return nil, fmt.Errorf("reading the token of device %s: %w", name, err)
		}
		if tokens[i] == "" {
			return nil, fmt.Errorf("device %s has no access token; name another --prefix", name)
		}
	}
	return tokens, nil
}

func (a *app) simulate(ctx context.Context, o fleet.Options, tokens []string, most time.Duration) error {
	if answer := o.Answer; answer != nil && !a.json && len(tokens) <= 10 {
		o.Answer = func(c fleet.Command) ([]byte, bool) {
			out, speaks := answer(c)
			fmt.Fprintf(a.Err, "device %d: call %s: %s → %s\n", c.Device, c.Wire, c.Payload, out)
			return out, speaks
		}
	}
	f := fleet.New(o, tokens)
	defer f.Close()
	if err := f.Connect(ctx); err != nil {
		return err
	}
	fmt.Fprintf(a.Err, "%d devices are connected to %s\n", f.Len(), o.Addr)
	var end <-chan time.Time
	if most > 0 {
		end = time.After(most)
	}
	select {
	case <-ctx.Done():
	case <-end:
	}
	s := f.Stats()
	if a.json {
		return a.printJSON(map[string]int64{"devices": int64(f.Len()), "calls": s.Calls, "answers": s.Answers, "reconnects": s.Reconnects})
	}
	a.printf("%d calls, %d answers, %d reconnects\n", s.Calls, s.Answers, s.Reconnects)
	return nil
}
