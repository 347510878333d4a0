package membership

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"callchain/engine/retry"
)

// UnfitReason is why a node must own no partition.
type UnfitReason uint8

// The reasons.
const (
	UnfitClock  UnfitReason = iota // its deadlines would pass too early, or too late
	UnfitEvents                    // a partition has events that this program cannot read
)

// fitAgain is how long a node owns nothing because of events that it could not read.
const fitAgain = 30 * time.Second

// unfit is why this node must own no partition now.
type unfit struct {
	log     *slog.Logger
	changed chan struct{}

	mu      sync.Mutex
	details map[UnfitReason]string
}

func newUnfit(log *slog.Logger) unfit {
	return unfit{log: log, changed: make(chan struct{}, 1), details: map[UnfitReason]string{}}
}

func (u *unfit) set(why UnfitReason, detail string) {
	u.mu.Lock()
	_, known := u.details[why]
	u.details[why] = detail
	u.mu.Unlock()
	if !known {
		u.log.Error("this node owns no partition now", "reason", detail)
		signal(u.changed)
	}
}

func (u *unfit) clear(why UnfitReason) {
	u.mu.Lock()
	_, known := u.details[why]
	delete(u.details, why)
	u.mu.Unlock()
	if known {
		signal(u.changed)
	}
}

// detail is why the node must own nothing; "" if it may own some.
func (u *unfit) detail() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	var all []string
	for _, why := range slices.Sorted(maps.Keys(u.details)) {
		all = append(all, u.details[why])
	}
	return strings.Join(all, "; ")
}

// StandDown lets the node give its partitions back, and own none.
func (m *Membership) StandDown(why UnfitReason, detail string) { m.unfit.set(why, detail) }

// Unfit is why the node must own nothing; "" if it may own some.
func (m *Membership) Unfit() string { return m.unfit.detail() }

// join is a group member while this node is fit.
func (m *Membership) join(ctx context.Context) {
	for ctx.Err() == nil {
		if m.Unfit() == "" {
			m.joinWhileFit(ctx)
			continue
		}
		again := time.NewTimer(fitAgain)
		select {
		case <-m.unfit.changed:
		case <-again.C:
			m.unfit.clear(UnfitEvents)
		case <-ctx.Done():
		}
		again.Stop()
	}
}

// joinWhileFit is a group member until ctx ends or the node becomes unfit.
func (m *Membership) joinWhileFit(ctx context.Context) {
	const again = time.Second
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	left := make(chan struct{})
	go func() {
		defer close(left)
		retry.Until(ctx, retry.Waits{First: again, Longest: again}, func(ctx context.Context) error { return m.Group.Join(ctx, m.Member) },
			func(err error, _ time.Duration) { m.Log.Error("could not join the consumer group", "error", err) })
	}()
	for {
		select {
		case <-left:
			return
		case <-m.unfit.changed:
			if m.Unfit() != "" {
				leave()
			}
		}
	}
}

// The bounds of the difference between the clocks of a node and the database.
const (
	clockPeriod = 5 * time.Second
	clockWarn   = time.Second
	clockMost   = 5 * time.Second
)

// watchClock compares this node's clock with the database's, until ctx ends.
func (m *Membership) watchClock(ctx context.Context) {
	look := time.NewTicker(clockPeriod)
	defer look.Stop()
	for {
		m.compareClocks(ctx)
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
	}
}

func (m *Membership) compareClocks(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, clockPeriod)
	defer cancel()
	claimsPending := time.Now()
	there, err := m.Store.Now(ctx)
	if err != nil {
		return // the store is away: nothing is decided meanwhile
	}
	offset := clockOffset(claimsPending, time.Now(), there)
	switch {
	case offset >= clockMost:
		m.unfit.set(UnfitClock, fmt.Sprintf("its clock is %s off the database's: set it", offset.Round(100*time.Millisecond)))
		return
	case offset >= clockWarn:
		m.Log.Warn("clock of this node off the database's; at 5 s it owns no partition", "off", offset.Round(time.Millisecond))
	}
	m.unfit.clear(UnfitClock)
}

// clockOffset is the least difference between this clock and another that was read between asked and answered.
func clockOffset(claimsPending, answered, there time.Time) time.Duration {
	switch {
	case there.Before(claimsPending):
		return claimsPending.Sub(there)
	case there.After(answered):
		return there.Sub(answered)
	}
	return 0
}
