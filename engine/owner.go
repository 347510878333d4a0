package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"callchain/engine/bus"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"
	"callchain/nodes"

	"github.com/google/uuid"
)

// bodyCacheBytes bounds the bodies of calls that are kept at hand. Half of it holds two of the largest bodies that REST takes, so
// that a body whose events are not committed yet is always found.
const bodyCacheBytes = 40 << 20

// finishMost is how long the last batch may take to be committed. The server waits a moment longer.
const finishMost = 3 * time.Second

// owner is the one loop that owns all partitions of this process. Only its goroutine touches its fields.
//
//	inbox → step → batch (gathers while the writer is busy) → writer: append → performer: effects
type owner struct {
	e       *Engine
	state   *state
	parts   []partition
	devices map[uuid.UUID]*deviceHead
	calls   map[uuid.UUID]head // open calls
	runs    map[uuid.UUID]head
	traces  map[uuid.UUID]lineage // of the open calls that are traced
	current lineage               // of the command that is being stepped
	ended   *generations[uuid.UUID, endedCall]
	wires   *generations[wireKey, uuid.UUID] // calls that ended lately, by their wire id
	values  *generations[nodes.Key, seen]
	foreign map[nodes.Key]nodes.Value         // values of others, for the command that is being stepped
	removed *generations[uuid.UUID, struct{}] // dead letters whose end may not be committed yet
	callers map[uuid.UUID][]string            // processes of other nodes that wait for a call
	asides  map[uuid.UUID]string              // processes that hold a connection aside of which a device's call is open
	doubted []doubted                         // connections, in the order of their time
	letters letterRoom
	timers  timers
	linger  linger

	batch     *batch
	tracer    tracer
	writer    *writer
	busy      bool
	replay    []bus.Message            // to be stepped before the inbox
	early     []bus.Message            // of partitions that are being loaded
	loading   *loading                 // nil: no partitions are being loaded
	broken    *written                 // an append that failed: nothing is stepped or written before the partitions are loaded again
	gathered  []bus.Message            // what was stepped behind it
	lost      error                    // what the inbox has lost, before it began
	again     []wait                   // partitions that were lost to somebody, and when they may be claimed again
	rerunning bool                     // the command of a dead letter is being judged
	drained   bool                     // nothing has waited once since the inbox had to catch up
	single    bool                     // step one message a batch: one of them spoils its batch
	pause     time.Time                // until then the store is left in peace
	failures  int                      // appends that failed since one succeeded
	outage    bool                     // the store could not write, and nothing was stored since
	restored  map[uuid.UUID][]rpc.Call // open calls that were found, by device
	lookUps   struct {                 // of late answers, in this second
		second int64
		n      int
	}
	scratch []bus.Message
}

// partition is the owner's memory of one partition.
type partition struct {
	held    bool                  // it is loaded, and its commands are stepped
	read    bool                  // the inbox delivers it
	unsure  *unsure               // nil: it is known who is connected, and who waits
	orphans bool                  // calls without callers are to be ended
	since   rpc.Instant           // of the claim
	cp      eventstore.Checkpoint // as it will be when everything stepped so far is committed
	lastAt  rpc.Instant
	behind  behind
	flushed time.Time
	moved   bool // the positions are ahead of the stored ones
}

// state is the memory of one or more partitions: the devices with something open, and the runs that are parked.
type state struct {
	Devices map[uuid.UUID]rpc.Device
	Runs    map[uuid.UUID]step.Run
}

func newState() *state {
	return &state{Devices: map[uuid.UUID]rpc.Device{}, Runs: map[uuid.UUID]step.Run{}}
}

// apply takes over what a step answered.
func (s *state) apply(device uuid.UUID, r *step.Result) {
	s.Devices[device] = r.After()
	for id, run := range r.Runs() {
		if len(run.Tokens) == 0 {
			delete(s.Runs, id)
		} else {
			s.Runs[id] = run
		}
	}
}

// run is a parked run.
func (s *state) run(id uuid.UUID) (step.Run, bool) {
	r, ok := s.Runs[id]
	return r, ok
}

type wireKey struct {
	device uuid.UUID
	wire   int32
}

func newOwner(e *Engine) *owner {
	o := &owner{e: e, writer: newWriter(e)}
	o.forget()
	return o
}

// forget drops everything that was loaded or stepped, but for what the inbox delivers.
func (o *owner) forget() {
	read := o.parts
	o.state, o.restored = newState(), map[uuid.UUID][]rpc.Call{}
	o.parts = make([]partition, o.e.config.Partitions)
	o.devices, o.calls, o.runs = map[uuid.UUID]*deviceHead{}, map[uuid.UUID]head{}, map[uuid.UUID]head{}
	for p := range read {
		o.parts[p].read = read[p].read
		o.e.held.set(int32(p), 0)
	}
	o.traces, o.current = map[uuid.UUID]lineage{}, lineage{}
	o.callers, o.asides = map[uuid.UUID][]string{}, map[uuid.UUID]string{}
	o.ended = newGenerations[uuid.UUID, endedCall](10_000)
	o.wires = newGenerations[wireKey, uuid.UUID](50_000)
	o.values = newGenerations[nodes.Key, seen](bodyCacheBytes)
	o.foreign = map[nodes.Key]nodes.Value{}
	o.removed = newGenerations[uuid.UUID, struct{}](50_000)
	o.timers = newTimers()
	o.linger = newLinger()
	o.batch = newBatch()
}

// run works until ctx ends.
func (o *owner) run(ctx context.Context) error {
	stop := o.writer.start()
	defer stop()
	wake := time.NewTimer(time.Hour)
	defer wake.Stop()
	for {
		o.gather()
		for o.handOver() {
			o.gather() // the next batch gathers while this one is written
		}
		ready := o.e.inbox.Ready()
		if o.blocked() {
			ready = nil // only the writer can make room
		}
		wake.Reset(o.untilNext())
		select {
		case <-ready:
		case <-wake.C:
			o.acquire(ctx)
		case <-o.e.assignment.changed:
			o.reassigned(ctx)
		case l := <-o.loaded():
			if err := o.merge(ctx, l); err != nil {
				return err
			}
		case r := <-o.e.assignment.revoked:
			o.revoke(ctx, r)
		case gone := <-o.e.gone:
			o.lostNodes(gone)
		case w := <-o.writer.written:
			o.settled(w)
			o.acquire(ctx)
		case <-ctx.Done():
			o.cancelLoading()
			if o.lost != nil && !o.e.begun.Load() {
				return fmt.Errorf("claiming the partitions: %w", o.lost)
			}
			return o.finish()
		}
	}
}

// blocked tells whether the batch takes no further command.
func (o *owner) blocked() bool {
	return o.broken != nil || o.batch.full(o.e.config.BatchEvents) || (o.single || o.batch.apart != 0) && !o.batch.empty() || o.e.now().Before(o.pause)
}

// gather steps what has arrived into the batch, RPC first; data keeps a fifth of the turns. Timers fire up to when the first RPC command that
// waits was sent: an answer that was sent before its deadline wins. What was kept while nobody took it is in no such order, so that it is taken before any
// timer fires.
func (o *owner) gather() {
	const turn = 64
	for !o.blocked() {
		if len(o.replay) > 0 {
			if o.handle(o.replay[0]) {
				return
			}
			o.replay = o.replay[1:]
			continue
		}
		o.single = false // the replay is through
		o.scratch = o.e.inbox.Take(bus.RPC, turn, o.scratch[:0])
		rpcs := len(o.scratch)
		switch {
		case o.e.inbox.Behind():
			o.drained = false
		case rpcs == 0:
			o.drained = true
			o.endOrphans()
			o.tick(o.e.now())
		case o.drained:
			o.tick(o.sent(o.scratch))
		}
		o.scratch = o.e.inbox.Take(bus.Data, max(turn/4, turn-rpcs), o.scratch)
		if len(o.scratch) == 0 && len(o.replay) == 0 {
			return
		}
		o.handleAll(o.scratch)
	}
}

// handleAll steps messages in order. Those from the first one on that cannot be stepped now are kept for later.
func (o *owner) handleAll(messages []bus.Message) {
	for i := range messages {
		if o.handle(messages[i]) {
			o.replay = append(slices.Clone(messages[i:]), o.replay...)
			break
		}
	}
	clear(messages)
}

// handle steps one message; held tells that it must be stepped again, later.
func (o *owner) handle(m bus.Message) (held bool) {
	if !o.holds(m.Partition) {
		o.astray(m)
		return false
	}
	if o.judged(m) {
		return false
	}
	switch v := m.Value.(type) {
	case wish:
		m.Done = o.e.teller(v.Waiter, m.Done)
		o.grant(m, v)
		return false
	case confirm:
		o.confirmed(m, v)
		return false
	}
	cmd, ok := m.Value.(step.Command)
	if !ok {
		o.spoilt(m)
		return false
	}
	m.Done = o.e.teller(cmd.Waiter, m.Done)
	if lingering(cmd) && m.Place == (bus.Place{}) && !o.single {
		o.linger.add(cmd.Device, m, o.e.now().Add(o.e.config.Linger))
		return false
	}
	if m.Lane == bus.RPC {
		o.release(cmd.Device)
	}
	return o.step(m, cmd)
}

// release steps the facts of a device that were kept waiting for its next command.
func (o *owner) release(device uuid.UUID) {
	for _, m := range o.linger.take(device) {
		o.step(m, m.Value.(step.Command))
	}
}

// step judges one command and takes its result into the batch; held tells that it must be stepped again, later.
func (o *owner) step(m bus.Message, cmd step.Command) (held bool) {
	err := o.judge(m, cmd)
	switch {
	case err != nil && m.Place != bus.Place{}: // it is kept: nobody sends it again
		o.hold(cmd, err)
		return true
	case err != nil:
		o.refuse(m, cmd, fmt.Errorf("%w: %w", ErrBusy, err))
	}
	o.batch.notes(m.Lane, &cmd)
	o.batch.messages = append(o.batch.messages, m)
	o.passed(m)
	return false
}

// hold waits a moment before the store is asked again.
func (o *owner) hold(cmd step.Command, err error) {
	const moment = 250 * time.Millisecond
	o.e.log.Warn("a command waits for the store", "command", kindOf(cmd.Do), "device", cmd.Device, "error", err)
	o.pause = o.e.now().Add(moment)
}

// judged tells whether a message was judged before, by this owner or by another that had its partition meanwhile: what is stored says so.
func (o *owner) judged(m bus.Message) bool {
	if m.Place.Topic == uuid.Nil {
		return false
	}
	at := o.parts[m.Partition].cp.Positions[m.Lane]
	return at.Topic == m.Place.Topic && m.Place.Offset < at.Offset
}

// passed moves the position of a partition behind a message that was judged.
func (o *owner) passed(m bus.Message) {
	if m.Place.Topic == uuid.Nil {
		return
	}
	part := &o.parts[m.Partition]
	if o.e.group != nil {
		o.batch.part(part.cp) // what the sender is told, it is told by an owner that was none only if this append fails
	}
	part.cp.Positions[m.Lane] = eventstore.Position{Topic: m.Place.Topic, Offset: m.Place.Offset + 1}
	part.moved = true
}

// judge steps one command. It fails with errFetch if the store does not answer; nothing has happened then.
func (o *owner) judge(m bus.Message, cmd step.Command) error {
	ctx := context.Background()
	device, err := o.deviceOf(ctx, cmd)
	if err == nil {
		err = o.load(ctx, cmd.Device, device.Tenant, device.Partition)
	}
	switch {
	case errors.Is(err, errFetch):
		return err
	case err != nil:
		o.refuse(m, cmd, err)
		return nil
	}
	part := &o.parts[device.Partition]
	if !part.held {
		o.refuse(m, cmd, ErrUnready) // the device stands in another partition now
		return nil
	}
	cmd.Now = rpc.At(o.e.now())
	cmd.At = max(cmd.Now, part.lastAt)
	part.lastAt = cmd.At
	if cmd.Occurred == 0 {
		cmd.Occurred = cmd.Now
	}
	cmd.Tenant = device.Tenant
	cmd = o.inTrace(o.lookUp(ctx, cmd))
	o.current = lineage{cmd.Trace, cmd.Span}
	if o.repeated(ctx, m, cmd, device) || o.undecided(m, cmd, part) {
		return nil
	}
	clear(o.foreign)
	if span := o.e.spans.step(&cmd, &device); span != nil {
		o.current = lineageOf(span.SpanContext())
		o.batch.spans = append(o.batch.spans, span)
	}
	return o.settle(ctx, m, cmd, device)
}

// deviceOf is the directory's row of a command's device. What is open of a device that was deleted still ends: its life cycle goes
// on, without a chain, as the device was known.
func (o *owner) deviceOf(ctx context.Context, cmd step.Command) (Device, error) {
	device, err := o.e.directory.Device(ctx, cmd.Device)
	if err == nil {
		return device, nil
	}
	if !errors.Is(err, ErrNoDevice) {
		return device, fmt.Errorf("%w: %w", errFetch, err)
	}
	dh := o.devices[cmd.Device]
	if _, life := cmd.Do.(step.RPC); !life || dh == nil {
		return device, err
	}
	return Device{Tenant: dh.tenant, Partition: dh.partition, Info: step.Info{Settings: rpc.DefaultSettings()}}, nil
}

// errFetch: the store did not answer. That is not the command's fault; its sender may try again.
var errFetch = errors.New("the store is not available")

// newID makes a UUID of version 7: sorted by time, so that index pages fill from one end.
func newID() uuid.UUID {
	id, err := uuid.NewV7()
	if err != nil {
		panic(fmt.Sprintf("engine: no randomness: %v", err)) // the system cannot give random bytes
	}
	return id
}

// untilNext is how long nothing is to be done if nothing arrives.
func (o *owner) untilNext() time.Duration {
	const look = 10 * time.Millisecond
	now := o.e.now()
	next := o.nextLook(now.Add(time.Second)) // rows that are written behind
	switch {
	case o.broken == nil && now.Before(o.pause):
		return o.pause.Sub(now)
	case o.blocked():
		return max(next.Sub(now), 0)
	case o.e.inbox.Behind():
		return look // no deadline is judged before what is kept was taken
	}
	if at, ok := o.timers.next(); ok && at.Time().Before(next) {
		next = at.Time()
	}
	if at, ok := o.linger.next(); ok && at.Before(next) {
		next = at
	}
	return max(next.Sub(now), 0)
}

// handOver gives the batch to the writer when that is idle and there is something to write.
func (o *owner) handOver() bool {
	if o.busy || o.broken != nil {
		return false
	}
	o.flushBehind(false)
	if o.batch.empty() {
		return false
	}
	o.batch.single = o.single
	o.seal()
	o.e.inHand.note(o.batch.oldest)
	o.e.metrics.open.Set(float64(len(o.calls)))
	o.writer.batches <- o.batch
	o.batch, o.busy = newBatch(), true
	return true
}

// settled takes note of what became of the batch that was handed over.
func (o *owner) settled(w written) {
	o.busy = false
	if w.err == nil && (len(w.fenced) == 0 || o.e.group != nil) {
		o.failures, o.outage = 0, false
		o.e.inHand.note([bus.Lanes]rpc.Instant{})
		o.fenced(w)
		return
	}
	o.startAgain(w)
}

// finish commits what is stepped and what was written behind, and ends the writer.
func (o *owner) finish() error {
	o.e.inbox.Close()
	ctx, cancel := context.WithTimeout(context.Background(), finishMost)
	defer cancel()
	o.pause = time.Time{} // this is the last chance
	for last := false; ; {
		if o.busy {
			select {
			case w := <-o.writer.written:
				if w.err != nil || len(w.fenced) > 0 && o.e.group == nil {
					return fmt.Errorf("committing the last batch: %w", w.cause())
				}
				o.settled(w)
			case <-ctx.Done():
				return fmt.Errorf("committing the last batch: %w", ctx.Err())
			}
		}
		if o.broken != nil {
			return fmt.Errorf("committing the last batch: %w", o.broken.cause())
		}
		if last {
			return nil
		}
		o.gather()
		o.releaseAll()
		if o.batch.empty() {
			o.flushBehind(true)
			last = true
		}
		o.handOver()
	}
}

func (o *owner) releaseAll() {
	for {
		device, ok := o.linger.any()
		if !ok {
			return
		}
		o.release(device)
	}
}
