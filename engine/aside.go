package engine

import (
	"sync"

	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/transports"

	"github.com/google/uuid"
)

// asideMost bounds the deliveries whose bodies are being read.
const asideMost = 20_000

// aside reads the bodies of deliveries that are not at hand, so that nobody else waits for the store. The deliveries of one
// session stay in order.
type aside struct {
	e     *Engine
	queue chan asideDelivery

	mu   sync.Mutex
	held map[uuid.UUID]int // deliveries a session
}

type asideDelivery struct {
	do     step.Deliver
	tenant uuid.UUID
	body   *rpc.Body
	epoch  int64
	trace  string
	to     func(transports.Command)
	failed func(reason string)
}

func newAside(e *Engine) *aside {
	return &aside{e: e, queue: make(chan asideDelivery, asideMost), held: map[uuid.UUID]int{}}
}

// holds tells whether deliveries of the session are on their way here, so that later ones must queue behind them.
func (a *aside) holds(session uuid.UUID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.held[session] > 0
}

func (a *aside) add(d asideDelivery) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case a.queue <- d:
		a.held[d.do.Session.ID]++
		return true
	default:
		return false
	}
}

func (a *aside) start() (stop func()) {
	done := make(chan struct{})
	quit := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case d := <-a.queue:
				a.deliver(d)
			case <-quit:
				return
			}
		}
	}()
	return func() { close(quit); <-done }
}

func (a *aside) deliver(d asideDelivery) {
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.held[d.do.Session.ID]--; a.held[d.do.Session.ID] == 0 {
			delete(a.held, d.do.Session.ID)
		}
	}()
	if d.body == nil {
		body, err := a.e.readBody(d.tenant, d.do.Call.ID)
		if err != nil {
			a.e.log.Error("the body of a call cannot be read", "rpcId", d.do.Call.ID, "device", d.do.Device, "tenant", d.tenant, "error", err)
			d.failed("body_unreadable")
			return
		}
		d.body = &body
	}
	d.to(command(d.do, d.body, d.epoch, d.trace))
}
