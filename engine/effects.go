package engine

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"callchain/engine/cluster"
	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"
	"callchain/transports"

	"github.com/google/uuid"
)

// writer appends batches, one at a time, and lets their effects out when they are stored.
type writer struct {
	e       *Engine
	batches chan *batch
	written chan written
	stored  chan *batch
}

// written is what became of a batch.
type written struct {
	batch  *batch
	fenced []int32
	err    error
}

func newWriter(e *Engine) *writer {
	return &writer{e: e, batches: make(chan *batch, 1), written: make(chan written, 1), stored: make(chan *batch, 4)}
}

// start begins the writer and the performer; the function returned waits until what was handed over is done.
func (w *writer) start() (stop func()) {
	performed := make(chan struct{})
	go func() {
		defer close(w.stored)
		for b := range w.batches {
			w.append(b)
		}
	}()
	go func() {
		defer close(performed)
		for b := range w.stored {
			w.perform(b)
		}
	}()
	return func() {
		close(w.batches)
		<-performed
	}
}

func (w *writer) append(b *batch) {
	var fenced []int32
	var err error
	if len(b.sealed.Partitions) > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		began := time.Now()
		fenced, err = w.e.store.Append(ctx, b.sealed)
		cancel()
		w.e.metrics.commit.Observe(time.Since(began).Seconds())
		w.e.metrics.batch.Observe(float64(b.events))
		if err == nil {
			w.e.metrics.appended.SetToCurrentTime()
		}
	}
	if err == nil && (len(fenced) == 0 || w.e.group != nil) {
		b.fenced = fenced // the other partitions are stored
		w.stored <- b
	}
	w.written <- written{b, fenced, err}
}

// perform lets the effects of a stored batch out: senders are told first, then devices and callers, then followers.
func (w *writer) perform(b *batch) {
	for _, span := range b.spans {
		span.End()
	}
	for _, f := range b.done {
		if !slices.Contains(b.fenced, f.partition) {
			f.done(f.err)
		}
	}
	for i := range b.effects {
		if fx := &b.effects[i]; !slices.Contains(b.fenced, fx.partition) {
			w.e.let(fx)
		}
	}
	w.e.metrics.passages.committed(b)
	for _, c := range b.ended {
		w.e.spans.ended(c.ID, c.Phase)
	}
	if w.e.relay != nil {
		w.e.relay.deadLetters(b.letters)
	}
	moved := make([]eventstore.Checkpoint, 0, len(b.sealed.Partitions))
	stored := b.sealed.Partitions
	if len(b.fenced) > 0 {
		stored = slices.DeleteFunc(slices.Clone(stored), func(p eventstore.PartitionBatch) bool { return slices.Contains(b.fenced, p.Expect.Partition) })
	}
	for i := range stored {
		p := &stored[i]
		for j := range p.Events {
			w.e.metrics.events.inc(p.Events[j].Type)
		}
		if len(p.Events) > 0 {
			moved = append(moved, p.Next)
		}
	}
	if len(moved) == 0 {
		return
	}
	w.e.feed.committed(moved)
	if w.e.relay != nil {
		w.e.relay.committed(stored)
	}
}

// let lets one effect out, here and at the other processes that it concerns. It does not block.
func (e *Engine) let(fx *effect) {
	if len(fx.to) == 0 {
		e.perform(fx)
		return
	}
	for _, process := range fx.to {
		d, delivers := fx.do.(step.Deliver)
		switch {
		case process == e.incarnation:
			e.perform(fx)
		case delivers:
			e.deliverElsewhere(process, d, fx)
		default:
			e.elsewhere(process, fx)
		}
	}
}

// perform lets one effect out here.
func (e *Engine) perform(fx *effect) {
	switch do := fx.do.(type) {
	case step.Deliver:
		e.expect(do.Call.ID, fx.callers)
		e.deliver(do, fx)
	case step.Settle:
		out := outcome{result: CallResult{ID: do.Call, Phase: do.Phase, Code: do.Code, Detail: do.Detail, Response: do.Response}, from: fx.from}
		if fx.from != nil {
			out.at = time.Now()
		}
		e.waiters.settle(do.Call, out, fx.content)
	case step.Respond:
		if s := e.respond(do.Session, do.Request, do.Body); s != nil {
			e.spans.told(spanRespond, fx.from, time.Now(), attrTransport.String(s.Transport))
		}
	case step.CloseSession:
		e.closeSession(do.Session, do.Why)
	case step.GiveAttributes:
		e.giveAttributes(do.Session, transports.AttributesAnswer{Request: do.Request, Client: do.Client, Shared: do.Shared})
	case step.PushAttributes:
		e.pushAttributes(do.Session, do.Changed, do.Deleted)
	case step.LogLine:
		e.log.LogAttrs(context.Background(), slog.LevelInfo, do.Text, slog.String("device", do.Device.String()), slog.String("source", "log node"))
	case step.DeadLetter:
		e.log.Warn("dead letter", "reason", do.Reason, "detail", do.Detail)
	}
}

// deliver hands a command to the device's link. A body that is not at hand is read aside, so that nobody else waits for it.
func (e *Engine) deliver(do step.Deliver, fx *effect) {
	s := e.sessions.get(do.Session.ID)
	if s == nil { // its Disconnect is on the way, unless it found no room; the call is sent again at the next subscription
		e.disown(&cluster.Delivery{Partition: fx.partition, Device: do.Device, Session: do.Session.ID})
		return
	}
	one := asideDelivery{do: do, tenant: s.Identity.Tenant, epoch: fx.epoch, trace: e.spans.delivering(&do, s.Transport, fx.from)}
	partition := fx.partition // the effect is another one by the time a body is read
	one.to = func(c transports.Command) {
		if !e.superseded(partition, c.Epoch) {
			e.hand(s, c)
		}
	}
	one.failed = func(reason string) { uplink{Engine: e}.Failed(s.ID, do.Call.ID, reason) }
	if !e.soon(one) {
		one.failed("queue_full")
	}
}

// deliverElsewhere does the same for a device that is connected to another node.
func (e *Engine) deliverElsewhere(process string, do step.Deliver, fx *effect) {
	one := asideDelivery{do: do, tenant: fx.tenant, epoch: fx.epoch, trace: e.spans.delivering(&do, "node", fx.from)}
	partition, callers := fx.partition, fx.callers
	if do.Call.Oneway && e.waiters.has(do.Call.ID) {
		callers = append(callers, e.incarnation)
	}
	one.to = func(c transports.Command) {
		e.peers.send(process, cluster.Message{Deliver: &cluster.Delivery{
			Session: do.Session.ID, Device: do.Device, Partition: partition, Epoch: c.Epoch, Call: c.Call, Wire: c.Wire, Method: c.Method, Params: c.Params,
			Deadline: do.Call.Expires, Attempt: do.Call.Attempt, Trace: c.Trace, Callers: callers,
		}})
	}
	one.failed = func(reason string) {
		e.undelivered(&cluster.Delivery{Session: do.Session.ID, Device: do.Device, Partition: partition, Call: do.Call.ID}, reason)
	}
	if !e.soon(one) {
		one.failed("queue_full")
	}
}

// soon makes a delivery now if its body is at hand and nothing of its session waits, else aside; false: there is no room.
func (e *Engine) soon(d asideDelivery) bool {
	if d.body = d.do.Body; d.body == nil {
		if cached, ok := e.bodies.get(d.do.Call.ID); ok {
			d.body = &cached
		}
	}
	if d.body != nil && !e.aside.holds(d.do.Session.ID) {
		d.to(command(d.do, d.body, d.epoch, d.trace))
		return true
	}
	return e.aside.add(d)
}

func (e *Engine) readBody(tenant, call uuid.UUID) (rpc.Body, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var body rpc.Body
	events, err := readStream(ctx, e.store, projection.StreamOf(tenant, call))
	if err != nil {
		return body, err
	}
	for i := range events {
		ev, err := projection.DecodeCall(&events[i])
		if err != nil {
			return body, err
		}
		body = rpc.EvolveBody(body, ev.Fact)
	}
	return body, nil
}

func command(do step.Deliver, body *rpc.Body, epoch int64, trace string) transports.Command {
	method, params := body.Command()
	return transports.Command{
		Call: do.Call.ID, Wire: do.Call.Wire, Method: method, Params: params,
		Deadline: do.Call.Expires.Time(), Attempt: int(do.Call.Attempt), Epoch: epoch, Trace: trace,
	}
}
