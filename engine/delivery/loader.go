package delivery

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"callchain/engine/retry"
	"callchain/engine/rpc"
	"callchain/transports"

	"github.com/google/uuid"
)

// loader reads the bodies of deliveries in the background. The deliveries of one session stay in order.
type loader struct {
	read func(ctx context.Context, tenant, call uuid.UUID) (rpc.Body, bool, error)
	log  *slog.Logger
	ctx  context.Context //nolint:containedctx // it cancels the reads, which outlive their callers
	end  context.CancelFunc

	mu      sync.Mutex
	queues  map[uuid.UUID][]*postponed // by session: the first is being loaded
	ready   []uuid.UUID                // sessions whose first delivery is not being loaded
	count   int
	workers int
	closed  bool
	running sync.WaitGroup
}

// postponed is a delivery that waits for its body, or behind another.
type postponed struct {
	tenant, device, session, call uuid.UUID
	deadline                      time.Time
	body                          *rpc.Body
	send                          func(*rpc.Body)
	failed                        func(reason string)
}

// The bounds of the loader.
const (
	loadsMost    = 20_000 // that wait
	loadsAtOnce  = 4
	loadTimeout  = 10 * time.Second // of a try
	loadAgain    = 50 * time.Millisecond
	loadLatest   = time.Second
	failedToRead = "body_unreadable"
)

func newLoader(read func(ctx context.Context, tenant, call uuid.UUID) (rpc.Body, bool, error), log *slog.Logger) *loader {
	ctx, end := context.WithCancel(context.Background())
	return &loader{read: read, log: log, ctx: ctx, end: end, queues: map[uuid.UUID][]*postponed{}}
}

// deliver makes a delivery now if its body is known and no delivery of its session waits, else in its turn.
func (l *loader) deliver(p *postponed) {
	if p.body == nil || l.has(p.session) {
		if !l.add(p) {
			p.failed(transports.FailedQueueFull)
		}
		return
	}
	p.send(p.body)
}

// has reports whether deliveries of a session wait, so that later ones must wait behind them.
func (l *loader) has(session uuid.UUID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queues[session]) > 0
}

func (l *loader) add(p *postponed) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count >= loadsMost || l.closed {
		return false
	}
	l.count++
	queue := l.queues[p.session]
	if l.queues[p.session] = append(queue, p); len(queue) > 0 {
		return true
	}
	l.ready = append(l.ready, p.session)
	if l.workers < loadsAtOnce {
		l.workers++
		l.running.Go(l.work)
	}
	return true
}

// work loads until the queues are empty.
func (l *loader) work() {
	for p := l.next(); p != nil; p = l.next() {
		l.load(p)
		l.done(p.session)
	}
}

func (l *loader) next() *postponed {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ready) == 0 {
		l.workers--
		return nil
	}
	session := l.ready[0]
	if l.ready = l.ready[1:]; len(l.ready) == 0 {
		l.ready = nil
	}
	return l.queues[session][0]
}

func (l *loader) done(session uuid.UUID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count--
	queue := l.queues[session]
	queue[0] = nil
	if queue = queue[1:]; len(queue) == 0 {
		delete(l.queues, session)
		return
	}
	l.queues[session] = queue
	l.ready = append(l.ready, session)
}

// load reads a body, with retries until its deadline, and makes the delivery.
func (l *loader) load(p *postponed) {
	if p.body != nil {
		p.send(p.body)
		return
	}
	ctx, cancel := context.WithDeadline(l.ctx, p.deadline)
	defer cancel()
	var body rpc.Body
	var damaged bool
	first := true
	read := retry.Until(ctx, retry.Waits{First: loadAgain, Longest: loadLatest}, func(ctx context.Context) (err error) {
		ctx, cancel := context.WithTimeout(ctx, loadTimeout)
		defer cancel()
		body, damaged, err = l.read(ctx, p.tenant, p.call)
		return err
	}, func(err error, _ time.Duration) {
		if first {
			l.log.Warn("command not sent yet: its body cannot be read", "rpcId", p.call, "device", p.device, "tenant", p.tenant, "error", err)
		}
		first = false
	})
	switch {
	case l.ctx.Err() != nil: // the process ends: the next one sends the command
	case !read || damaged:
		if damaged {
			l.log.Error("command not sent: its stored body cannot be decoded", "rpcId", p.call, "device", p.device, "tenant", p.tenant)
		}
		p.failed(failedToRead)
	default:
		p.send(&body)
	}
}

func (l *loader) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.end()
	l.running.Wait()
}
