package membership

import (
	"context"
	"errors"
	"sync"
	"time"

	"callchain/engine/bus"
	"callchain/engine/cluster"
	"callchain/engine/retry"
	"callchain/transports"
)

// The bounds of the queue for another node.
const (
	queueMost  = 50_000           // messages a node
	queueBytes = 64 << 20         // of payload a node
	queueBatch = 500              // messages at once
	staleAfter = 30 * time.Second // see stale
	closeAfter = 10 * time.Minute // likewise
	sweepEvery = time.Second      // between the searches for stale messages, which cost time with many waiting
	idleAfter  = time.Minute      // a queue that is empty for this long is closed: its node may be gone
	sendAgain  = 100 * time.Millisecond
	sendLatest = time.Second
	sendWithin = 5 * time.Second
)

// queues hold the messages for other nodes.
type queues struct {
	*Membership
	most int // bytes a node

	mu      sync.Mutex
	byNode  map[string]*queue
	stopped bool
	running sync.WaitGroup
	ctx     context.Context //nolint:containedctx // of the senders, which outlive the callers of Send
}

// queue holds the messages for one node.
type queue struct {
	node    string
	waiting []outgoing
	bytes   int
	swept   time.Time
	wake    chan struct{}
}

type outgoing struct {
	message cluster.Message
	bytes   int
	since   time.Time
}

// stale reports whether a message has become useless: a command after its deadline, a reply after staleAfter. A Close stays longer, until its node must be
// gone.
func (o *outgoing) stale(now time.Time) bool {
	switch {
	case o.message.Close != nil:
		return now.Sub(o.since) > closeAfter
	case o.message.Deliver != nil:
		return o.message.Deliver.Late(now)
	}
	return now.Sub(o.since) > staleAfter
}

func (q *queues) start(ctx context.Context) {
	q.mu.Lock()
	q.ctx = ctx
	q.mu.Unlock()
}

// Send implements delivery.Peers. A message without room is dropped; the owner is notified if it was for a device.
func (m *Membership) Send(process string, msg cluster.Message) {
	one := outgoing{message: msg, bytes: msg.Bytes(), since: time.Now()}
	if !m.queues.add(cluster.NodeOf(process), one) {
		m.drop([]outgoing{one}, transports.FailedQueueFull)
	}
}

// add puts a message into the queue of a node; false: it is full.
func (q *queues) add(node string, one outgoing) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stopped || q.ctx == nil {
		return true // the queues are closed
	}
	to := q.byNode[node]
	if to == nil {
		to = &queue{node: node, wake: make(chan struct{}, 1)}
		q.byNode[node] = to
		q.running.Go(func() { q.send(to) })
	}
	most := queueMost
	if one.message.Close != nil {
		most *= 2 // calls must not keep a session from being closed
	}
	if len(to.waiting) >= most || one.bytes > 0 && to.bytes+one.bytes > q.most {
		return false
	}
	to.waiting, to.bytes = append(to.waiting, one), to.bytes+one.bytes
	signal(to.wake)
	return true
}

// drop drops a message that cannot be sent.
func (m *Membership) drop(some []outgoing, reason string) {
	m.Metrics.PeerDropped.Add(float64(len(some)))
	for i := range some {
		if d := some[i].message.Deliver; d != nil {
			m.delivery.Undelivered(d, reason)
		}
	}
}

// send publishes a node's messages in order.
func (q *queues) send(to *queue) {
	quiet := time.NewTimer(idleAfter)
	defer quiet.Stop()
	for {
		select {
		case <-to.wake:
		case <-quiet.C:
			if q.closed(to) {
				return
			}
			quiet.Reset(idleAfter)
		case <-q.ctx.Done():
			return
		}
		for q.sendSome(to) {
		}
	}
}

// sendSome publishes the next messages, with retries until some are acknowledged; false: the queue is empty.
func (q *queues) sendSome(to *queue) bool {
	more := false
	retry.Until(q.ctx, retry.Waits{First: sendAgain, Longest: sendLatest}, func(ctx context.Context) error {
		some := q.next(to)
		if more = len(some) > 0; !more {
			return nil
		}
		err := q.publishTo(ctx, to.node, some)
		if n := q.acknowledged(some, err); n > 0 {
			q.done(to, n)
			return nil
		}
		return err
	}, func(err error, _ time.Duration) {
		q.Log.Warn("messages to another node not published", "node", to.node, "waiting", q.count(), "error", err)
	})
	return more && q.ctx.Err() == nil
}

// closed closes an empty queue; the next message for its node opens another.
func (q *queues) closed(to *queue) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(to.waiting) > 0 {
		return false
	}
	delete(q.byNode, to.node)
	return true
}

// next are the next messages, without stale ones.
func (q *queues) next(to *queue) []outgoing {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	old := 0
	for now.Sub(to.swept) >= sweepEvery && old < len(to.waiting) && now.Sub(to.waiting[old].since) > staleAfter {
		old++
	}
	if old > 0 {
		to.swept = now
		rest := make([]outgoing, 0, len(to.waiting))
		for _, one := range to.waiting[:old] {
			if one.stale(now) {
				to.bytes -= one.bytes
				q.Metrics.PeerDropped.Inc()
			} else {
				rest = append(rest, one)
			}
		}
		to.waiting = append(rest, to.waiting[old:]...)
	}
	return to.waiting[:min(queueBatch, len(to.waiting))]
}

// acknowledged is how many of the first messages need not be sent again, because they are durable or refused for good.
func (q *queues) acknowledged(some []outgoing, err error) int {
	var partly *bus.PartlyError
	switch {
	case err == nil:
		return len(some)
	case !errors.As(err, &partly):
		return 0
	}
	acknowledged := len(some)
	if len(partly.Missed) > 0 {
		acknowledged = partly.Missed[0]
	}
	for _, i := range partly.Refused {
		if i >= acknowledged {
			break
		}
		q.Log.Warn("message to another node too large for its topic", "error", partly.Err)
		q.drop(some[i:i+1], transports.FailedTooLarge)
	}
	return acknowledged
}

func (q *queues) done(to *queue, n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range n {
		to.bytes -= to.waiting[i].bytes
	}
	clear(to.waiting[:n]) // releases the memory of sent messages
	if to.waiting = to.waiting[n:]; len(to.waiting) == 0 {
		to.waiting = nil
	}
}

func (q *queues) publishTo(ctx context.Context, node string, some []outgoing) error {
	records := make([]bus.Record, 0, len(some))
	for i := range some {
		value, err := some[i].message.Append(nil)
		if err != nil {
			return err
		}
		records = append(records, bus.Record{Value: value})
	}
	ctx, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	return q.Topics.Publish(ctx, bus.NodeTopic(node), records)
}

// drain waits until the queues are empty, or ctx ends.
func (q *queues) drain(ctx context.Context) {
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for q.count() > 0 {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
	}
}

func (q *queues) count() (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, to := range q.byNode {
		n += len(to.waiting)
	}
	return n
}

// stop waits for the senders to end; their context has ended before.
func (q *queues) stop() {
	q.mu.Lock()
	q.stopped = true
	q.mu.Unlock()
	q.running.Wait()
}
