package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"callchain/cmd/callchain/serve"
	"callchain/engine/replay"
	"callchain/eventstore"
)

// Backup writes a copy of a database to w, beside a server that may use it, and gives what is in it and its size in bytes.
func Backup(ctx context.Context, from Place, version string, w io.Writer, progress Progress) (_ Summary, bytes int64, err error) {
	schema, err := from.Current(ctx)
	if err != nil {
		return Summary{}, 0, err
	}
	snapshot, err := from.snapshot(ctx)
	if err != nil {
		return Summary{}, 0, fmt.Errorf("%s: %w", from, err)
	}
	defer func() { err = errors.Join(err, snapshot.Close()) }()
	out, err := newWriter(w, Header{Created: time.Now().UTC(), Version: version, Database: string(from.Dialect()), Schema: schema})
	if err != nil {
		return Summary{}, 0, err
	}
	p := newProof(out, progress)
	if err := pour(ctx, snapshot, p); err != nil {
		return p.sum, out.bytes, fmt.Errorf("%s: %w", from, err)
	}
	sum, err := p.finish()
	if err != nil {
		return sum, out.bytes, fmt.Errorf("%s: %w", from, err)
	}
	return sum, out.bytes, out.end()
}

// Check reads a file to its end and changes nothing: it is whole, and its events are those that the heads of the chains stand for.
func Check(ctx context.Context, file io.Reader, progress Progress) (Header, Summary, error) {
	r, err := newReader(file)
	if err != nil {
		return Header{}, Summary{}, err
	}
	p := newProof(nil, progress)
	if err := r.into(ctx, p); err != nil {
		return r.header, p.sum, err
	}
	sum, err := p.finish()
	return r.header, sum, err
}

// Options are what a restored or copied database is to remember.
type Options struct {
	ClearPositions bool     // go on in the topics of Kafka as a new installation does: from their oldest record on, publishing all events
	Progress       Progress // of writing
}

// Restore fills an empty database with a file that Check has found whole; it is read again, and nothing is committed unless it still is.
func Restore(ctx context.Context, file io.Reader, to Place, o Options) (_ Summary, err error) {
	r, err := newReader(file)
	if err != nil {
		return Summary{}, err
	}
	return fillWith(ctx, to, r.header.Schema, o, func(p *proof) error { return r.into(ctx, p) })
}

// fillWith fills a database and commits when the copy has proved to be whole.
func fillWith(ctx context.Context, to Place, schema map[string]int64, o Options, read func(*proof) error) (_ Summary, err error) {
	filling, err := to.fill(ctx, schema)
	if err != nil {
		return Summary{}, err
	}
	defer func() { err = errors.Join(err, filling.Close()) }()
	var into sink = filling
	if o.ClearPositions {
		into = anew{into}
	}
	p := newProof(into, o.Progress)
	if err := read(p); err != nil {
		return p.sum, err
	}
	sum, err := p.finish()
	if err != nil {
		return sum, err
	}
	if err := filling.Commit(ctx); err != nil {
		return sum, fmt.Errorf("%s: %w", to, err)
	}
	return sum, nil
}

// Copy fills an empty database with what is in another one, on which no server may run.
func Copy(ctx context.Context, from, to Place, o Options) (_ Summary, err error) {
	schema, err := from.Current(ctx)
	if err != nil {
		return Summary{}, err
	}
	store, err := serve.OpenStore(ctx, from.settings())
	if err != nil {
		return Summary{}, fmt.Errorf("%s: %w", from, err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := store.Exclusive(ctx); errors.Is(err, eventstore.ErrInUse) {
		return Summary{}, fmt.Errorf("%s is in use by another callchain: stop it first, or what it does meanwhile is not in the copy", from)
	} else if err != nil {
		return Summary{}, fmt.Errorf("%s: %w", from, err)
	}
	snapshot, err := from.snapshot(ctx)
	if err != nil {
		return Summary{}, fmt.Errorf("%s: %w", from, err)
	}
	defer func() { err = errors.Join(err, snapshot.Close()) }()
	return fillWith(ctx, to, schema, o, func(p *proof) error { return pour(ctx, snapshot, p) })
}

// Verified is what Verify found.
type Verified struct {
	Log  eventstore.Summary
	Rows replay.Checked
}

// Verify opens a database and does what VerifyStore does.
func Verify(ctx context.Context, p Place, report func(string)) (_ Verified, err error) {
	store, err := serve.OpenStore(ctx, p.settings())
	if err != nil {
		return Verified{}, fmt.Errorf("%s: %w", p, err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return VerifyStore(ctx, store, report)
}

// VerifyStore compares every event with the hashes, and every call with its row. Problems are reported as texts.
func VerifyStore(ctx context.Context, store eventstore.Store, report func(string)) (v Verified, err error) {
	if v.Log, err = eventstore.Verify(ctx, store, func(p eventstore.Problem) { report(p.String()) }); err != nil {
		return v, err
	}
	v.Rows, err = replay.Check(ctx, store, replay.Options{Broken: func(stream string, err error) {
		report(fmt.Sprintf("%s cannot be folded: %v", stream, err))
	}}, func(d replay.Difference) { report(d.String()) })
	return v, err
}

// CreateFile makes the file of a backup, of mode 0600, because it holds credentials. One that is there is not written over.
func CreateFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}
