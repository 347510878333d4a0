package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"callchain/cmd/callchain/client"

	"github.com/spf13/cobra"
)

func (a *app) events() *cobra.Command {
	return group("events", "Follow and verify the event log",
		"Follow the events as they are committed, verify the log's hashes and that the rows are what the events say, and write the rows anew.",
		a.serverFlags(a.eventsTail()), a.eventsVerify(), a.eventsRebuild())
}

func (a *app) eventsTail() *cobra.Command {
	var f client.StreamFilter
	var device string
	c := &cobra.Command{
		Use: "tail", Short: "Print events as they are committed", Args: args(0, 0),
		Example: `  callchain events tail
  callchain events tail --type Failed,Expired --json
  callchain events tail --device thermostat-1`,
	}
	c.Flags().StringVar(&f.After, "after", "", "go on behind this cursor, which --json prints with each event")
	c.Flags().StringSliceVar(&f.Types, "type", nil, "only these types, like Succeeded,Failed")
	c.Flags().StringVar(&device, "device", "", "only of this device (id or name)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM, os.Interrupt)
		defer stop()
		server, err := a.client(ctx)
		if err != nil {
			return err
		}
		if device != "" {
			if f.Device, err = deviceID(ctx, server, device); err != nil {
				return err
			}
		}
		err = server.Follow(ctx, f, a.printNotice)
		if ctx.Err() != nil {
			return nil // the user has seen enough
		}
		if err == nil {
			err = errors.New("the server ended the stream; --after goes on behind the last cursor")
		}
		return err
	}
	return c
}

func (a *app) printNotice(n client.Notice) error {
	if a.json {
		return a.printJSON(struct {
			Cursor string          `json:"cursor"`
			Event  json.RawMessage `json:"event"`
		}{n.ID, n.Data})
	}
	var e client.Event
	if err := json.Unmarshal(n.Data, &e); err != nil {
		return fmt.Errorf("reading an event: %w", err)
	}
	a.printf("%s  %-16s %-18s %-10s %s  %s\n", e.At.Format("15:04:05.000000"), e.Type, shortActor(e.Actor), shortCause(e.Cause), e.Stream, detail(&e))
	return nil
}
