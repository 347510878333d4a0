package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// unfit is a kind of reason why a node must own nothing.
type unfit uint8

const (
	unfitClock  unfit = iota // it would judge deadlines too early, or too late
	unfitEvents              // a partition has events that this program cannot read
)

// The clock of a node against that of the database.
const (
	clockPeriod = 5 * time.Second
	clockWarn   = time.Second
	clockMost   = 5 * time.Second
	fitAgain    = 30 * time.Second // after this, events that could not be read are tried again
)

// standDown lets the node give its partitions back, and take none.
func (m *members) standDown(why unfit, detail string) {
	m.mu.Lock()
	_, known := m.unfit[why]
	m.unfit[why] = detail
	m.mu.Unlock()
	if !known {
		m.e.log.Error("this node owns nothing now", "reason", detail)
		signal(m.fitted)
	}
}

// standUp takes a reason back.
func (m *members) standUp(why unfit) {
	m.mu.Lock()
	_, known := m.unfit[why]
	delete(m.unfit, why)
	m.mu.Unlock()
	if known {
		signal(m.fitted)
	}
}

// misfit is why the node must own nothing; "" if it may.
func (m *members) misfit() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []string
	for _, why := range slices.Sorted(maps.Keys(m.unfit)) {
		all = append(all, m.unfit[why])
	}
	return strings.Join(all, "; ")
}

// join takes part in the sharing of the partitions, while this node may own any.
func (m *members) join(ctx context.Context) {
	for ctx.Err() == nil {
		if why := m.misfit(); why != "" {
			m.e.unready("this node owns nothing: " + why)
			again := time.NewTimer(fitAgain)
			select {
			case <-m.fitted:
			case <-again.C:
				m.standUp(unfitEvents)
			case <-ctx.Done():
			}
			again.Stop()
			continue
		}
		m.takePart(ctx)
	}
}

// takePart takes part until ctx ends or the node must own nothing any more.
func (m *members) takePart(ctx context.Context) {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	left := make(chan error, 1)
	go func() { left <- m.e.group.Join(ctx, m.e.assignment) }()
	for {
		select {
		case err := <-left:
			if err != nil && ctx.Err() == nil {
				m.e.log.Error("the sharing of the partitions cannot be joined", "error", err)
				pause := time.NewTimer(time.Second)
				select {
				case <-pause.C:
				case <-ctx.Done():
					pause.Stop()
				}
			}
			return
		case <-m.fitted:
			if m.misfit() != "" {
				leave()
			}
		}
	}
}

// watchClock compares this node's clock with the database's, until ctx ends.
func (m *members) watchClock(ctx context.Context) {
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

func (m *members) compareClocks(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, clockPeriod)
	defer cancel()
	asked := m.e.now()
	there, err := m.e.store.Now(ctx)
	if err != nil {
		return // the store is away: nothing is judged meanwhile
	}
	off := clockOff(asked, m.e.now(), there)
	switch {
	case off >= clockMost:
		m.standDown(unfitClock, fmt.Sprintf("its clock is %s off the database's: set it", off.Round(100*time.Millisecond)))
		return
	case off >= clockWarn:
		m.e.log.Warn("the clock of this node is off the database's; at 5 s it will own nothing", "off", off.Round(time.Millisecond))
	}
	m.standUp(unfitClock)
}

// clockOff is how far the clock here is off another at least, that told its time between asked and answered.
func clockOff(asked, answered, there time.Time) time.Duration {
	switch {
	case there.Before(asked):
		return asked.Sub(there)
	case there.After(answered):
		return there.Sub(answered)
	}
	return 0
}
