package postgres

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"callchain/eventstore"
)

// Claim raises the epochs of the partitions; the answer is sorted by partition. After a torn connection it claims again, which costs an
// epoch and nothing else.
func (s *Store) Claim(ctx context.Context, node string, partitions []int32) (out []eventstore.Checkpoint, err error) {
	sorted := slices.Compact(slices.Sorted(slices.Values(partitions)))
	err = s.retry(ctx, func() error {
		if err := s.hold.check(); err != nil {
			return err
		}
		out, err = s.claim(ctx, node, sorted)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("claiming for %s: %w", node, err)
	}
	slices.SortFunc(out, func(a, b eventstore.Checkpoint) int { return int(a.Partition) - int(b.Partition) })
	return out, nil
}

func (s *Store) claim(ctx context.Context, node string, partitions []int32) ([]eventstore.Checkpoint, error) {
	const query = "INSERT INTO checkpoints (" + checkpointColumns + ")" +
		" SELECT p, 1, $2, 0, $3, $4, 0, $4, 0, 0, 0, $4 FROM unnest($1::int4[]) AS p ORDER BY p" +
		" ON CONFLICT (partition) DO UPDATE SET epoch = checkpoints.epoch + 1, node = excluded.node RETURNING " + checkpointColumns
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	claiming, answered := context.WithCancel(ctx)
	var freeing sync.WaitGroup
	freeing.Go(func() { s.free(claiming, conn.Conn().PgConn().PID()) })
	defer freeing.Wait()
	defer answered()
	return read(ctx, conn, len(partitions), decodeCheckpoint, query,
		[]any{partitions, node, make([]byte, len(eventstore.Hash{})), [16]byte(uuid.Nil)})
}

// pausedFor is how long a claim waits for a client that does not go on before it ends that client's session.
const pausedFor = time.Second

// free ends the sessions that keep the claim of the backend waiting although their clients do nothing. An append is one statement, but the
// word that ends its transaction is a message of its own, of five bytes: a client that was frozen right before it holds the rows of its
// partitions until it goes on, and no time-out of a server before 17 looks there. Whoever is ended so finds its connection torn, tries
// again, and is fenced. What this cannot do is left to the claim's own time-out.
func (s *Store) free(ctx context.Context, claim uint32) {
	const query = `SELECT count(pg_terminate_backend(b.pid)) FROM pg_stat_activity b
		WHERE b.pid = ANY(pg_blocking_pids($1::int4)) AND b.wait_event = 'ClientRead' AND b.query_start < clock_timestamp() - $2::interval`
	look := time.NewTicker(pausedFor)
	defer look.Stop()
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
		// It may fail, for want of a connection or of the right to end another user's session: the next look tries again.
		_, _ = s.pool.Exec(ctx, query, int32(claim), pausedFor)
	}
}
