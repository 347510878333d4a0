package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"callchain/cmd/callchain/client"
	"callchain/cmd/callchain/serve"
	"callchain/cmd/callchain/settings"
	"callchain/eventstore"

	"github.com/spf13/cobra"
)

func (a *app) events() *cobra.Command {
	return group("events", "Follow and verify the event log", "Follow the events as they are committed, and verify the log's hashes.",
		a.serverFlags(a.eventsTail()), a.eventsVerify())
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

func (a *app) eventsVerify() *cobra.Command {
	var config string
	c := &cobra.Command{
		Use: "verify", Short: "Check the hashes of the whole log", Args: args(0, 0),
		Long: `Read every event and compare it with the hashes: a changed byte, a missing event or stream, a cut tail, an event made up. A server may go
on working meanwhile. The database is named as for serve: data.dir, or store.url. Exit status 1 if anything is wrong.`,
		Example: `  callchain events verify --data.dir ./data
  callchain events verify --config callchain.yaml --json`,
	}
	settingsFlags(c, &config)
	c.RunE = func(c *cobra.Command, _ []string) error {
		loaded, err := a.loadSettings(c, config)
		if err != nil {
			return err
		}
		return a.verify(c, loaded.Settings)
	}
	return c
}

func (a *app) verify(c *cobra.Command, s settings.Settings) (err error) {
	if s.Store.URL == "" { // opening would make an empty database
		if _, err := os.Stat(filepath.Join(s.Data.Dir, serve.EventsFile)); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("data.dir %s holds no database: name another one", s.Data.Dir)
		}
	}
	store, err := serve.OpenStore(c.Context(), s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	begin := time.Now()
	problems := []string{}
	sum, err := eventstore.Verify(c.Context(), store, func(p eventstore.Problem) {
		if len(problems) < problemsShown {
			problems = append(problems, p.String())
		}
	})
	if err != nil {
		return err
	}
	return a.printVerified(sum, problems, time.Since(begin))
}

// problemsShown bounds what a broken log prints.
const problemsShown = 1000

func (a *app) printVerified(sum eventstore.Summary, problems []string, took time.Duration) error {
	if a.json {
		if err := a.printJSON(map[string]any{
			"partitions": sum.Partitions, "events": sum.Events, "streams": sum.Streams, "problems": problems, "seconds": took.Seconds(),
		}); err != nil {
			return err
		}
	} else {
		for _, p := range problems {
			a.printf("%s\n", p)
		}
		a.printf("%d events in %d streams of %d partitions, %d problems, %s\n", sum.Events, sum.Streams, sum.Partitions, sum.Problems, took.Round(time.Millisecond))
	}
	if sum.Problems > 0 {
		return errSilent
	}
	return nil
}
