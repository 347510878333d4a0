package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"callchain/cmd/callchain/archive"
	"callchain/cmd/callchain/serve"
	"callchain/cmd/callchain/settings"
	"callchain/engine/replay"
	"callchain/eventstore"

	"github.com/spf13/cobra"
)

// problemsShown bounds what a broken log prints.
const problemsShown = 1000

func (a *app) eventsVerify() *cobra.Command {
	return a.onStore(&cobra.Command{
		Use: "verify", Short: "Check the hashes of the whole log, and the rows", Args: args(0, 0),
		Long: `Read every event and compare it with the hashes: a changed byte, a missing event or stream, a cut tail, an event made up. Then fold every
call from its events and compare it with its row, which is what lists and answers show. A server may go on working meanwhile. The
database is named as for serve: data.dir, or store.url. Exit status 1 if anything is wrong.`,
		Example: `  callchain events verify --data.dir ./data
  callchain events verify --config callchain.yaml --json`,
	}, a.verify)
}

func (a *app) eventsRebuild() *cobra.Command {
	return a.onStore(&cobra.Command{
		Use: "rebuild", Short: "Write the rows of calls anew from their events", Args: args(0, 0),
		Long: `Fold every call from its events and write its row, which is what lists and answers show, in place of what is there; rows without a call
are removed. The events stay as they are. No server may run on the database. It is named as for serve: data.dir, or store.url. A rebuild
that was interrupted is begun again.`,
		Example: `  callchain events rebuild --data.dir ./data
  callchain events rebuild --config callchain.yaml`,
	}, a.rebuild)
}

// onStore gives a command the event store that the settings name. SIGTERM ends it.
func (a *app) onStore(c *cobra.Command, run func(context.Context, eventstore.Store) error) *cobra.Command {
	var config string
	settingsFlags(c, &config)
	c.RunE = func(c *cobra.Command, _ []string) (err error) {
		loaded, err := a.loadSettings(c, config)
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM, os.Interrupt)
		defer stop()
		store, err := existingStore(ctx, loaded.Settings)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, store.Close()) }()
		return run(ctx, store)
	}
	return c
}

// existingStore opens the store of an installation. Opening one that does not exist would make it, and one that is behind it would change under the
// server that runs on it.
func existingStore(ctx context.Context, s settings.Settings) (eventstore.Store, error) {
	if _, err := archive.PlaceOf(s).Current(ctx); err != nil {
		return nil, err
	}
	return serve.OpenStore(ctx, s)
}

// findings keeps the first problems and counts all.
type findings struct {
	list  []string
	count int64
}

func (f *findings) add(text string) {
	if f.count++; f.count <= problemsShown {
		f.list = append(f.list, text)
	}
}

func (a *app) verify(ctx context.Context, store eventstore.Store) error {
	begin := time.Now()
	found := findings{list: []string{}}
	seen, err := archive.VerifyStore(ctx, store, found.add)
	if err != nil {
		return err
	}
	return a.printVerified(seen.Log, seen.Rows, &found, time.Since(begin))
}

func (a *app) printVerified(log eventstore.Summary, rows replay.Checked, found *findings, took time.Duration) error {
	if a.json {
		if err := a.printJSON(map[string]any{
			"partitions": log.Partitions, "events": log.Events, "streams": log.Streams, "calls": rows.Calls, "rows": rows.Rows,
			"differing": rows.Different, "problems": found.list, "seconds": took.Seconds(),
		}); err != nil {
			return err
		}
	} else {
		for _, p := range found.list {
			a.printf("%s\n", p)
		}
		a.printf("%d events in %d streams of %d partitions, %d problems\n", log.Events, log.Streams, log.Partitions, log.Problems)
		a.printf("%d calls folded, %d rows equal the fold, %d calls differ, %d cannot be folded, %s\n",
			rows.Calls, rows.Rows, rows.Different, rows.Broken, took.Round(time.Millisecond))
	}
	if found.count > 0 {
		return errSilent
	}
	return nil
}

func (a *app) rebuild(ctx context.Context, store eventstore.Store) error {
	begin := time.Now()
	broken := findings{list: []string{}}
	done, err := replay.Rebuild(ctx, store, "rebuild", replay.Options{
		Progress: a.progress(begin),
		Broken: func(stream string, err error) {
			broken.add(fmt.Sprintf("%s cannot be folded, its row stays: %v", stream, err))
		},
	})
	if errors.Is(err, eventstore.ErrInUse) {
		return errors.New("a server runs on the database: stop it first")
	}
	if err != nil {
		return err
	}
	took := time.Since(begin)
	if a.json {
		err = a.printJSON(map[string]any{
			"events": done.Events, "calls": done.Calls, "written": done.Written, "removed": done.Removed, "problems": broken.list, "seconds": took.Seconds(),
		})
	} else {
		for _, p := range broken.list {
			a.printf("%s\n", p)
		}
		a.printf("%d events of %d calls folded, %d rows written, %d removed, %s\n", done.Events, done.Calls, done.Written, done.Removed, took.Round(time.Millisecond))
	}
	if err == nil && broken.count > 0 {
		return errSilent
	}
	return err
}

// progress tells people about once a second how far a long run is.
func (a *app) progress(begin time.Time) func(events, of int64) {
	told := begin
	return func(events, of int64) {
		if a.json || time.Since(told) < time.Second {
			return
		}
		told = time.Now()
		fmt.Fprintf(a.Err, "%d of %d events, %.0f%%\n", events, of, 100*float64(events)/float64(max(of, 1)))
	}
}
