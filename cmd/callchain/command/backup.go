package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"syscall"
	"time"

	"callchain/cmd/callchain/archive"
	"callchain/cmd/callchain/settings"

	"github.com/spf13/cobra"
)

// onSettings gives a command the settings and its arguments. SIGTERM ends it.
func (a *app) onSettings(c *cobra.Command, run func(context.Context, settings.Settings, []string) error) *cobra.Command {
	var config string
	settingsFlags(c, &config)
	c.RunE = func(c *cobra.Command, args []string) error {
		loaded, err := a.loadSettings(c, config)
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM, os.Interrupt)
		defer stop()
		return run(ctx, loaded.Settings, args)
	}
	return c
}

func (a *app) backup() *cobra.Command {
	return a.onSettings(&cobra.Command{
		Use: "backup FILE", Short: "Save everything of an installation in one file, while its server works", Args: args(1, 1),
		Long: `Save the events, the rows beside them, the users, devices, credentials and chains in one file, all as of one moment. A server may go on
working. The database is named as for serve: data.dir, or store.url. FILE must not exist; it is made with mode 0600, because it holds
credentials. With - the backup goes to standard output, and the summary to standard error.

Not in it: auth.key, which wraps the keys in the database, and chains.dir. Keep auth.key elsewhere: without it no backup can be used.
The hash chain of each partition is followed while it is saved; a log that lacks an event is not saved. The digest stands for all
events: two databases with the same events have the same.`,
		Example: `  callchain backup --data.dir ./data callchain-monday.backup
  callchain backup --config callchain.yaml - | gpg -e -r ops > callchain.backup.gpg
  callchain backup --config callchain.yaml --json callchain.backup`,
	}, a.makeBackup)
}

func (a *app) makeBackup(ctx context.Context, s settings.Settings, args []string) (err error) {
	begin, from, path := time.Now(), archive.PlaceOf(s), args[0]
	to, summary := a.Out, a.Err
	if path != "-" {
		var file *os.File
		file, err = archive.CreateFile(path)
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s exists and is not written over: name another file", path)
		}
		if err != nil {
			return fmt.Errorf("making the backup: %w", err)
		}
		defer func() {
			if err != nil { // half a backup is of no use
				err = errors.Join(err, os.Remove(path))
			}
		}()
		to, summary = file, a.Out
		return a.intoFile(file, func() error { return a.writeBackup(ctx, from, path, to, summary, begin) })
	}
	return a.writeBackup(ctx, from, path, to, summary, begin)
}

// intoFile closes a file when all was written to it, and waits until it is on the disk.
func (a *app) intoFile(file *os.File, write func() error) error {
	err := write()
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

func (a *app) writeBackup(ctx context.Context, from archive.Place, path string, to, summary io.Writer, begin time.Time) error {
	sum, bytes, err := archive.Backup(ctx, from, a.Version, to, a.progress(begin))
	if err != nil {
		return err
	}
	shown := *a
	shown.Out = summary
	return shown.printCopy(sum, time.Since(begin), map[string]any{"file": path, "bytes": bytes},
		fmt.Sprintf("saved in %s, %d bytes", path, bytes))
}

// printCopy prints what a copy holds.
func (a *app) printCopy(sum archive.Summary, took time.Duration, more map[string]any, text string) error {
	if a.json {
		more["seconds"], more["partitions"], more["events"], more["rows"] = took.Seconds(), sum.Partitions, sum.Events, sum.Rows
		more["heads"], more["digest"] = sum.Heads, sum.Digest
		return a.printJSON(more)
	}
	a.printf("%d events of %d partitions, digest %s\n", sum.Events, sum.Partitions, sum.Digest)
	a.printf("%d rows of calls, %d devices, %d users, %d chains\n", sum.Rows["calls"], sum.Rows["devices"], sum.Rows["users"], sum.Rows["rule_chains"])
	a.printf("%s, %s\n", text, took.Round(time.Millisecond))
	return nil
}

// keyNote is what the operator must do beside.
const keyNote = "the keys inside are wrapped by the auth.key of the old installation: the server needs that one, not a new one"

func (a *app) restore() *cobra.Command {
	var o archive.Options
	c := a.onSettings(&cobra.Command{
		Use: "restore FILE", Short: "Fill an empty database with a backup", Args: args(1, 1),
		Long: `Fill an empty data.dir or an empty PostgreSQL database with what callchain backup has saved, of whichever of the two it was. The file is
read and compared with its checksums before anything is written; then everything is written or nothing; then every hash is verified and
every row is compared with the events. The target is named as for serve. No server may run on it.

The positions in the topics of Kafka are kept: what was stepped before the backup is not stepped again, and the server goes on with what
Kafka has kept since. If the topics are others, the server says so and waits for bus.kafka.resume. With --clear-positions it takes the
topics from their oldest record on and publishes every event from the first on: only for topics that are new and empty, or
commands happen twice.`,
		Example: `  callchain restore --data.dir ./restored callchain-monday.backup
  CALLCHAIN_STORE_URL=postgres://callchain:secret@db/callchain callchain restore callchain-monday.backup`,
	}, func(ctx context.Context, s settings.Settings, args []string) error {
		return a.restoreFile(ctx, archive.PlaceOf(s), args[0], o)
	})
	positionFlag(c, &o)
	return c
}

func positionFlag(c *cobra.Command, o *archive.Options) {
	c.Flags().BoolVar(&o.ClearPositions, "clear-positions", false, "begin the topics of Kafka anew: only for topics that are new and empty")
}

func (a *app) restoreFile(ctx context.Context, to archive.Place, path string, o archive.Options) (err error) {
	if path == "-" {
		return wrongUse("the backup is read twice: put it into a file first")
	}
	begin := time.Now()
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("reading the backup: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	a.step("checking %s", path)
	if _, _, err := archive.Check(ctx, file, a.progress(begin)); err != nil {
		return fmt.Errorf("%s: %w; nothing was written", path, err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("reading the backup again: %w", err)
	}
	a.step("restoring into %s", to)
	o.Progress = a.progress(time.Now())
	sum, err := archive.Restore(ctx, file, to, o)
	if err != nil {
		return err
	}
	return a.proveCopy(ctx, to, sum, begin, map[string]any{"file": path}, fmt.Sprintf("restored into %s", to))
}

// step tells people what a long run does now.
func (a *app) step(format string, args ...any) {
	if !a.json {
		fmt.Fprintf(a.Err, format+"\n", args...)
	}
}

// proveCopy verifies what was written and prints the summary. Problems were in the source: the copy has its hashes.
func (a *app) proveCopy(ctx context.Context, to archive.Place, sum archive.Summary, begin time.Time, more map[string]any, text string) error {
	a.step("verifying")
	found := findings{list: []string{}}
	v, err := archive.Verify(ctx, to, found.add)
	if err != nil {
		return fmt.Errorf("all is written; verifying it: %w", err)
	}
	more["database"], more["problems"], more["calls"], more["note"] = to.String(), found.list, v.Rows.Calls, keyNote
	if err := a.printCopy(sum, time.Since(begin), more, text); err != nil {
		return err
	}
	if !a.json {
		a.printf("%d events verified, %d calls folded, %d problems\n", v.Log.Events, v.Rows.Calls, found.count)
		for _, p := range found.list {
			a.printf("%s\n", p)
		}
		a.printf("%s\n", keyNote)
	}
	if found.count > 0 {
		return errSilent
	}
	return nil
}
