package replay

import (
	"context"
	"errors"

	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/eventstore"

	"github.com/google/uuid"
)

// surplus looks for rows without a call, if there are more rows than calls that have one.
func (c *checker) surplus(ctx context.Context) error {
	rows, err := c.store.Count(ctx, eventstore.Query{Table: projection.Calls})
	if err != nil || rows <= c.found {
		return err
	}
	return walk(ctx, c.store, func(row []any) error {
		call, founded, err := hasRow(ctx, c.store, row)
		if err != nil || founded {
			return err
		}
		differences, err := c.compareStable(ctx, call.tenant, call.call)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.reportOnce(differences)
		return err
	})
}

// hasRow reports whether a call must have a row by its events. A call that cannot be folded keeps its row.
func hasRow(ctx context.Context, store eventstore.Store, row []any) (key, bool, error) {
	var k key
	k.tenant, _ = row[0].(uuid.UUID)
	k.call, _ = row[1].(uuid.UUID)
	call, err := Call(ctx, store, projection.CallStream(k.tenant, k.call), rpc.Settings{})
	if errors.Is(err, ErrFold) {
		return k, true, nil
	}
	return k, call.HasRow(), err
}

const walkPage = 500 // rows read at once

// walk hands every row of projection.Calls to f, in the order of the key. Rows may be removed on the way.
func walk(ctx context.Context, store eventstore.Store, f func([]any) error) error {
	var tenant uuid.UUID // of the page
	var last uuid.UUID   // call of the last row
	within := false      // the tenant's rows behind last come next; else the first of the tenants behind
	for {
		q := eventstore.Query{Table: projection.Calls, Limit: walkPage, Order: []eventstore.Order{{Column: "tenant"}, {Column: "id"}}}
		if within {
			q.Where = []eventstore.Cond{{Column: "tenant", Op: eventstore.Eq, Value: tenant}, {Column: "id", Op: eventstore.Gt, Value: last}}
		} else {
			q.Where, q.Limit = []eventstore.Cond{{Column: "tenant", Op: eventstore.Ge, Value: tenant}}, 1
		}
		rows, err := store.Rows(ctx, q)
		if err != nil {
			return err
		}
		if len(rows) == 0 && !within {
			return nil
		}
		for _, row := range rows {
			if err := f(row); err != nil {
				return err
			}
			tenant, _ = row[0].(uuid.UUID)
			last, _ = row[1].(uuid.UUID)
		}
		if within && len(rows) == 0 {
			if tenant = following(tenant); tenant == uuid.Nil {
				return nil
			}
		}
		within = len(rows) > 0
	}
}

// following is the next id in the order of bytes; uuid.Nil behind the last.
func following(id uuid.UUID) uuid.UUID {
	for i := len(id) - 1; i >= 0; i-- {
		id[i]++
		if id[i] != 0 {
			break
		}
	}
	return id
}
