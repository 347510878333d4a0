// Package membership makes this process a member of an installation of several nodes: it exchanges heartbeats and messages with the others, joins the group that
// assigns the partitions, and reports its sessions and callers to new owners.
//
// Package cluster evaluates the heartbeats; package owner decides.
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
	Member     bus.Member // gets this process's partitions
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
	delivery      *delivery.Delivery
	queues        queues
	heartbeatDue  chan struct{} // a heartbeat is due at once
	claimsPending chan struct{} // claims wait for an answer
	changed       chan struct{} // Changes has changed
	unfit         unfit

	mu     sync.Mutex
	began  time.Time // when this process began to receive heartbeats
	view   *cluster.View
	claims map[int32]cluster.Claim // by partition: the newest that is not answered
	lowest lowestLevel
	live   []string // as Changes gave it last
	gone   []string // since then
}

// New makes a Membership; Run runs it.
func New(c Config) *Membership {
	m := &Membership{
		Config: c, view: cluster.NewView(c.Process, c.Partitions), claims: map[int32]cluster.Claim{}, unfit: newUnfit(c.Log),
		heartbeatDue: make(chan struct{}, 1), claimsPending: make(chan struct{}, 1), changed: make(chan struct{}, 1),
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

// Run is a member until ctx ends. Then it gives its partitions up, sends the waiting messages for at most a second, and announces that it leaves.
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

// work receives heartbeats, and then sends them.
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
	follow(bus.Nodes, m.receiveHeartbeat)
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
	m.sendHeartbeats(ctx)
}

// SendHeartbeat sends a heartbeat at once, after a change.
func (m *Membership) SendHeartbeat() { signal(m.heartbeatDue) }

// sendHeartbeats sends a heartbeat every HeartbeatPeriod, and after a change.
func (m *Membership) sendHeartbeats(ctx context.Context) {
	look := time.NewTicker(cluster.HeartbeatPeriod)
	defer look.Stop()
	for {
		m.publish(ctx, false)
		m.tick()
		select {
		case <-look.C:
		case <-m.heartbeatDue:
		case <-ctx.Done():
			return
		}
	}
}

// publish publishes a heartbeat. A failure is not retried: the next heartbeat follows soon.
func (m *Membership) publish(ctx context.Context, leaving bool) {
	b := cluster.Heartbeat{
		Process: m.Process, Level: cluster.Level, Owns: m.Sender.Owned.Claims(), Leaving: leaving,
		Waiting: m.Age(bus.RPC).Milliseconds(), Data: m.Age(bus.Data).Milliseconds(),
	}
	value, err := b.Append(nil)
	if err != nil {
		panic(fmt.Sprintf("membership: %v", err)) // numbers and names only
	}
	ctx, cancel := context.WithTimeout(ctx, cluster.FreshFor)
	defer cancel()
	if err := m.Topics.Publish(ctx, bus.Nodes, []bus.Record{{Key: m.Node, Value: value}}); err != nil {
		m.Log.Debug("heartbeat not published", "error", err)
	}
}

// receiveHeartbeat takes a heartbeat of a node.
func (m *Membership) receiveHeartbeat(r bus.Record) {
	b, err := cluster.ReadHeartbeat(r.Value)
	if err != nil {
		m.Log.Warn("heartbeat of another node unreadable", "node", r.Key, "error", err)
		return
	}
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	news := m.view.Receive(b, now)
	m.lowest.receiveHeartbeat(b.Level, now)
	m.apply(news)
}

// tick advances the view's time.
func (m *Membership) tick() {
	const longest = 30 * time.Second
	now := time.Now()
	m.mu.Lock()
	m.apply(m.view.Tick(now))
	m.mu.Unlock()
	m.Sender.Decisions.Expire(now.Add(-longest), fmt.Errorf("%w: the owner of the partition did not answer for %s", wire.ErrUncertain, longest))
}

// apply applies changes of the view; mu is held.
func (m *Membership) apply(news cluster.Changes) {
	if len(news.Gone) > 0 {
		m.Log.Info("nodes are gone", "nodes", news.Gone)
		m.gone = append(m.gone, news.Gone...)
	}
	claims := news.Claimed
	if news.Back { // others may have declared this process dead
		claims = m.partitionsOfOthers()
	}
	for _, c := range claims {
		m.claims[c.Partition] = c
	}
	if len(claims) > 0 {
		signal(m.claimsPending)
	}
	if len(m.gone) > 0 || !slices.Equal(m.live, m.view.Others()) {
		signal(m.changed)
	}
}

// partitionsOfOthers are the claims of other processes; mu is held.
func (m *Membership) partitionsOfOthers() (out []cluster.Claim) {
	for p := range m.Partitions {
		if process, epoch := m.view.Owner(p); process != "" && process != m.Process {
			out = append(out, cluster.Claim{Partition: p, Epoch: epoch})
		}
	}
	return out
}

// Changed signals that Changes has changed.
func (m *Membership) Changed() <-chan struct{} { return m.changed }

// Changes are the other live processes, those that died since the last call, and when this process began to receive heartbeats; zero if it has not.
func (m *Membership) Changes() (live, gone []string, began time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.live, gone, m.gone = m.view.Others(), m.gone, nil
	return m.live, gone, m.began
}

// Nodes is the number of live nodes, with this one.
func (m *Membership) Nodes() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return 1 + len(m.view.Others())
}

// OwnerAge is the age of the oldest command that waits for the owner of a partition, as last reported.
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
