package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"syscall"
	"time"

	"callchain/cmd/callchain/client"
	"callchain/cmd/callchain/fleet"
	"callchain/cmd/callchain/serve"
	"callchain/cmd/callchain/settings"
	"callchain/eventstore"
	"callchain/examples"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

// demoMax ends a demo that hangs.
const demoMax = time.Minute

func (a *app) demo() *cobra.Command {
	on := map[string]*string{"store.url": new(string), "bus.kafka.brokers": new(string)}
	c := &cobra.Command{
		Use: "demo", Short: "See calls go to a device and back, in a few seconds", Args: args(0, 0),
		Long: `Start a server in a temporary folder on free ports, connect simulated devices, send calls through the root chain, let a device call
the server, print the history of one call, verify the log, and clean up. Nothing is left behind, unless a database or brokers are
named: what the demo stores there stays.`,
		Example: `  callchain demo
  callchain demo --store.url postgres://postgres@127.0.0.1:5432/empty --bus.kafka.brokers 127.0.0.1:9092`,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM, os.Interrupt)
			defer stop()
			ctx, cancel := context.WithTimeout(ctx, demoMax)
			defer cancel()
			folder, err := os.MkdirTemp("", "callchain-demo-")
			if err != nil {
				return fmt.Errorf("making a folder for the demo: %w", err)
			}
			defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
			d := &demo{app: a, settings: map[string]string{"data.dir": folder}}
			for key, value := range on {
				d.settings[key] = *value
			}
			defer func() { err = errors.Join(err, d.stop()) }()
			return d.run(ctx)
		},
	}
	c.Flags().StringVar(on["store.url"], "store.url", "", "a PostgreSQL database without tables, instead of the embedded database")
	c.Flags().StringVar(on["bus.kafka.brokers"], "bus.kafka.brokers", "", "Kafka's brokers, instead of queues in the process; needs --store.url")
	return c
}

// demo is one run of the demo.
type demo struct {
	*app
	settings map[string]string // where the server keeps everything
	server   *serve.Server
	rest     *client.Client
	devices  *fleet.Fleet
	got      chan string // what thermostat-1 is sent
	shown    string      // the call whose history is printed
	result   map[string]any
}

func (d *demo) run(ctx context.Context) error {
	d.result = map[string]any{}
	for _, scene := range []func(context.Context) error{d.start, d.storedCall, d.connect, d.twoWay, d.oneWay, d.deviceCall, d.history, d.verify} {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	if d.json {
		return d.printJSON(d.result)
	}
	d.tell("That was callchain. Next: callchain serve, then callchain login --password-file data/admin-password")
	return nil
}

// tell prints for people only.
func (d *demo) tell(format string, args ...any) {
	if !d.json {
		d.printf(format+"\n", args...)
	}
}

const demoUser = "demo@localhost"

func (d *demo) start(ctx context.Context) error {
	password := uuid.NewString()
	flags := map[string]string{"http.addr": "127.0.0.1:0", "mqtt.addr": "127.0.0.1:0", "coap.addr": "", "admin.email": demoUser, "admin.password": password}
	maps.Copy(flags, d.settings)
	loaded, err := settings.Load(settings.Sources{Flags: flags})
	if err != nil {
		return err
	}
	begin := time.Now()
	quiet := slog.New(slog.NewTextHandler(d.Err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if d.server, err = serve.New(ctx, loaded.Settings, quiet); err != nil {
		return err
	}
	d.server.Start()
	select {
	case <-d.server.Ready():
	case err := <-d.server.Failed():
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
	d.tell("A server is ready after %d ms: REST on %s, MQTT on %s, %s.\n",
		time.Since(begin).Milliseconds(), d.server.HTTPAddr(), d.server.MQTTAddr(), d.place(&loaded.Settings))
	if d.rest, err = client.New("http://"+d.server.HTTPAddr().String(), ""); err != nil {
		return err
	}
	_, err = d.rest.Login(ctx, demoUser, password)
	return err
}

// place says where the server keeps everything.
func (d *demo) place(s *settings.Settings) string {
	switch {
	case s.Store.URL == "":
		return "its database in " + s.Data.Dir
	case s.Bus.Kafka.Brokers == "":
		return "its database is " + s.Store.URL.String()
	}
	return fmt.Sprintf("commands and events go through Kafka on %s, its database is %s", s.Bus.Kafka.Brokers, s.Store.URL)
}

// storedCall makes the devices and sends a persistent call to one that is not there yet.
func (d *demo) storedCall(ctx context.Context) error {
	chain, err := d.rest.CreateChain(ctx, examples.GetTime)
	if err != nil {
		return fmt.Errorf("storing the example chain: %w", err)
	}
	if _, err := d.rest.CreateProfile(ctx, "clocks", chain.ID, nil); err != nil {
		return fmt.Errorf("making a device profile: %w", err)
	}
	thermostat, err := d.rest.CreateDevice(ctx, client.Device{Name: "thermostat-1", Type: "default"}, "DEMO_THERMOSTAT")
	if err != nil {
		return fmt.Errorf("making a device: %w", err)
	}
	if _, err := d.rest.CreateDevice(ctx, client.Device{Name: "clock-1", Type: "clocks"}, "DEMO_CLOCK"); err != nil {
		return fmt.Errorf("making a device: %w", err)
	}
	answer, err := d.rest.Send(ctx, thermostat.ID.ID, false, client.CallRequest{
		Method: "update", Params: json.RawMessage(`{"firmware":"2.1"}`), Persistent: true, Expires: time.Now().Add(time.Hour).UnixMilli(),
	})
	if err != nil {
		return err
	}
	d.shown = answer.ID
	d.tell("1. The application calls update on thermostat-1, which is switched off.\n   The call is stored as %s and waits.\n", answer.ID)
	return nil
}

func (d *demo) connect(ctx context.Context) error {
	d.got = make(chan string, 16) // more than the demo sends
	d.devices = fleet.New(fleet.Options{
		Addr: d.server.MQTTAddr().String(), QoS: 1, Calling: true,
		Answer: func(c fleet.Command) ([]byte, bool) {
			d.got <- string(c.Payload)
			return []byte(`{"ok":true}`), true
		},
	}, []string{"DEMO_THERMOSTAT", "DEMO_CLOCK"})
	d.tell("2. The devices connect, and the stored call reaches thermostat-1 at once.")
	if err := d.devices.Connect(ctx); err != nil {
		return err
	}
	if err := d.seen(ctx); err != nil {
		return err
	}
	return d.rest.Watch(ctx, d.shown, func(n client.Notice) error {
		if n.Name != "state" {
			return nil
		}
		var call client.Call
		if err := json.Unmarshal(n.Data, &call); err != nil {
			return fmt.Errorf("reading the call's state: %w", err)
		}
		d.tell("   It ended %s with the answer %s.\n", call.Status, call.Response)
		return client.ErrStop
	})
}

// seen tells what came at the device.
func (d *demo) seen(ctx context.Context) error {
	select {
	case payload := <-d.got:
		d.tell("      thermostat-1 gets   %s", payload)
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the call at the device: %w", ctx.Err())
	}
}

func (d *demo) twoWay(ctx context.Context) error {
	d.tell("3. A two-way call goes through the root chain to the device, and the caller waits for the answer.")
	return d.call(ctx, false, "setTarget", `{"celsius":21}`)
}

func (d *demo) oneWay(ctx context.Context) error {
	d.tell("4. A one-way call is done when it is stored and sent.")
	return d.call(ctx, true, "beep", `{"times":2}`)
}

func (d *demo) call(ctx context.Context, oneway bool, method, params string) error {
	device, err := d.rest.DeviceByName(ctx, "thermostat-1")
	if err != nil {
		return err
	}
	begin := time.Now()
	answer, err := d.rest.Send(ctx, device.ID.ID, oneway, client.CallRequest{Method: method, Params: json.RawMessage(params)})
	if err != nil {
		return err
	}
	took := milliseconds(time.Since(begin))
	if err := d.seen(ctx); err != nil {
		return err
	}
	if oneway {
		d.tell("      the caller has its 200 after %s\n", took)
	} else {
		d.tell("      the caller gets     %s after %s\n", answer.Body, took)
	}
	d.result[method] = map[string]any{"call": answer.ID, "took": took}
	return nil
}

func (d *demo) deviceCall(ctx context.Context) error {
	d.tell("5. A device calls, too: clock-1 asks for the time, and the chain of its profile answers.")
	begin := time.Now()
	answer, err := d.devices.Request(ctx, 1, "getTime", []byte("{}"))
	if err != nil {
		return fmt.Errorf("calling getTime from the device: %w", err)
	}
	d.tell("      clock-1 gets        %s after %s\n", answer, milliseconds(time.Since(begin)))
	d.result["getTime"] = json.RawMessage(answer)
	return nil
}

func (d *demo) history(ctx context.Context) error {
	call, err := d.rest.Call(ctx, d.shown)
	if err != nil {
		return err
	}
	events, err := d.rest.Events(ctx, d.shown)
	if err != nil {
		return err
	}
	d.result["history"] = events
	if d.json {
		return nil
	}
	d.tell("6. Every step was stored before it had an effect. This is what happened to the first call:\n")
	if err := printTimeline(d.Out, &call, events); err != nil {
		return err
	}
	d.tell("")
	return nil
}

// verify reads the log in a second handle beside the running server, as "callchain events verify" does.
func (d *demo) verify(ctx context.Context) (err error) {
	loaded, err := settings.Load(settings.Sources{Flags: d.settings})
	if err != nil {
		return err
	}
	store, err := serve.OpenStore(ctx, loaded.Settings)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	var first string
	sum, err := eventstore.Verify(ctx, store, func(p eventstore.Problem) {
		if first == "" {
			first = p.String()
		}
	})
	if err != nil {
		return err
	}
	if sum.Problems > 0 {
		return fmt.Errorf("the log has %d problems, the first: %s", sum.Problems, first)
	}
	d.result["verified"] = map[string]int64{"events": sum.Events, "streams": sum.Streams}
	d.tell("7. Each event carries a hash over the one before it: %d events in %d streams verified.\n", sum.Events, sum.Streams)
	return nil
}

func (d *demo) stop() error {
	if d.devices != nil {
		d.devices.Close()
	}
	if d.server == nil {
		return nil
	}
	return d.server.Stop()
}
