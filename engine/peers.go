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
	peerMost  = 50_000           // messages a node; those beyond are dropped
	peerBatch = 500              // messages at once
	peerAge   = 30 * time.Second // what could not be told for so long is of no use any more
)

// peers tells other nodes what concerns them, on the topic of each.
type peers struct {
	e      *Engine
	topics bus.Topics

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
	wake    chan struct{}
}

type letterTo struct {
	message cluster.Message
	since   time.Time
}

func newPeers(ctx context.Context, e *Engine, t bus.Topics) *peers {
	return &peers{e: e, topics: t, nodes: map[string]*mailbox{}, ctx: ctx}
}

// send tells a process something. It does not block.
func (p *peers) send(process string, m cluster.Message) {
	node := cluster.NodeOf(process)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	box := p.nodes[node]
	if box == nil {
		box = &mailbox{node: node, wake: make(chan struct{}, 1)}
		p.nodes[node] = box
		p.running.Go(func() { p.deliver(box) })
	}
	if len(box.waiting) >= peerMost {
		p.e.metrics.untold.Inc()
		return
	}
	box.waiting = append(box.waiting, letterTo{m, p.e.now()})
	signal(box.wake)
}

// deliver publishes what waits for a node, in order.
func (p *peers) deliver(box *mailbox) {
	wait := relayAgain
	for {
		select {
		case <-box.wake:
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

// next are the messages that are told next; what is too old is dropped.
func (p *peers) next(box *mailbox) []letterTo {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := 0
	for old < len(box.waiting) && p.e.now().Sub(box.waiting[old].since) > peerAge {
		old++
	}
	p.e.metrics.untold.Add(float64(old))
	box.waiting = box.waiting[old:]
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
		p.e.metrics.untold.Inc()
		p.e.log.Warn("a message to another node is too large for its topic", "error", partly.Err)
		if d := some[i].message.Deliver; d != nil {
			p.e.undelivered(d, transports.FailedTooLarge)
		}
	}
	return through
}

func (p *peers) done(box *mailbox, told int) {
	p.mu.Lock()
	defer p.mu.Unlock()
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
