package migrations

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"callchain/eventstore"
)

// At is a set at a version.
type At struct {
	Set
	Version int64
}

// Newest is the last version of a set that this program knows.
func (s Set) Newest(d Dialect) (int64, error) {
	names, err := fs.Glob(s.Files, path.Join(string(d), "*.sql"))
	if err != nil || len(names) == 0 {
		return 0, fmt.Errorf("the set %s has no files for %s: %w", s.Table, d, fs.ErrNotExist)
	}
	slices.Sort(names)
	number, _, _ := strings.Cut(path.Base(names[len(names)-1]), "_")
	newest, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the file %s does not begin with a version: %w", names[len(names)-1], err)
	}
	return newest, nil
}

// Version reads at which version of a set a database is, 0 if it has none. It changes nothing. Errors: eventstore.ErrForeign if the database
// holds tables of another program, or the database's.
func Version(ctx context.Context, db *sql.DB, d Dialect, s Set) (int64, error) {
	if err := checkOwner(ctx, db, d); err != nil {
		return 0, err
	}
	query := `SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = $1`
	if d == Postgres {
		query = `SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = $1`
	}
	var tables int
	if err := db.QueryRowContext(ctx, query, s.Table).Scan(&tables); err != nil {
		return 0, fmt.Errorf("looking for %s: %w", s.Table, err)
	}
	if tables == 0 {
		return 0, nil
	}
	var version int64 // going down removes the row, so the largest is what is there
	if err := db.QueryRowContext(ctx, `SELECT coalesce(max(version_id), 0) FROM `+s.Table).Scan(&version); err != nil {
		return 0, fmt.Errorf("reading the version in %s: %w", s.Table, err)
	}
	return version, nil
}

// UpTo applies a set up to its version, as Up does: for a database that is filled with what was saved at that version. It fails with
// eventstore.ErrNewer if this program does not know the version.
func UpTo(ctx context.Context, db *sql.DB, d Dialect, at At) error {
	newest, err := at.Newest(d)
	if err != nil {
		return err
	}
	if at.Version > newest {
		return fmt.Errorf("%s at version %d, this program knows %d: %w", at.Table, at.Version, newest, eventstore.ErrNewer)
	}
	if err := checkOwner(ctx, db, d); err != nil {
		return err
	}
	p, err := provider(db, d, at.Set)
	if err != nil {
		return fmt.Errorf("preparing the migrations of %s: %w", at.Table, err)
	}
	if _, err = p.UpTo(ctx, at.Version); err != nil {
		return fmt.Errorf("migrating %s to version %d: %w", at.Table, at.Version, err)
	}
	return nil
}
