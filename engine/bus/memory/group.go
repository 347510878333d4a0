package memory

import (
	"context"
	"slices"
	"time"

	"callchain/engine/bus"
)

// revokeTimeout is how long a node may take to give partitions up.
const revokeTimeout = 10 * time.Second

// group assigns the partitions: members keep theirs as far as that is fair. The cluster's lock guards it.
type group struct {
	c      *Cluster
	all    map[*membership]struct{} // also expelled ones that do not know it
	joined []*membership            // in the order in which they joined
	owner  []*membership            // by partition; nil: nobody
	moving []bool                   // by partition: the owner gives it up
}

// membership is one Join.
type membership struct {
	n      *Node
	member bus.Member
	wake   chan struct{}

	// The cluster's lock guards these.
	assignDue bool    // Assigned is due
	assigned  []int32 // what it was assigned, and has not given up since
	revoke    []int32 // Revoked is due for these
}

// member is the bus.Group of a node.
type member struct{ n *Node }

var _ bus.Group = member{}

// Join implements bus.Group. After Kill it only waits for the end of ctx.
func (j member) Join(ctx context.Context, to bus.Member) error {
	m := &membership{n: j.n, member: to, wake: make(chan struct{}, 1)}
	g := &j.n.c.group
	g.c.mu.Lock()
	g.all[m] = struct{}{}
	g.c.mu.Unlock()
	for signal(m.wake); ctx.Err() == nil; {
		select {
		case <-m.wake:
		case <-ctx.Done():
			continue
		}
		if revoke := g.revocation(m); len(revoke) > 0 {
			g.revoked(m, revoke)
		}
		if assigned, due := g.assignment(m); due {
			to.Assigned(assigned)
		}
	}
	if left := g.leave(m); len(left) > 0 {
		g.revoked(m, left)
	}
	return nil
}

// revocation takes the partitions that a member must give up next. One that is not in the group joins it first.
func (g *group) revocation(m *membership) []int32 {
	g.c.mu.Lock()
	defer g.c.mu.Unlock()
	if g.c.away || !m.n.running() {
		return nil
	}
	if !slices.Contains(g.joined, m) {
		g.joined, m.assignDue = append(g.joined, m), true
		g.share()
	}
	revoke := m.revoke
	m.revoke = nil
	return revoke
}

// revoked lets a member give partitions up, until revokeTimeout; then others get them.
func (g *group) revoked(m *membership, partitions []int32) {
	ctx, cancel := context.WithTimeout(context.Background(), revokeTimeout)
	defer cancel()
	late := context.AfterFunc(ctx, func() { g.release(m, partitions) })
	m.member.Revoked(ctx, partitions)
	if late() {
		g.release(m, partitions)
	}
}

// release frees what a member gave up.
func (g *group) release(m *membership, partitions []int32) {
	g.c.mu.Lock()
	defer g.c.mu.Unlock()
	for _, p := range partitions {
		if g.owner[p] == m && g.moving[p] { // otherwise it was expelled meanwhile
			g.owner[p], g.moving[p] = nil, false
			m.assignDue = true
			m.assigned = slices.DeleteFunc(m.assigned, func(other int32) bool { return other == p })
		}
	}
	signal(m.wake)
	g.share()
}

// assignment is the partitions of a member, if Assigned is due.
func (g *group) assignment(m *membership) (assigned []int32, due bool) {
	g.c.mu.Lock()
	defer g.c.mu.Unlock()
	if g.c.away || !m.n.running() || !m.assignDue || !slices.Contains(g.joined, m) {
		return nil, false
	}
	m.assignDue, m.assigned = false, g.of(m)
	return slices.Clone(m.assigned), true
}

// of is what a member has, sorted; with what it has not given up yet.
func (g *group) of(m *membership) []int32 {
	assigned := []int32{}
	for p, owner := range g.owner {
		if owner == m {
			assigned = append(assigned, int32(p))
		}
	}
	return assigned
}

// leave removes a member from the group, and returns what it must give up before others get it.
func (g *group) leave(m *membership) []int32 {
	g.c.mu.Lock()
	defer g.c.mu.Unlock()
	delete(g.all, m)
	at := slices.Index(g.joined, m)
	if at < 0 {
		return nil
	}
	if !m.n.running() {
		g.expel(m)
		g.share()
		return nil
	}
	g.joined = slices.Delete(g.joined, at, at+1)
	for _, p := range g.of(m) {
		if g.moving[p] = slices.Contains(m.assigned, p); !g.moving[p] {
			g.owner[p] = nil // it does not know of it
		}
	}
	g.share()
	return g.of(m)
}

// rebalance expels the members whose node has stopped, and assigns the free partitions.
func (g *group) rebalance() {
	if g.c.away {
		return
	}
	for _, m := range slices.Clone(g.joined) {
		if !m.n.running() {
			g.expel(m)
		}
	}
	g.share()
}

// expel removes a member from the group without a call.
func (g *group) expel(m *membership) {
	g.joined = slices.DeleteFunc(g.joined, func(other *membership) bool { return other == m })
	m.revoke, m.assigned = nil, nil
	for p := range g.owner {
		if g.owner[p] == m {
			g.owner[p], g.moving[p] = nil, false
		}
	}
}

// share assigns free partitions to the members with the fewest, and revokes partitions from members with more than their fair share.
func (g *group) share() {
	if g.c.away || len(g.joined) == 0 {
		return
	}
	has := map[*membership]int{}
	for p, owner := range g.owner {
		if owner != nil && !g.moving[p] {
			has[owner]++
		}
	}
	order := slices.Clone(g.joined)
	slices.SortStableFunc(order, func(a, b *membership) int { return has[b] - has[a] })
	each, more := len(g.owner)/len(order), len(g.owner)%len(order)
	fair := map[*membership]int{}
	for i, m := range order {
		fair[m] = each
		if i < more { // those that have most keep most
			fair[m]++
		}
	}
	for p := len(g.owner) - 1; p >= 0; p-- {
		m := g.owner[p]
		if m == nil || g.moving[p] || has[m] <= fair[m] {
			continue
		}
		has[m]--
		if !slices.Contains(m.assigned, int32(p)) {
			g.owner[p] = nil // it does not know of it
			continue
		}
		g.moving[p], m.revoke = true, append(m.revoke, int32(p))
		slices.Sort(m.revoke)
		signal(m.wake)
	}
	for p := range g.owner {
		if g.owner[p] != nil {
			continue
		}
		for _, m := range order {
			if has[m] < fair[m] {
				has[m]++
				g.owner[p], m.assignDue = m, true
				signal(m.wake)
				break
			}
		}
	}
}
