package transporttest

import (
	"slices"
	"sync"

	"github.com/google/uuid"

	"callchain/transports"
)

// polling is the link to a session with Once as the suite uses it. Like the engine it hands over one command for each subscription,
// the first of those that were not reported; what the transport did not report comes again.
type polling struct {
	transports.Link
	mu    sync.Mutex
	queue []transports.Command
	sent  int // how often the first of the queue was handed over
	spent bool
}

// Send queues a command.
func (p *polling) Send(c transports.Command) {
	p.mu.Lock()
	p.queue = append(p.queue, c)
	p.mu.Unlock()
	p.issue()
}

// next begins a subscription.
func (p *polling) next() {
	p.mu.Lock()
	p.spent = false
	p.mu.Unlock()
	p.issue()
}

func (p *polling) issue() {
	p.mu.Lock()
	if p.spent || len(p.queue) == 0 {
		p.mu.Unlock()
		return
	}
	p.spent = true
	c := p.queue[0]
	c.Attempt += p.sent
	p.sent++
	p.mu.Unlock()
	p.Link.Send(c)
}

// reported takes a command off that left or could not leave.
func (p *polling) reported(call uuid.UUID) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.queue, func(c transports.Command) bool { return c.Call == call })
	if i >= 0 {
		p.queue = slices.Delete(p.queue, i, i+1)
	}
	if i == 0 {
		p.sent = 0
	}
}
