package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"callchain/eventstore"
)

// exclusive holds a session lock and watches the session.
type exclusive struct {
	config *pgx.ConnConfig
	lost   atomic.Pointer[error]

	mu   sync.Mutex
	stop context.CancelFunc
	done chan struct{}
}

const (
	lockClass   = 0x43616c6c // "Call": the first half of the lock's key; the second is the schema
	regainFirst = 100 * time.Millisecond
	regainMost  = 2 * time.Second
)

var errLockLost = errors.New("the connection that held the store exclusively ended; it is being taken again")

// check is the error that keeps this process from writing, nil if there is none.
func (x *exclusive) check() error {
	if lost := x.lost.Load(); lost != nil {
		return *lost
	}
	return nil
}

func (x *exclusive) take(ctx context.Context) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.stop != nil {
		return nil
	}
	conn, err := x.lock(ctx)
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(context.Background())
	x.stop, x.done = stop, make(chan struct{})
	go x.watch(running, conn)
	return nil
}

func (x *exclusive) lock(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, x.config.Copy())
	if err != nil {
		return nil, err
	}
	var got bool
	err = conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1, hashtext(current_schema()))", lockClass).Scan(&got)
	if err == nil && !got {
		err = eventstore.ErrInUse
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	return conn, nil
}

// watch waits for the end of the session: nobody notifies us, so waiting for a notification only ends with it.
func (x *exclusive) watch(ctx context.Context, conn *pgx.Conn) {
	defer close(x.done)
	for ctx.Err() == nil {
		_, err := conn.WaitForNotification(ctx)
		if err == nil {
			continue
		}
		_ = conn.Close(context.WithoutCancel(ctx)) // it is broken already, or we are leaving: the server frees the lock either way
		if ctx.Err() != nil {
			return
		}
		lost := fmt.Errorf("%w: %w", errLockLost, err)
		x.lost.Store(&lost)
		if conn = x.regain(ctx); conn == nil {
			return
		}
		x.lost.Store(nil)
	}
}

// regain tries until it has the lock again. The server may hold the lost session's lock for a while, and another process may have taken it: then
// the claims of that process fence what we hold in memory.
func (x *exclusive) regain(ctx context.Context) *pgx.Conn {
	for wait := regainFirst; ; wait = min(2*wait, regainMost) {
		conn, err := x.lock(ctx)
		if err == nil {
			return conn
		}
		lost := fmt.Errorf("%w: %w", errLockLost, err)
		x.lost.Store(&lost)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

func (x *exclusive) release() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.stop == nil {
		return
	}
	x.stop()
	<-x.done
	x.stop = nil
}
