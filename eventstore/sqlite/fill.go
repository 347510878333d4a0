package sqlite

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"callchain/eventstore"
	"callchain/eventstore/sqlgen"
	"callchain/migrations"
)

// File is a database file that is filled, and the schema that it gets before.
type File struct {
	Path   string
	Schema migrations.At
}

// ErrUnfinished: the file was being filled when the process ended. Filling it again begins anew.
var ErrUnfinished = errors.New("the database was being filled, and that has not ended")

// unfinished names the mark that stands beside a database while it is filled: files are not written in one transaction, and none at all
// is needed where a crash is seen by the mark.
func unfinished(path string) string { return path + ".filling" }

// checkFinished keeps everybody from a database that holds only a part.
func checkFinished(path string) error {
	_, err := os.Stat(unfinished(path))
	if err == nil {
		return fmt.Errorf("%w: run it again, or remove the file %s and the databases beside it", ErrUnfinished, unfinished(path))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// filling writes without waiting for the disk; Commit does, once.
type filling struct {
	files []File
	lock  *os.File
	w     *writer // nil until the files are made
	done  bool

	pos     int64           // of the last event
	seqs    map[int32]int64 // of the last event of each partition
	appends int64
	since   int // events and rows since the last commit
}

// fillCommit is after how many events and rows they are committed: that bounds the memory of a transaction.
const fillCommit = 20_000

// Fill makes the event store in the first file, and the other files beside, to be filled with what was saved. Errors: eventstore.ErrInUse,
// eventstore.ErrNotEmpty if one of the files is there, eventstore.ErrNewer if the schema is not known. What an interrupted filling left is
// removed.
func Fill(ctx context.Context, files ...File) (_ eventstore.Filling, err error) {
	if err := os.MkdirAll(filepath.Dir(files[0].Path), 0o700); err != nil {
		return nil, fmt.Errorf("creating the folder of %s: %w", files[0].Path, err)
	}
	lock, err := lockFile(files[0].Path + ".lock")
	if err != nil {
		return nil, fmt.Errorf("locking %s.lock: %w", files[0].Path, err)
	}
	f := &filling{files: files, lock: lock, seqs: map[int32]int64{}}
	if err := f.clear(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	if err := f.make(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("making %s: %w", files[0].Path, err), f.Close())
	}
	return f, nil
}

// clear takes away what an interrupted filling left; without its mark, a file that is there belongs to somebody.
func (f *filling) clear() error {
	interrupted := errors.Is(checkFinished(f.files[0].Path), ErrUnfinished)
	for _, file := range f.files {
		if _, err := os.Stat(file.Path); err == nil && !interrupted {
			return fmt.Errorf("%s is there: %w", file.Path, eventstore.ErrNotEmpty)
		}
	}
	return f.remove()
}

func (f *filling) remove() error {
	var errs []error
	for _, file := range f.files {
		for _, name := range []string{file.Path, file.Path + "-wal", file.Path + "-shm"} {
			if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

func (f *filling) make(ctx context.Context) error {
	if err := touch(unfinished(f.files[0].Path)); err != nil {
		return err
	}
	var beside []string
	for i, file := range f.files {
		if err := touch(file.Path); err != nil { // SQLite would let others read it
			return err
		}
		if err := migrateTo(ctx, file); err != nil {
			return err
		}
		if i > 0 {
			beside = append(beside, file.Path)
		}
	}
	c, err := dial(ctx, f.files[0].Path, "synchronous(off)", "cache_size(-65536)", "wal_autocheckpoint(4000)")
	if err != nil {
		return err
	}
	f.w = &writer{connection: c, queries: map[statementKey]string{}}
	if err := c.attach(beside); err != nil {
		return err
	}
	for i := range beside {
		if _, err := c.exec("PRAGMA " + schemaOf(i+1) + ".synchronous = off"); err != nil {
			return err
		}
	}
	_, err = c.exec("BEGIN")
	return err
}

// touch makes an empty file of mode 0600 and puts its name on the disk.
func touch(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return syncFile(filepath.Dir(path))
}

// syncFile waits until a file, or the names in a folder, are on the disk.
func syncFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

func migrateTo(ctx context.Context, file File) error {
	db, err := connect(file.Path, "synchronous(off)")
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	return errors.Join(migrations.UpTo(ctx, db, migrations.SQLite, file.Schema), db.Close())
}

// Checkpoints writes all checkpoints.
func (f *filling) Checkpoints(_ context.Context, list []eventstore.Checkpoint) error {
	f.w.values = f.w.values[:0]
	for i := range list {
		c := &list[i]
		f.w.values = append(f.w.values, int64(c.Partition), c.Epoch, c.Node, c.Seq, c.Head[:], c.Positions[0].Topic[:], c.Positions[0].Offset,
			c.Positions[1].Topic[:], c.Positions[1].Offset, c.Indexed, c.Relayed, c.Append[:])
	}
	if _, err := f.w.write(writeCheckpoints, checkpointWidth, "", f.w.values); err != nil {
		return fmt.Errorf("writing the checkpoints: %w", err)
	}
	return f.wrote(len(list))
}

// Events adds events and says where they stand, as appends do.
func (f *filling) Events(_ context.Context, list []eventstore.Event) error {
	count := len(list)
	f.w.values = f.w.values[:0]
	for i := range list {
		f.w.values = appendEvent(f.w.values, &list[i])
	}
	if _, err := f.w.write(insertEvents, eventWidth, "", f.w.values); err != nil {
		return fmt.Errorf("writing events: %w", err)
	}
	for len(list) > 0 {
		n := 1
		for n < len(list) && list[n].AppendID == list[0].AppendID {
			n++
		}
		if err := f.append(list[:n]); err != nil {
			return fmt.Errorf("writing events: %w", err)
		}
		list = list[n:]
	}
	return f.wrote(count)
}

// append writes the row of one append, or of a part of one, and now and then an anchor before it.
func (f *filling) append(list []eventstore.Event) error {
	if f.appends%anchorEvery == 0 {
		seqs := []byte{} // nil would be NULL
		for _, p := range slices.Sorted(maps.Keys(f.seqs)) {
			seqs = binary.AppendUvarint(binary.AppendUvarint(seqs, uint64(p)), uint64(f.seqs[p]))
		}
		if _, err := f.w.exec("INSERT INTO anchors (pos, seqs) VALUES (?, ?)", f.pos+1, seqs); err != nil {
			return err
		}
	}
	f.appends++
	var parts []byte
	for i := 0; i < len(list); {
		e, n := &list[i], 0
		for i < len(list) && list[i].Partition == e.Partition {
			if list[i].Seq != f.seqs[e.Partition]+1 {
				return fmt.Errorf("partition %d: seq %d follows seq %d", e.Partition, list[i].Seq, f.seqs[e.Partition])
			}
			f.seqs[e.Partition]++
			i, n = i+1, n+1
		}
		parts = appendPart(parts, e.Partition, e.Seq, n)
	}
	_, err := f.w.exec("INSERT INTO appends (pos, id, parts) VALUES (?, ?, ?)", f.pos+1, list[0].AppendID[:], parts)
	f.pos += int64(len(list))
	return err
}

// Rows writes rows of any table of the files.
func (f *filling) Rows(_ context.Context, t *eventstore.Table, rows [][]any) error {
	c := sqlgen.Changes{Table: t, Rows: make([]eventstore.Row, len(rows))}
	for i := range rows {
		c.Rows[i] = eventstore.Row{Table: t, Values: rows[i]}
	}
	if err := f.w.changes(c); err != nil {
		return fmt.Errorf("writing rows of %s: %w", t.Name, err)
	}
	return f.wrote(len(rows))
}

func (f *filling) wrote(n int) error {
	if f.since += n; f.since < fillCommit {
		return nil
	}
	f.since = 0
	return f.run("COMMIT", "BEGIN")
}

func (f *filling) run(statements ...string) error {
	for _, s := range statements {
		if _, err := f.w.row(s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// Commit puts everything on the disk and takes the mark away.
func (f *filling) Commit(context.Context) error {
	if err := f.run("COMMIT", "PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		return err
	}
	w := f.w
	f.w = nil
	if err := w.disconnect(); err != nil {
		return err
	}
	for _, file := range f.files {
		if err := syncFile(file.Path); err != nil {
			return fmt.Errorf("writing %s: %w", file.Path, err)
		}
	}
	if err := f.unmark(); err != nil {
		return err
	}
	f.done = true
	return nil
}

func (f *filling) unmark() error {
	if err := os.Remove(unfinished(f.files[0].Path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncFile(filepath.Dir(f.files[0].Path))
}

// Close frees the files; what was not committed is removed.
func (f *filling) Close() error {
	var errs []error
	if f.w != nil {
		errs = append(errs, f.w.disconnect())
		f.w = nil
	}
	if !f.done {
		errs = append(errs, f.remove(), f.unmark())
	}
	return errors.Join(append(errs, f.lock.Close())...)
}
