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

// hold keeps a session lock, exclusive or shared, and watches the session.
type hold struct {
	config *pgx.ConnConfig
	lost   atomic.Pointer[error]

	mu   sync.Mutex
	way  *way // nil if nothing is held
	stop context.CancelFunc
	done chan struct{}
}

// way is how the store is held. Both take the same lock, so that they keep one another out.
type way struct {
	query string
	// alone: nobody may write while the lock is not held. Who shares is fenced by epochs and goes on, unless somebody else holds the store
	// exclusively.
	alone bool
}

var (
	exclusively = &way{query: "SELECT pg_try_advisory_lock($1, hashtext(current_schema()))", alone: true}
	together    = &way{query: "SELECT pg_try_advisory_lock_shared($1, hashtext(current_schema()))"}
)

const (
	lockClass   = 0x43616c6c // "Call": the first half of the lock's key; the second is the schema
	regainFirst = 100 * time.Millisecond
	regainMost  = 2 * time.Second
)

var errLockLost = errors.New("the connection that held the store's lock ended; it is being taken again")

// check is the error that keeps this process from writing, nil if there is none.
func (h *hold) check() error {
	if lost := h.lost.Load(); lost != nil {
		return *lost
	}
	return nil
}

func (h *hold) take(ctx context.Context, w *way) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.way != nil {
		if h.way != w {
			return fmt.Errorf("this store holds it in the other way: %w", eventstore.ErrInUse)
		}
		return nil
	}
	conn, err := h.lockSoon(ctx, w)
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(context.Background())
	h.way, h.stop, h.done = w, stop, make(chan struct{})
	go h.watch(running, conn, w)
	return nil
}

// lockSoon takes the lock, and waits a moment for it: the server frees that of a process which has just ended when it notices.
func (h *hold) lockSoon(ctx context.Context, w *way) (*pgx.Conn, error) {
	const tries = 5
	for try := 1; ; try++ {
		conn, err := h.lock(ctx, w)
		if !errors.Is(err, eventstore.ErrInUse) || try == tries {
			return conn, err
		}
		again := time.NewTimer(regainFirst)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return nil, err
		}
	}
}

func (h *hold) lock(ctx context.Context, w *way) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, h.config.Copy())
	if err != nil {
		return nil, err
	}
	var got bool
	err = conn.QueryRow(ctx, w.query, lockClass).Scan(&got)
	if err == nil && !got {
		err = eventstore.ErrInUse
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	return conn, nil
}

// watch waits for the end of the session: nobody notifies us, so waiting for a notification only ends with it.
func (h *hold) watch(ctx context.Context, conn *pgx.Conn, w *way) {
	defer close(h.done)
	for ctx.Err() == nil {
		_, err := conn.WaitForNotification(ctx)
		if err == nil {
			continue
		}
		_ = conn.Close(context.WithoutCancel(ctx)) // it is broken already, or we are leaving: the server frees the lock either way
		if ctx.Err() != nil {
			return
		}
		h.without(w, err)
		if conn = h.regain(ctx, w); conn == nil {
			return
		}
		h.lost.Store(nil)
	}
}

// without notes that the lock is not held because of err.
func (h *hold) without(w *way, err error) {
	if !w.alone && !errors.Is(err, eventstore.ErrInUse) {
		return // also after somebody else was seen to hold it: then it stays forbidden until the lock is ours
	}
	lost := fmt.Errorf("%w: %w", errLockLost, err)
	h.lost.Store(&lost)
}

// regain tries until it has the lock again. The server may hold the lost session's lock for a while, and another process may have taken it: then
// the claims of that process fence what we hold in memory.
func (h *hold) regain(ctx context.Context, w *way) *pgx.Conn {
	for wait := regainFirst; ; wait = min(2*wait, regainMost) {
		conn, err := h.lock(ctx, w)
		if err == nil {
			return conn
		}
		h.without(w, err)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

func (h *hold) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.way == nil {
		return
	}
	h.stop()
	<-h.done
	h.way = nil
}
