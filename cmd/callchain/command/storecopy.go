package command

import (
	"context"
	"fmt"
	"time"

	"callchain/cmd/callchain/archive"
	"callchain/cmd/callchain/settings"

	"github.com/spf13/cobra"
)

func (a *app) store() *cobra.Command {
	return group("store", "Move an installation to another database", "Copy everything from one database into another.", a.storeCopy())
}

func (a *app) storeCopy() *cobra.Command {
	var o archive.Options
	var from, to string
	c := a.onSettings(&cobra.Command{
		Use: "copy", Short: "Copy everything from one database into another, empty one", Args: args(0, 0),
		Long: `Copy events, rows, users, devices, credentials, chains and wrapped keys from SQLite into PostgreSQL, or the other way. --from and --to are
folders (data.dir) or URLs (postgres://…). Without them, data.dir is copied into store.url: put a URL with a password into the
environment (CALLCHAIN_STORE_URL), where other users of the machine do not see it.

Stop the server first: a database in use is refused, as is a target that is not empty. Everything is copied or nothing; what was
interrupted is begun again. Events keep their bytes and hashes; then all of them are verified. The new server needs the same auth.key and
the same number of partitions. The old database stays as it is: do not start a server on it again.`,
		Example: `  callchain store copy --from ./data --to postgres://callchain@db/callchain
  CALLCHAIN_STORE_URL=postgres://callchain:secret@db/callchain callchain store copy --data.dir ./data
  callchain store copy --from postgres://callchain@db/callchain --to ./data`,
	}, func(ctx context.Context, s settings.Settings, _ []string) error {
		source, target := archive.Place{Dir: s.Data.Dir}, archive.Place{URL: s.Store.URL}
		if from != "" {
			source = archive.ParsePlace(from)
		}
		if to != "" {
			target = archive.ParsePlace(to)
		}
		if target == (archive.Place{}) {
			return wrongUse("name the target: --to, or store.url")
		}
		return a.copyStore(ctx, source, target, o)
	})
	c.Flags().StringVar(&from, "from", "", "folder or postgres://…; by default data.dir")
	c.Flags().StringVar(&to, "to", "", "folder or postgres://…; by default store.url")
	positionFlag(c, &o)
	return c
}

func (a *app) copyStore(ctx context.Context, from, to archive.Place, o archive.Options) error {
	if from == to {
		return wrongUse("--from and --to are the same database")
	}
	begin := time.Now()
	a.step("copying %s into %s", from, to)
	o.Progress = a.progress(begin)
	sum, err := archive.Copy(ctx, from, to, o)
	if err != nil {
		return err
	}
	return a.proveCopy(ctx, to, sum, begin, map[string]any{"from": from.String()}, fmt.Sprintf("copied into %s", to))
}

func (a *app) migrate() *cobra.Command {
	var check bool
	c := a.onSettings(&cobra.Command{
		Use: "migrate", Short: "Bring the tables of the database up to date without starting a server", Args: args(0, 0),
		Long: `Bring the tables of the database up to date, as the start of a server does, under the same lock: of several that begin at once, one
works and the others wait. With --check only tell how far they are: exit status 1 if there is something to do. A database that a newer
program has changed is refused, and the way back is a backup: make one before.`,
		Example: `  callchain migrate --check --config callchain.yaml
  callchain migrate --config callchain.yaml`,
	}, func(ctx context.Context, s settings.Settings, _ []string) error {
		if check {
			return a.checkSchema(ctx, archive.PlaceOf(s))
		}
		return a.migrateSchema(ctx, archive.PlaceOf(s))
	})
	c.Flags().BoolVar(&check, "check", false, "only tell how far the tables are")
	return c
}

func (a *app) checkSchema(ctx context.Context, p archive.Place) error {
	versions, err := p.Versions(ctx)
	if err != nil {
		return err
	}
	behind := false
	for _, v := range versions {
		behind = behind || v.Is < v.Newest
	}
	if err := a.printVersions(versions, behind); err != nil {
		return err
	}
	if newer := archive.Newer(versions); newer != nil {
		return fmt.Errorf("%s: %w", p, newer)
	}
	if behind {
		return errSilent
	}
	return nil
}

func (a *app) migrateSchema(ctx context.Context, p archive.Place) error {
	versions, err := p.Migrate(ctx)
	if err != nil {
		return err
	}
	return a.printVersions(versions, false)
}

func (a *app) printVersions(versions []archive.Version, behind bool) error {
	if a.json {
		return a.printJSON(map[string]any{"schemas": versions, "behind": behind})
	}
	for _, v := range versions {
		a.printf("%s: version %d, this program has %d\n", v.Schema, v.Is, v.Newest)
	}
	return nil
}
