package archive

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"callchain/cmd/callchain/serve"
	"callchain/cmd/callchain/settings"
	"callchain/eventstore"
	"callchain/eventstore/postgres"
	"callchain/eventstore/sqlite"
	"callchain/migrations"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"
)

// Place is a database: a folder with the files of the embedded one, or the URL of a PostgreSQL.
type Place struct {
	Dir string
	URL settings.DatabaseURL // empty: Dir
}

// PlaceOf is the database that the settings name.
func PlaceOf(s settings.Settings) Place { return Place{Dir: s.Data.Dir, URL: s.Store.URL} }

// ParsePlace reads postgres://… or the path of a folder.
func ParsePlace(text string) Place {
	if strings.HasPrefix(text, "postgres://") || strings.HasPrefix(text, "postgresql://") {
		return Place{URL: settings.DatabaseURL(text)}
	}
	return Place{Dir: text}
}

// String names it without a password.
func (p Place) String() string {
	if p.URL == "" {
		return "data.dir " + p.Dir
	}
	return p.URL.String()
}

// Dialect is the kind of database.
func (p Place) Dialect() migrations.Dialect {
	if p.URL == "" {
		return migrations.SQLite
	}
	return migrations.Postgres
}

// settings are those of a server that uses the database.
func (p Place) settings() settings.Settings {
	var s settings.Settings
	s.Data.Dir, s.Store.URL = p.Dir, p.URL
	return s
}

func (p Place) eventsFile() string   { return filepath.Join(p.Dir, serve.EventsFile) }
func (p Place) registryFile() string { return filepath.Join(p.Dir, serve.RegistryFile) }

// fileOf is the file of a set in the embedded database.
func (p Place) fileOf(s migrations.Set) string {
	switch s.Table {
	case migrations.EventsTable, migrations.IndexesTable:
		return p.eventsFile()
	}
	return p.registryFile()
}

// database opens the database of a set without changing it. One that is not there: fs.ErrNotExist.
func (p Place) database(s migrations.Set) (*sql.DB, error) {
	if p.URL != "" {
		return sql.Open("pgx", p.URL.Reveal())
	}
	if _, err := os.Stat(p.fileOf(s)); err != nil {
		return nil, err
	}
	path, err := filepath.Abs(p.fileOf(s))
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path, RawQuery: "_pragma=busy_timeout(5000)"}).String())
	if err == nil {
		db.SetMaxOpenConns(1)
	}
	return db, err
}

var errNone = errors.New("there is no installation: name the data.dir or the store.url of one")

// Current reads the versions of the schema by its name, which must be those that this program writes and reads, and changes nothing.
func (p Place) Current(ctx context.Context) (map[string]int64, error) {
	versions, err := p.Versions(ctx)
	if err != nil {
		return nil, err
	}
	if err := Newer(versions); err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	out := map[string]int64{}
	for _, v := range versions[:len(sets())] {
		switch {
		case v.Is == 0:
			return nil, fmt.Errorf("%s: %w", p, errNone)
		case v.Is < v.Newest:
			return nil, fmt.Errorf("%s: %s is at version %d, this program needs %d: use the program that serves it, or run callchain migrate first",
				p, v.Schema, v.Is, v.Newest)
		}
		out[v.Schema] = v.Is
	}
	return out, nil
}

// snapshot opens what is there as of now. The events are seen as of no later than the registry: a device is in the registry before any
// event names it, so every device that an event names is in the copy unless it was deleted.
func (p Place) snapshot(ctx context.Context) (eventstore.Snapshot, error) {
	if p.URL != "" {
		return postgres.OpenSnapshot(ctx, p.URL.Reveal())
	}
	return sqlite.OpenSnapshot(ctx, p.eventsFile(), p.registryFile())
}

// fill takes the database to be filled with what was saved at these versions.
func (p Place) fill(ctx context.Context, schema map[string]int64) (eventstore.Filling, error) {
	var at []migrations.At
	for _, s := range sets() {
		if schema[s.Table] == 0 {
			return nil, fmt.Errorf("%w: it does not tell the version of %s", ErrDamaged, s.Table)
		}
		at = append(at, migrations.At{Set: s, Version: schema[s.Table]})
	}
	var f eventstore.Filling
	var err error
	if p.URL != "" {
		f, err = postgres.Fill(ctx, p.URL.Reveal(), at...)
	} else {
		f, err = sqlite.Fill(ctx, sqlite.File{Path: p.eventsFile(), Schema: at[0]}, sqlite.File{Path: p.registryFile(), Schema: at[1]})
	}
	switch {
	case errors.Is(err, eventstore.ErrNotEmpty):
		return nil, fmt.Errorf("%s: %w: name an empty one, or remove what is there; nothing was changed", p, err)
	case errors.Is(err, eventstore.ErrInUse):
		return nil, fmt.Errorf("%s is in use by another callchain: stop it", p)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	return f, nil
}

// Version is how far a schema is.
type Version struct {
	Schema string `json:"schema"`
	Is     int64  `json:"is"`     // 0: not there
	Newest int64  `json:"newest"` // that this program knows
}

// Newer is an eventstore.ErrNewer if this program is older than the database.
func Newer(versions []Version) error {
	for _, v := range versions {
		if v.Is > v.Newest {
			return fmt.Errorf("%s is at version %d, this program knows %d: %w", v.Schema, v.Is, v.Newest, eventstore.ErrNewer)
		}
	}
	return nil
}

// Versions reads how far the schemas of a database are, and changes nothing.
func (p Place) Versions(ctx context.Context) ([]Version, error) {
	var out []Version
	for _, s := range schemas() {
		v := Version{Schema: s.Table}
		var err error
		if v.Newest, err = s.Newest(p.Dialect()); err != nil {
			return nil, err
		}
		db, err := p.database(s)
		if errors.Is(err, fs.ErrNotExist) {
			out = append(out, v)
			continue
		}
		if err == nil {
			v.Is, err = migrations.Version(ctx, db, p.Dialect(), s)
			err = errors.Join(err, db.Close())
		}
		if err != nil {
			return nil, fmt.Errorf("reading the version of %s: %w", s.Table, err)
		}
		out = append(out, v)
	}
	return out, nil
}

// Migrate brings the schemas of a database up to date as the start of a server does, under the same lock, and tells how far they are then.
// It makes no folder. Errors: eventstore.ErrNewer, eventstore.ErrForeign.
func (p Place) Migrate(ctx context.Context) ([]Version, error) {
	before, err := p.Versions(ctx)
	if err == nil {
		err = Newer(before)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	for i, s := range schemas() {
		if i < len(sets()) && before[i].Is == 0 && p.URL == "" {
			return nil, fmt.Errorf("%s: %w", p, errNone)
		}
		db, err := p.database(s)
		if err == nil {
			err = errors.Join(migrations.Up(ctx, db, p.Dialect(), s), db.Close())
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
	}
	return p.Versions(ctx)
}
