package command

import (
	"context"
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"

	"callchain/cmd/callchain/client"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

func (a *app) rpc() *cobra.Command {
	return group("rpc", "Call devices and look at calls", "Call devices, and look at calls and their history.",
		a.serverFlags(a.rpcSend()), a.serverFlags(a.rpcGet()), a.serverFlags(a.rpcList()), a.serverFlags(a.rpcHistory()),
		a.serverFlags(a.rpcCancel()), a.serverFlags(a.rpcWatch()))
}

// deviceID takes an id, or finds the device with this name.
func deviceID(ctx context.Context, c *client.Client, idOrName string) (string, error) {
	if _, err := uuid.Parse(idOrName); err == nil {
		return idOrName, nil
	}
	d, err := c.DeviceByName(ctx, idOrName)
	if err != nil {
		return "", fmt.Errorf("looking for device %q: %w", idOrName, err)
	}
	return d.ID.ID, nil
}

// sendFlags are the flags of "rpc send".
type sendFlags struct {
	oneway, persistent, watch bool
	timeout, expires          time.Duration
	retries                   int
	id, key, info             string
}

func (f *sendFlags) request(method, params string) (client.CallRequest, error) {
	r := client.CallRequest{Method: method, Persistent: f.persistent, Timeout: f.timeout.Milliseconds(), ID: f.id, Key: f.key}
	if params != "" {
		if !json.Valid([]byte(params)) {
			return r, wrongUse(`PARAMS must be JSON, like {"pin":7} or "text" (with its quotes), not %s`, params)
		}
		r.Params = json.RawMessage(params)
	}
	if f.info != "" {
		if !json.Valid([]byte(f.info)) {
			return r, wrongUse("--info must be JSON, not %s", f.info)
		}
		r.Info = json.RawMessage(f.info)
	}
	if f.expires > 0 {
		r.Expires = time.Now().Add(f.expires).UnixMilli()
	}
	if f.retries >= 0 {
		r.Retries = &f.retries
	}
	return r, nil
}

func (a *app) rpcSend() *cobra.Command {
	var f sendFlags
	c := &cobra.Command{
		Use: "send DEVICE METHOD [PARAMS]", Short: "Call a device", Args: args(2, 3),
		Long: `Call a device, named by its id or its name. PARAMS are JSON. A two-way call prints the device's answer; a persistent one prints its
id at once and goes on without the caller (--watch follows it to its end).`,
		Example: `  callchain rpc send thermostat-1 getTemperature
  callchain rpc send thermostat-1 setTarget '{"celsius":21}' --timeout 30s
  callchain rpc send thermostat-1 reboot --oneway
  callchain rpc send thermostat-1 update '{"version":"2.1"}' --persistent --expires 24h --retries 3`,
	}
	c.Flags().BoolVar(&f.oneway, "oneway", false, "want no answer")
	c.Flags().BoolVar(&f.persistent, "persistent", false, "store the call; it waits for a device that is away")
	c.Flags().BoolVar(&f.watch, "watch", false, "with --persistent: follow the call to its end")
	c.Flags().DurationVar(&f.timeout, "timeout", 0, "wait for the answer; the server raises it to its minimum")
	c.Flags().DurationVar(&f.expires, "expires", 0, "the call ends this long from now, without a minimum; wins over --timeout")
	c.Flags().IntVar(&f.retries, "retries", -1, "deliveries tried again; -1 takes the server's default")
	c.Flags().StringVar(&f.id, "id", "", "the call's id, a UUID that you choose: the same call sent twice happens once")
	c.Flags().StringVar(&f.key, "key", "", "Idempotency-Key: the same for any text")
	c.Flags().StringVar(&f.info, "info", "", "additionalInfo, JSON that is kept beside the call")
	c.RunE = func(c *cobra.Command, args []string) error {
		params := ""
		if len(args) == 3 {
			params = args[2]
		}
		r, err := f.request(args[1], params)
		if err != nil {
			return err
		}
		if f.watch && !f.persistent {
			return wrongUse("--watch goes with --persistent; other calls are waited for anyway")
		}
		return a.send(c.Context(), args[0], r, &f)
	}
	return c
}

func (a *app) send(ctx context.Context, device string, r client.CallRequest, f *sendFlags) error {
	server, err := a.client(ctx)
	if err != nil {
		return err
	}
	id, err := deviceID(ctx, server, device)
	if err != nil {
		return err
	}
	answer, err := server.Send(ctx, id, f.oneway, r)
	if err != nil {
		return err
	}
	switch {
	case f.watch:
		return a.watch(ctx, server, answer.ID)
	case a.json:
		out := map[string]any{"id": answer.ID}
		if !f.persistent && len(answer.Body) > 0 {
			out["answer"] = json.RawMessage(answer.Body)
		}
		return a.printJSON(out)
	case f.persistent:
		a.printf("queued as call %s\n", answer.ID)
	case f.oneway:
		a.printf("sent as call %s\n", answer.ID)
	default:
		a.printf("%s\n", answer.Body)
		fmt.Fprintf(a.Err, "call %s\n", answer.ID)
	}
	return nil
}

// aboutCall makes a command about one call.
func (a *app) aboutCall(use, short, example string, do func(context.Context, *client.Client, string) error) *cobra.Command {
	return &cobra.Command{
		Use: use + " CALL", Short: short, Args: args(1, 1), Example: "  " + example,
		RunE: func(c *cobra.Command, args []string) error {
			if _, err := uuid.Parse(args[0]); err != nil {
				return wrongUse("CALL is the id of a call, a UUID, not %q", args[0])
			}
			server, err := a.client(c.Context())
			if err != nil {
				return err
			}
			return do(c.Context(), server, args[0])
		},
	}
}

func (a *app) rpcGet() *cobra.Command {
	return a.aboutCall("get", "Show the state of a call", "callchain rpc get 0193d3a2-7b1c-7e55-9e6f-2f1c5d1d9a10",
		func(ctx context.Context, server *client.Client, id string) error {
			call, err := server.Call(ctx, id)
			if err != nil {
				return err
			}
			return a.printCall(&call)
		})
}

func (a *app) printCall(call *client.Call) error {
	if a.json {
		return a.printJSON(call)
	}
	w := tabwriter.NewWriter(a.Out, 0, 4, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	row("call", "%s", call.ID)
	row("device", "%s", call.Device)
	row("method", "%s %s", call.Method, call.Params)
	row("state", "%s (%s)%s", call.Phase, call.Status, reason(call))
	row("created", "%s", call.Created.Format(time.RFC3339Nano))
	row("expires", "%s", call.Expires.Format(time.RFC3339Nano))
	if call.Terminal() {
		row("ended", "%s", call.Ended.Format(time.RFC3339Nano))
	}
	row("persistent", "%t, one-way %t, attempts %d", call.Persistent, call.Oneway, call.Attempts)
	if err := w.Flush(); err != nil {
		return fmt.Errorf("printing the call: %w", err)
	}
	return nil
}

func (a *app) rpcHistory() *cobra.Command {
	return a.aboutCall("history", "Show what happened to a call, fact by fact", "callchain rpc history 0193d3a2-7b1c-7e55-9e6f-2f1c5d1d9a10",
		func(ctx context.Context, server *client.Client, id string) error {
			events, err := server.Events(ctx, id)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(events)
			}
			call, err := server.Call(ctx, id)
			if err != nil {
				return err
			}
			return printTimeline(a.Out, &call, events)
		})
}

func (a *app) rpcCancel() *cobra.Command {
	return a.aboutCall("cancel", "End an open call", "callchain rpc cancel 0193d3a2-7b1c-7e55-9e6f-2f1c5d1d9a10",
		func(ctx context.Context, server *client.Client, id string) error {
			call, err := server.Cancel(ctx, id)
			if err != nil {
				return err
			}
			return a.printCall(&call)
		})
}

func (a *app) rpcWatch() *cobra.Command {
	return a.aboutCall("watch", "Follow a call to its end", "callchain rpc watch 0193d3a2-7b1c-7e55-9e6f-2f1c5d1d9a10", a.watch)
}

// watch prints the facts of a call as they come.
func (a *app) watch(ctx context.Context, server *client.Client, id string) error {
	var first time.Time
	return server.Watch(ctx, id, func(n client.Notice) error {
		if n.Name == "state" {
			var call client.Call
			if err := json.Unmarshal(n.Data, &call); err != nil {
				return fmt.Errorf("reading the call's state: %w", err)
			}
			if a.json {
				return a.printJSON(call)
			}
			a.printf("ended %s (%s)%s\n", call.Phase, call.Status, reason(&call))
			return client.ErrStop
		}
		var e client.Event
		if err := json.Unmarshal(n.Data, &e); err != nil {
			return fmt.Errorf("reading an event: %w", err)
		}
		if a.json {
			return a.printJSON(e)
		}
		if first.IsZero() {
			first = e.Occurred
		}
		a.printf("+%-14s %-16s %-16s %s\n", milliseconds(e.Occurred.Sub(first)), e.Type, shortActor(e.Actor), detail(&e))
		return nil
	})
}

func (a *app) rpcList() *cobra.Command {
	var f client.CallFilter
	var device string
	var since time.Duration
	var persistent bool
	c := &cobra.Command{
		Use: "list", Short: "List calls, the newest first", Args: args(0, 0),
		Example: `  callchain rpc list --device thermostat-1 --since 1h
  callchain rpc list --status failed --limit 20
  callchain rpc list --persistent --status QUEUED --json`,
	}
	c.Flags().StringVar(&device, "device", "", "only of this device (id or name)")
	c.Flags().StringVar(&f.Status, "status", "", "only with this status (SUCCESSFUL) or phase (succeeded)")
	c.Flags().StringVar(&f.Method, "method", "", "only with this method")
	c.Flags().DurationVar(&since, "since", 0, "only from the last hours or minutes, like 2h")
	c.Flags().BoolVar(&persistent, "persistent", false, "only persistent ones (--persistent=false: only light ones)")
	c.Flags().IntVar(&f.Size, "limit", 50, "at most so many")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if f.Size < 1 || f.Size > 1000 {
			return wrongUse("--limit must be between 1 and 1000, is %d", f.Size)
		}
		server, err := a.client(c.Context())
		if err != nil {
			return err
		}
		if device != "" {
			if f.Device, err = deviceID(c.Context(), server, device); err != nil {
				return err
			}
		}
		if since > 0 {
			f.From = time.Now().Add(-since)
		}
		if c.Flags().Changed("persistent") {
			f.Persistent = &persistent
		}
		page, err := server.Calls(c.Context(), f)
		if err != nil {
			return err
		}
		return a.printCalls(page)
	}
	return c
}

func (a *app) printCalls(page client.CallPage) error {
	if a.json {
		return a.printJSON(page.Data)
	}
	w := tabwriter.NewWriter(a.Out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "CALL\tCREATED\tMETHOD\tSTATE\tREASON")
	for i := range page.Data {
		call := &page.Data[i]
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", call.ID, call.Created.Format(time.DateTime), clip(call.Method, 30), call.Status, call.Code)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("printing the calls: %w", err)
	}
	return nil
}
