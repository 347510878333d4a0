package engine

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"callchain/engine/bus"
	"callchain/engine/cluster"
	"callchain/engine/rpc"
	"callchain/engine/step"
)

// members is what this process knows of the other nodes and tells them. It is nil without a group.
type members struct {
	e      *Engine
	topics bus.Topics
	wake   chan struct{}
	asked  chan struct{} // signalled when claims are to be answered

	mu     sync.Mutex
	began  time.Time // when this process began to hear the others
	view   *cluster.View
	claims map[int32]cluster.Claim // by partition: the newest, to be answered with what this process has there
	low    lowLevel
	unfit  map[unfit]string // why this node must own nothing now
	fitted chan struct{}    // signalled when that has changed
}

func newMembers(e *Engine, t bus.Topics) *members {
	return &members{
		e: e, topics: t, wake: make(chan struct{}, 1), asked: make(chan struct{}, 1), claims: map[int32]cluster.Claim{},
		view: cluster.NewView(e.incarnation, e.config.Partitions), unfit: map[unfit]string{}, fitted: make(chan struct{}, 1),
	}
}

// tell lets the others know at once what has changed here.
func (m *members) tell() {
	if m != nil {
		signal(m.wake)
	}
}

// run takes part until ctx ends: it hears the others and tells them of itself.
func (m *members) run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	const followed = 2
	following := make(chan struct{}, followed)
	follow := func(topic bus.Topic, handle func(bus.Record)) {
		running.Go(func() {
			if err := m.topics.Follow(ctx, topic, sync.OnceFunc(func() { following <- struct{}{} }), handle); ctx.Err() == nil {
				m.e.log.Error("a topic is not followed any more", "topic", topic, "error", err)
			}
		})
	}
	follow(bus.NodeTopic(m.e.config.Node), m.e.receive)
	follow(bus.Nodes, m.hear)
	for range followed {
		select {
		case <-following:
		case <-ctx.Done():
			return
		}
	}
	m.mu.Lock()
	m.began = m.e.now()
	m.mu.Unlock()
	running.Go(func() { m.announce(ctx) })
	running.Go(func() { m.join(ctx) })
	running.Go(func() { m.watchClock(ctx) })
	m.beat(ctx)
}

// beat tells the others of this process, twice a second and when something has changed.
func (m *members) beat(ctx context.Context) {
	look := time.NewTicker(cluster.Period)
	defer look.Stop()
	for {
		m.publish(ctx, false)
		m.tick()
		select {
		case <-look.C:
		case <-m.wake:
		case <-ctx.Done():
			return
		}
	}
}

// publish tells the others of this process. What cannot be told now is told with the next beat.
func (m *members) publish(ctx context.Context, leaving bool) {
	b := cluster.Beat{
		Process: m.e.incarnation, Level: cluster.Level, Owns: m.e.held.claims(), Leaving: leaving,
		Waiting: m.e.oldest(bus.RPC).Milliseconds(), Data: m.e.oldest(bus.Data).Milliseconds(),
	}
	value, err := b.Append(nil)
	if err != nil {
		panic(fmt.Sprintf("engine: %v", err)) // numbers and names only
	}
	ctx, cancel := context.WithTimeout(ctx, cluster.Fresh)
	defer cancel()
	if err := m.topics.Publish(ctx, bus.Nodes, []bus.Record{{Key: m.e.config.Node, Value: value}}); err != nil {
		m.e.log.Debug("the other nodes cannot be told of this one now", "error", err)
	}
}

// hear takes what a node tells of itself.
func (m *members) hear(r bus.Record) {
	b, err := cluster.ReadBeat(r.Value)
	if err != nil {
		m.e.log.Warn("what a node tells of itself cannot be read", "node", r.Key, "error", err)
		return
	}
	m.mu.Lock()
	news := m.view.Hear(b, m.e.now())
	m.low.heard(b.Level, m.e.now())
	m.mu.Unlock()
	m.heard(news)
}

// tick lets time pass.
func (m *members) tick() {
	const patience = 30 * time.Second
	m.mu.Lock()
	news := m.view.Tick(m.e.now())
	m.mu.Unlock()
	m.heard(news)
	for _, tell := range m.e.judgements.late(m.e.now().Add(-patience)) {
		tell(fmt.Errorf("%w: its owner has not said anything for %s", ErrUncertain, patience))
	}
}

func (m *members) heard(news cluster.News) {
	if len(news.Gone) > 0 {
		m.e.log.Info("nodes are gone", "nodes", news.Gone)
		select {
		case m.e.gone <- news.Gone:
		default:
			go func() { // the owner is busy: it hears of it later
				select {
				case m.e.gone <- news.Gone:
				case <-m.e.assignment.ended:
				}
			}()
		}
	}
	claims := news.Claimed
	if news.Back { // others may have given this process up
		claims = m.foreign()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range claims {
		m.claims[c.Partition] = c
	}
	signal(m.asked)
}

// foreign are all partitions of others.
func (m *members) foreign() (out []cluster.Claim) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p := range m.e.held {
		if process, epoch := m.view.Owner(int32(p)); process != "" && process != m.e.incarnation {
			out = append(out, cluster.Claim{Partition: int32(p), Epoch: epoch})
		}
	}
	return out
}

// announce answers claims until ctx ends.
func (m *members) announce(ctx context.Context) {
	for {
		c, ok := m.nextClaim()
		if ok {
			m.answer(ctx, c)
			continue
		}
		select {
		case <-m.asked:
		case <-ctx.Done():
			return
		}
	}
}

// nextClaim takes a claim that is to be answered.
func (m *members) nextClaim() (cluster.Claim, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p, c := range m.claims {
		delete(m.claims, p)
		return c, true
	}
	return cluster.Claim{}, false
}

// answer tells a new owner of a partition which connections and callers are here. It tries again while that is the owner.
func (m *members) answer(ctx context.Context, c cluster.Claim) {
	for !m.told(c) {
		again := time.NewTimer(relayAgain)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return
		}
		m.mu.Lock()
		process, epoch := m.view.Owner(c.Partition)
		m.mu.Unlock()
		if epoch != c.Epoch || process == m.e.incarnation {
			return
		}
	}
}

// told puts what is here into the partition's inbox; false: not all of it was taken.
func (m *members) told(c cluster.Claim) bool {
	for _, s := range m.e.sessions.in(c.Partition) {
		for _, do := range m.e.resume(&s) {
			cmd := step.Command{Meta: m.e.meta("device:"+s.Identity.Device.String(), s.Transport), Device: s.Identity.Device, Do: step.RPC{Do: do}}
			if _, err := m.e.put(bus.RPC, c.Partition, true, durable, cmd, nil); err != nil {
				return false
			}
		}
		if m.e.sessions.get(s.ID) == nil && m.e.over(s.Identity.Partition, s.Identity.Device, s.ID) != nil { // its end may stand before that
			return false
		}
	}
	word := confirm{Process: m.e.incarnation, Partition: c.Partition, Epoch: c.Epoch, Callers: m.e.waiters.in(c.Partition)}
	return m.e.inbox.Put(bus.Message{Partition: c.Partition, Lane: bus.RPC, Vital: true, Value: word}) == nil
}

// resume is what a new owner must hear of a connection.
func (e *Engine) resume(s *live) []rpc.Action {
	out := []rpc.Action{e.resumed(s)}
	if s.wants {
		out = append(out, rpc.Subscribe{Session: s.ID, Once: s.Once, Resumed: true})
	}
	return out
}

// lives tells whether a process is heard.
func (m *members) lives(process string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.view.Lives(process)
}

// resumed tells of a connection that is older than its owner.
func (e *Engine) resumed(s *live) rpc.Connect {
	return rpc.Connect{
		Session: s.ID, Transport: s.Transport, Remote: s.Remote, Node: e.config.Node, Process: e.run, Since: rpc.At(s.since),
	}
}

// others are the other processes that live.
func (m *members) others() []string {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.view.Others()
}

// unsure is what the owner of a partition that was just claimed waits for; nil if there is nobody to wait for.
func (m *members) unsure(now time.Time) *unsure {
	if m == nil {
		return nil
	}
	others := m.others()
	m.mu.Lock()
	blind := now.Sub(m.began) < sureAfter
	m.mu.Unlock()
	if len(others) == 0 && !blind {
		return nil
	}
	return &unsure{others: slices.Clone(others), blind: blind, until: now.Add(sureAfter)}
}

// waiting is the age of the oldest command that waits for the owner of a partition.
func (m *members) waiting(partition int32, lane bus.Lane, now time.Time) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if lane == bus.Data {
		return m.view.Data(partition, now)
	}
	return m.view.Waiting(partition, now)
}

// Level is the newest feature level that all live nodes have; of a single process, its own.
func (e *Engine) Level() int { return e.members.level() }

// level is the newest feature level that all nodes have that may live: not before all of them must have been heard, and while one that is lower may only
// have been cut off, that one's.
func (m *members) level() int {
	if m == nil {
		return cluster.Level
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.e.now()
	if m.began.IsZero() || now.Sub(m.began) < cluster.Silent {
		return cluster.LevelFirst
	}
	return min(m.view.LowestLevel(), m.low.level(now))
}

// lowFor is how long a node of a lower level counts after it was heard last.
const lowFor = time.Hour

// lowLevel is the lowest level below this program's that was heard lately.
type lowLevel struct {
	lowest int
	until  time.Time
}

func (l *lowLevel) heard(level int, now time.Time) {
	if level >= cluster.Level {
		return
	}
	l.lowest, l.until = min(level, l.level(now)), now.Add(lowFor)
}

func (l *lowLevel) level(now time.Time) int {
	if now.Before(l.until) {
		return l.lowest
	}
	return cluster.Level
}

// epoch is the newest epoch of a partition that was heard of.
func (m *members) epoch(partition int32) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, epoch := m.view.Owner(partition)
	return epoch
}
