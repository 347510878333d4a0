package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// outboxBatch is how many changes are read from the outbox at a time.
const outboxBatch = 100

// post puts a transaction's changes into the outbox, in the same transaction: if this process ends before it has told of them, another one finds
// them there and does (the pattern of the transactional outbox).
func (r *Registry) post(tx *tx) error {
	if !r.opt.Shared {
		return nil
	}
	for _, c := range tx.changes {
		if c.Kind == DeviceCreated {
			continue // nobody knows anything of it that would be outdated
		}
		text, err := json.Marshal(c)
		if err != nil {
			panic(fmt.Sprintf("registry: %v", err)) // ids and words only
		}
		if _, err := tx.exec(`INSERT INTO registry_outbox (id, process, at, change) VALUES ($1, $2, `+tx.clock()+`, $3)`, newID(), r.process, string(text)); err != nil {
			return fmt.Errorf("noting a change for other nodes: %w", err)
		}
	}
	return nil
}

// Outbox gives the oldest changes that this process has to tell other nodes of, a hundred at most. They stay until Told. That a device was created is not
// among them.
func (r *Registry) Outbox(ctx context.Context) ([]Change, error) {
	some, err := r.query(ctx).changed(`SELECT id, change FROM registry_outbox WHERE process = $1 ORDER BY at, id LIMIT $2`, r.process, outboxBatch)
	if err != nil {
		return nil, fmt.Errorf("reading the outbox of the registry: %w", err)
	}
	return some, nil
}

// Told removes changes from the outbox, at least one.
func (r *Registry) Told(ctx context.Context, some []Change) error {
	err := r.write(ctx, func(tx *tx) error {
		ids := make([]any, len(some))
		for i, c := range some {
			ids[i] = c.id
		}
		_, err := tx.exec(`DELETE FROM registry_outbox WHERE id IN `+places(len(ids)), ids...)
		return err
	})
	if err != nil {
		return fmt.Errorf("removing from the outbox of the registry what is told: %w", err)
	}
	return nil
}

// Adopt takes over changes that other processes were to tell of and did not for so long, a hundred at most: they have ended, or cannot. They are then
// changes of this process: its listeners are told, and Outbox gives them.
func (r *Registry) Adopt(ctx context.Context, after time.Duration) (int, error) {
	var some []Change
	err := r.write(ctx, func(tx *tx) (err error) {
		some, err = tx.changed(`UPDATE registry_outbox SET process = $1, at = `+tx.clock()+` WHERE id IN (
			SELECT id FROM registry_outbox WHERE process <> $2 AND at < `+tx.clock()+` - $3 ORDER BY at LIMIT $4`+tx.locking()+`) RETURNING id, change`,
			r.process, r.process, after.Microseconds(), outboxBatch)
		return err
	})
	slices.SortFunc(some, func(a, b Change) int { return bytes.Compare(a.id[:], b.id[:]) }) // ids grow with time; rows come in any order
	for _, c := range some {
		r.tell(err, c)
	}
	if err != nil {
		return 0, fmt.Errorf("adopting changes of the registry: %w", err)
	}
	return len(some), nil
}

// clock is the time of the database in microseconds since 1970, as an expression: nodes compare what each of them has written.
func (t *tx) clock() string {
	if t.dialect == Postgres {
		return `(extract(epoch FROM statement_timestamp()) * 1000000)::bigint`
	}
	return `CAST(unixepoch('subsec') * 1000000 AS INTEGER)`
}

// changed reads rows of the outbox.
func (t *tx) changed(query string, args ...any) (some []Change, err error) {
	err = t.each(query, args, func(row row) error {
		var c Change
		var id uuid.UUID
		var text string
		if err := row.Scan(&id, &text); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			return fmt.Errorf("change %s: %w", id, err)
		}
		c.id = id
		some = append(some, c)
		return nil
	})
	return some, err
}
