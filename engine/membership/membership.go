// Package membership lets this process take part in an installation of several nodes: it tells the others of itself and hears them, sends them messages, shares the
// partitions out with them, and answers new owners with the sessions and callers that are here.
//
// What follows from what it hears, package cluster concludes; what an owner makes of it, package owner decides.
package membership

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"callchain/engine/bus"
	"callchain/engine/cluster"
	"callchain/engine/delivery"
	"callchain/engine/observe"
	"callchain/engine/replies"
	"callchain/engine/submit"
	"callchain/engine/wire"
	"callchain/eventstore"
)

// Config says what a Membership works with.
type Config struct {
	Node       string
	Process    string // this process among all
	Partitions int32
	Topics     bus.Topics
	Group      bus.Group
	Member     bus.Member // hears which partitions are this process's
	Store      eventstore.Store
	Sender     *submit.Sender
	Callers    *replies.Callers
	// Age is the age of the oldest command that waits for this process's owner.
	Age     func(lane bus.Lane) time.Duration
	Metrics *observe.Metrics
	Log     *slog.Logger
}

// Membership is this process among the others. It is safe for concurrent use.
type Membership struct {
	Config
	delivery *delivery.Delivery
	queues   queues
	beating  chan struct{} // the others are to hear at once what has changed here
	asked    chan struct{} // claims are to be answered
	changed  chan struct{} // Changes has news
	unfit    unfit

	mu     sync.Mutex
	began  time.Time // when this process began to hear the others
	view   *cluster.View
	claims map[int32]cluster.Claim // by partition: the newest, to be answered
	lowest lowestLevel
	live   []string // as Changes gave it last
	gone   []string // since then
}

// New makes a Membership; Run lets it take part.
func New(c Config) *Membership {
	m := &Membership{
		Config: c, view: cluster.NewView(c.Process, c.Partitions), claims: map[int32]cluster.Claim{}, unfit: newUnfit(c.Log),
		beating: make(chan struct{}, 1), asked: make(chan struct{}, 1), changed: make(chan struct{}, 1),
	}
	m.queues = queues{Membership: m, most: queueBytes, byNode: map[string]*queue{}}
	return m
}

// Serve sets the sessions that answer new owners. It is called before Run.
func (m *Membership) Serve(d *delivery.Delivery) { m.delivery = d }

func signal(to chan<- struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// Run takes part until ctx ends. Then it gives its partitions up, sends what waits for others for at most a second, and says that it leaves.
func (m *Membership) Run(ctx context.Context) {
	const grace = time.Second
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	m.queues.start(work)
	var running sync.WaitGroup
	running.Go(func() { m.work(work) })
	<-ctx.Done()
	last, done := context.WithTimeout(work, grace)
	defer done()
	m.queues.drain(last)
	m.publish(last, true)
	stop()
	running.Wait()
	m.queues.stop()
}

// work hears the others, and then lets them hear of this process.
func (m *Membership) work(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	const followed = 2
	following := make(chan struct{}, followed)
	follow := func(topic bus.Topic, handle func(bus.Record)) {
		running.Go(func() {
			if err := m.Topics.Follow(ctx, topic, sync.OnceFunc(func() { following <- struct{}{} }), handle); ctx.Err() == nil {
				m.Log.Error("topic no longer followed", "topic", topic, "error", err)
			}
		})
	}
	follow(bus.NodeTopic(m.Node), m.receive)
	follow(bus.Nodes, m.hear)
	for range followed {
		select {
		case <-following:
		case <-ctx.Done():
			return
		}
	}
	m.mu.Lock()
	m.began = time.Now()
	m.mu.Unlock()
	running.Go(func() { m.answerClaims(ctx) })
	running.Go(func() { m.join(ctx) })
	running.Go(func() { m.watchClock(ctx) })
	m.beat(ctx)
}

// Beat lets the others hear at once what has changed here.
func (m *Membership) Beat() { signal(m.beating) }

// beat tells the others of this process, twice a second and when something has changed.
func (m *Membership) beat(ctx context.Context) {
	look := time.NewTicker(cluster.Period)
	defer look.Stop()
	for {
		m.publish(ctx, false)
		m.tick()
		select {
		case <-look.C:
		case <-m.beating:
		case <-ctx.Done():
			return
		}
	}
}

// publish tells the others of this process. What cannot be said now is said with the next beat.
func (m *Membership) publish(ctx context.Context, leaving bool) {
	b := cluster.Beat{
		Process: m.Process, Level: cluster.Level, Owns: m.Sender.Owned.Claims(), Leaving: leaving,
		Waiting: m.Age(bus.RPC).Milliseconds(), Data: m.Age(bus.Data).Milliseconds(),
	}
	value, err := b.Append(nil)
	if err != nil {
		panic(fmt.Sprintf("membership: %v", err)) // numbers and names only
	}
	ctx, cancel := context.WithTimeout(ctx, cluster.Fresh)
	defer cancel()
	if err := m.Topics.Publish(ctx, bus.Nodes, []bus.Record{{Key: m.Node, Value: value}}); err != nil {
		m.Log.Debug("heartbeat not published", "error", err)
	}
}

// hear takes what a node says of itself.
func (m *Membership) hear(r bus.Record) {
	b, err := cluster.ReadBeat(r.Value)
	if err != nil {
		m.Log.Warn("heartbeat of another node unreadable", "node", r.Key, "error", err)
		return
	}
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	news := m.view.Hear(b, now)
	m.lowest.hear(b.Level, now)
	m.take(news)
}

// tick lets time pass.
func (m *Membership) tick() {
	const longest = 30 * time.Second
	now := time.Now()
	m.mu.Lock()
	m.take(m.view.Tick(now))
	m.mu.Unlock()
	m.Sender.Decisions.Expire(now.Add(-longest), fmt.Errorf("%w: the owner of the partition did not answer for %s", wire.ErrUncertain, longest))
}

// take takes over what was heard; mu is held.
func (m *Membership) take(news cluster.News) {
	if len(news.Gone) > 0 {
		m.Log.Info("nodes are gone", "nodes", news.Gone)
		m.gone = append(m.gone, news.Gone...)
	}
	claims := news.Claimed
	if news.Back { // others may have given this process up
		claims = m.ofOthers()
	}
	for _, c := range claims {
		m.claims[c.Partition] = c
	}
	if len(claims) > 0 {
		signal(m.asked)
	}
	if len(m.gone) > 0 || !slices.Equal(m.live, m.view.Others()) {
		signal(m.changed)
	}
}

// ofOthers are all partitions of others; mu is held.
func (m *Membership) ofOthers() (out []cluster.Claim) {
	for p := range m.Partitions {
		if process, epoch := m.view.Owner(p); process != "" && process != m.Process {
			out = append(out, cluster.Claim{Partition: p, Epoch: epoch})
		}
	}
	return out
}

// Changed says that Changes has something new.
func (m *Membership) Changed() <-chan struct{} { return m.changed }

// Changes are the other processes that live, those that are gone since the last time, and when this process began to hear them; the zero time: it does not yet.
func (m *Membership) Changes() (live, gone []string, began time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.live, gone, m.gone = m.view.Others(), m.gone, nil
	return m.live, gone, m.began
}

// Nodes is the number of nodes that live, this one too.
func (m *Membership) Nodes() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return 1 + len(m.view.Others())
}

// OwnerAge is the age of the oldest command that waits for the owner of a partition, as the owner said lately.
func (m *Membership) OwnerAge(partition int32, lane bus.Lane) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if lane == bus.Data {
		return m.view.Data(partition, time.Now())
	}
	return m.view.Waiting(partition, time.Now())
}

// Epoch implements delivery.Peers.
func (m *Membership) Epoch(partition int32) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, epoch := m.view.Owner(partition)
	return epoch
}
