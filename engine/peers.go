package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"callchain/engine/bus"
	"callchain/engine/cluster"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/transports"

	"github.com/google/uuid"
)

// The bounds of what waits to be told to another node.
const (
	peerMost  = 50_000           // messages a node
	peerBytes = 64 << 20         // of payload a node
	peerBatch = 500              // messages at once
	peerAge   = 30 * time.Second // see idle
	peerLong  = 10 * time.Minute // likewise
	peerSift  = time.Second      // how often it is looked what is idle: many may wait that are not
	peerQuiet = time.Minute      // a mailbox in which nothing waits then is closed: its node may be gone
)

// peers tells other nodes what concerns them, on the topic of each.
type peers struct {
	e      *Engine
	topics bus.Topics
	bytes  int // peerBytes

	mu      sync.Mutex
	nodes   map[string]*mailbox
	stopped bool
	running sync.WaitGroup
	ctx     context.Context // of the publishing
}

// mailbox is what waits for one node.
type mailbox struct {
	node    string
	waiting []letterTo
	bytes   int
	sifted  time.Time // when it was looked last what is idle
	wake    chan struct{}
}

type letterTo struct {
	message cluster.Message
	bytes   int
	since   time.Time
}

// idle tells whether nobody needs the letter any more: a command after its deadline, and after a while what somebody waited for. A connection that must
// end does not end by itself, but its node may be gone.
func (l *letterTo) idle(now time.Time) bool {
	switch {
	case l.message.Close != nil:
		return now.Sub(l.since) > peerLong
	case l.message.Deliver != nil:
		return l.message.Deliver.Late(now)
	}
	return now.Sub(l.since) > peerAge
}

func newPeers(ctx context.Context, e *Engine, t bus.Topics) *peers {
	return &peers{e: e, topics: t, bytes: peerBytes, nodes: map[string]*mailbox{}, ctx: ctx}
}

// send tells a process something. It does not block. What finds no room is dropped, of which the owner hears if it was for a device.
func (p *peers) send(process string, m cluster.Message) {
	if l := (letterTo{message: m, bytes: m.Bytes(), since: p.e.now()}); !p.add(cluster.NodeOf(process), l) {
		p.drop([]letterTo{l}, transports.FailedQueueFull)
	}
}

// add puts a letter into the mailbox of a node; false: it is full.
func (p *peers) add(node string, l letterTo) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return true // nobody is told any more
	}
	box := p.nodes[node]
	if box == nil {
		box = &mailbox{node: node, wake: make(chan struct{}, 1)}
		p.nodes[node] = box
		p.running.Go(func() { p.deliver(box) })
	}
	most := peerMost
	if l.message.Close != nil {
		most *= 2 // its session must not go on because calls take the room
	}
	if len(box.waiting) >= most || l.bytes > 0 && box.bytes+l.bytes > p.bytes {
		return false
	}
	box.waiting, box.bytes = append(box.waiting, l), box.bytes+l.bytes
	signal(box.wake)
	return true
}

// drop gives up what cannot be told.
func (p *peers) drop(some []letterTo, why string) {
	p.e.metrics.untold.Add(float64(len(some)))
	for i := range some {
		if d := some[i].message.Deliver; d != nil {
			p.e.undelivered(d, why)
		}
	}
}

// deliver publishes what waits for a node, in order.
func (p *peers) deliver(box *mailbox) {
	wait := relayAgain
	quiet := time.NewTimer(peerQuiet)
	defer quiet.Stop()
	for {
		select {
		case <-box.wake:
		case <-quiet.C:
			if p.closed(box) {
				return
			}
			quiet.Reset(peerQuiet)
		case <-p.ctx.Done():
			return
		}
		for {
			some := p.next(box)
			if len(some) == 0 {
				break
			}
			err := p.publish(box.node, some)
			if told := p.told(some, err); told > 0 {
				wait = relayAgain
				p.done(box, told)
				continue
			}
			p.e.log.Warn("another node cannot be told now", "node", box.node, "waiting", len(some), "error", err)
			again := time.NewTimer(wait)
			select {
			case <-again.C:
			case <-p.ctx.Done():
				again.Stop()
				return
			}
			wait = min(2*wait, relayLatest)
		}
	}
}

// closed closes a mailbox in which nothing waits; the next letter for its node opens another one.
func (p *peers) closed(box *mailbox) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(box.waiting) > 0 {
		return false
	}
	delete(p.nodes, box.node)
	return true
}

// next are the letters that are told next, without those that have become idle.
func (p *peers) next(box *mailbox) []letterTo {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.e.now()
	old := 0
	for now.Sub(box.sifted) >= peerSift && old < len(box.waiting) && now.Sub(box.waiting[old].since) > peerAge {
		old++
	}
	if old > 0 {
		box.sifted = now
		kept := make([]letterTo, 0, len(box.waiting))
		for _, l := range box.waiting[:old] {
			if l.idle(now) {
				box.bytes -= l.bytes
				p.e.metrics.untold.Inc()
			} else {
				kept = append(kept, l)
			}
		}
		box.waiting = append(kept, box.waiting[old:]...)
	}
	return box.waiting[:min(peerBatch, len(box.waiting))]
}

// told is how many of the first messages are through: kept, or such that the topic never takes them.
func (p *peers) told(some []letterTo, err error) int {
	var partly *bus.PartlyError
	switch {
	case err == nil:
		return len(some)
	case !errors.As(err, &partly):
		return 0
	}
	through := len(some)
	if len(partly.Missed) > 0 {
		through = partly.Missed[0]
	}
	for _, i := range partly.Refused {
		if i >= through {
			break
		}
		p.e.log.Warn("a message to another node is too large for its topic", "error", partly.Err)
		p.drop(some[i:i+1], transports.FailedTooLarge)
	}
	return through
}

func (p *peers) done(box *mailbox, told int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range told {
		box.bytes -= box.waiting[i].bytes
	}
	clear(box.waiting[:told]) // what was told takes no memory while others wait behind it
	if box.waiting = box.waiting[told:]; len(box.waiting) == 0 {
		box.waiting = nil
	}
}

func (p *peers) publish(node string, some []letterTo) error {
	records := make([]bus.Record, 0, len(some))
	for i := range some {
		value, err := some[i].message.Append(nil)
		if err != nil {
			return err
		}
		records = append(records, bus.Record{Value: value})
	}
	ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
	defer cancel()
	return p.topics.Publish(ctx, bus.NodeTopic(node), records)
}

// drain waits until nothing waits any more, or ctx ends.
func (p *peers) drain(ctx context.Context) {
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for p.count() > 0 {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
	}
}

func (p *peers) count() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, box := range p.nodes {
		n += len(box.waiting)
	}
	return n
}

// stop ends the publishing. Its context has ended before.
func (p *peers) stop() {
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	p.running.Wait()
}

// teller is who is to be told how a command is judged: done, if there is one, else who waits for it here or at another node.
func (e *Engine) teller(w step.Waiter, done func(error)) func(error) {
	switch {
	case done != nil || w.ID == uuid.Nil:
		return done
	case w.Node == e.incarnation:
		return func(err error) { // not before: if this owner turns out to be none, the one that is tells
			if tell := e.judgements.take(w.ID); tell != nil {
				tell(err)
			}
		}
	case e.group == nil:
		return nil // a process that was before this one
	}
	return func(err error) { e.peers.send(w.Node, cluster.Message{Judged: verdict(w.ID, err)}) }
}

// The errors that nodes have names for.
var named = map[string]error{
	"busy": ErrBusy, "unready": ErrUnready, "stopping": ErrStopping, "uncertain": ErrUncertain, "too_large": ErrTooLarge, "no_letter": ErrNoLetter,
}

func verdict(waiter uuid.UUID, err error) *cluster.Judged {
	out := &cluster.Judged{Waiter: waiter}
	var refused *rpc.Refusal
	var failed *RerunError
	switch {
	case err == nil:
	case errors.As(err, &refused):
		out.Code, out.Detail = string(refused.Code), refused.Detail
	case errors.As(err, &failed):
		out.Rerun, out.Code, out.Detail = true, failed.Code, failed.Detail
	default:
		out.Error = err.Error()
		for name, one := range named {
			if errors.Is(err, one) {
				out.Name = name
			}
		}
	}
	return out
}

// judgement is the error that verdict has put down.
func judgement(j *cluster.Judged) error {
	switch {
	case j.Rerun:
		return &RerunError{Code: j.Code, Detail: j.Detail}
	case j.Code != "":
		return &rpc.Refusal{Code: rpc.Code(j.Code), Detail: j.Detail}
	case j.Error == "":
		return nil
	}
	if one := named[j.Name]; one != nil {
		return fmt.Errorf("%w (by the owner: %s)", one, j.Error)
	}
	return errors.New(j.Error)
}
