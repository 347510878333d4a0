package engine

import (
	"context"
	"log/slog"
	"time"

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
	if err == nil && len(fenced) == 0 {
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
		f.done(f.err)
	}
	for _, e := range b.effects {
		w.e.perform(e)
	}
	w.e.metrics.passages.committed(b)
	for _, c := range b.ended {
		w.e.spans.ended(c.ID, c.Phase)
	}
	if w.e.relay != nil {
		w.e.relay.deadLetters(b.letters)
	}
	moved := make([]eventstore.Checkpoint, 0, len(b.sealed.Partitions))
	for i := range b.sealed.Partitions {
		p := &b.sealed.Partitions[i]
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
		w.e.relay.committed(b.sealed.Partitions)
	}
}

// perform lets one effect out. It does not block.
func (e *Engine) perform(fx effect) {
	switch do := fx.do.(type) {
	case step.Deliver:
		e.deliver(do, fx)
	case step.Settle:
		out := outcome{result: CallResult{ID: do.Call, Phase: do.Phase, Code: do.Code, Detail: do.Detail, Response: do.Response}, from: fx.from}
		if fx.from != nil {
			out.at = time.Now()
		}
		e.waiters.settle(do.Call, out)
	case step.Respond:
		if s := e.sessions.get(do.Session); s != nil {
			s.Link.Respond(transports.Response{Request: do.Request, Body: do.Body})
			e.spans.told(spanRespond, fx.from, time.Now(), attrTransport.String(s.Transport))
		}
	case step.CloseSession:
		if s := e.sessions.remove(do.Session); s != nil {
			s.Link.Close(transports.Reason(do.Why))
		}
	case step.GiveAttributes:
		if s := e.sessions.get(do.Session); s != nil {
			s.Link.AnswerAttributes(transports.AttributesAnswer{Request: do.Request, Client: do.Client, Shared: do.Shared})
		}
	case step.PushAttributes:
		if s := e.sessions.get(do.Session); s != nil {
			s.Link.PushAttributes(do.Changed, do.Deleted)
		}
	case step.LogLine:
		e.log.LogAttrs(context.Background(), slog.LevelInfo, do.Text, slog.String("device", do.Device.String()), slog.String("source", "log node"))
	case step.DeadLetter:
		e.log.Warn("dead letter", "reason", do.Reason, "detail", do.Detail)
	}
}

// deliver hands a command to the device's link. A body that is not at hand is read aside, so that nobody else waits for it.
func (e *Engine) deliver(do step.Deliver, fx effect) {
	s := e.sessions.get(do.Session.ID)
	if s == nil {
		return // its Disconnect is on the way; the call is sent again at the next subscription
	}
	trace := e.spans.delivering(&do, s.Transport, fx.from)
	body := do.Body
	if body == nil {
		if cached, ok := e.bodies.get(do.Call.ID); ok {
			body = &cached
		}
	}
	if body != nil && !e.aside.holds(s.ID) {
		s.Link.Send(command(do, body, fx.epoch, trace))
		return
	}
	if !e.aside.add(asideDelivery{do: do, session: s, body: body, epoch: fx.epoch, trace: trace}) {
		uplink{Engine: e}.Failed(s.ID, do.Call.ID, "queue_full")
	}
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
