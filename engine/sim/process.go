package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"callchain/engine/bus"
	"callchain/engine/bus/local"
	"callchain/engine/bus/memory"
	"callchain/engine/cluster"
	"callchain/engine/owner"
	"callchain/engine/recovery"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"
	"callchain/eventstore/memstore"

	"github.com/google/uuid"
)

// process drives an owner, as the server's driver does: without goroutines, and with failures.
type process struct {
	edge
	observed

	w          *world
	name       string // cluster.Process(node, run)
	node, run  string
	alive      bool
	frozen     bool
	older      bool // its program cannot read what others write now
	unfit      bool // it owns nothing because of that
	began      rpc.Instant
	clock      time.Duration // how far it is ahead of the true time
	generation uint64

	owner    *owner.Owner
	inbox    bus.Inbox
	place    *memory.Node // nil: the inbox dies with the process
	store    *memstore.Store
	reader   *recovery.Reader
	alarm    rpc.Instant      // the next turn that is planned
	canceled bool             // the claim under way
	leaving  map[int32]func() // called when a partition is given up
	epochs   map[int32]int64  // the latest that it has heard of
}

// edge is who stands before a process: devices and callers.
type edge struct {
	sessions  map[uuid.UUID]*session
	callers   []*caller
	sending   map[string]rpc.Instant // when what was sent last to another process arrives
	decisions map[uuid.UUID]func(error)
	undecided []*undecided
}

// observed is the state that the promises need of a process.
type observed struct {
	events  int                     // Report.Events at the last comparison with the store
	again   rpc.Instant             // of the next comparison at the latest
	peak    [2]rpc.Instant          // the latest time by its clock, in this batch and the one before
	claimed [partitions]rpc.Instant // when it claimed a partition
	resumed rpc.Instant             // when it was frozen last, or its clock set
}

func newProcess(w *world, node string) *process {
	p := &process{
		w: w, node: node, run: fmt.Sprintf("%04d", w.runs), alive: true, began: w.now, leaving: map[int32]func(){}, epochs: map[int32]int64{},
		edge: edge{sessions: map[uuid.UUID]*session{}, decisions: map[uuid.UUID]func(error){}, sending: map[string]rpc.Instant{}},
	}
	p.name = cluster.Process(node, p.run)
	if w.chance(50) {
		p.clock = w.within(2*time.Second) - time.Second
	}
	p.store = w.store.Open()
	p.store.Reading = p.reading
	p.reader = &recovery.Reader{Store: older{p.store, p}, Registry: &w.registry}
	if w.bus != nil {
		p.place = w.bus.Node(p.name)
		p.inbox = p.place.Inbox()
	} else {
		p.inbox = local.New(10_000)
	}
	p.owner = owner.New(owner.Config{
		Process: p.name, Shared: w.bus != nil, Partitions: partitions, BatchEvents: 3 + w.rng.IntN(60), Linger: 50 * time.Millisecond, DeadLetters: 100,
		Tenant: tenant, NewID: w.id, Chain: func(uuid.UUID) *owner.Program { return w.registry.chain }, Stack: func() []byte { return nil },
	})
	w.log("%s starts, its clock is %s off", p.name, p.clock)
	return p
}

// now is the time by the process's clock.
func (p *process) now() rpc.Instant {
	now := p.w.now.Add(p.clock)
	p.peak[0] = max(p.peak[0], now)
	if p.w.fault == DeadlinesByStampsAt {
		now = max(now, p.w.promises.newest)
	}
	return now
}

var errAway = errors.New("the store is away")

// reading lets reads fail.
func (p *process) reading() error {
	if p.w.now < p.w.outage || !p.w.calm() && p.w.chance(4) {
		p.w.report.FailedReads++
		return errAway
	}
	return nil
}

// turn runs the work that is due.
func (p *process) turn() {
	const most = 10_000
	for n := 0; p.alive && !p.frozen && p.w.broken == nil; n++ {
		if n == most {
			p.w.fail("%s works for ever at one time", p.name)
			return
		}
		if g := p.w.registry.generation; g != p.generation {
			p.generation = g
			p.owner.RegistryChanged(g)
		}
		some := p.take()
		ready := p.owner.Ready(p.now())
		if again := p.do(&ready); !some && !again {
			p.check()
			p.setAlarm(ready.Wake)
			return
		}
	}
}

func (p *process) take() bool {
	room := p.owner.Room()
	if room == 0 {
		return false
	}
	room = 1 + p.w.rng.IntN(room)
	catchingUp := p.inbox.CatchingUp()
	rpcs := p.inbox.Take(bus.RPC, room, nil)
	data := p.inbox.Take(bus.Data, room, nil)
	p.w.report.Commands += len(rpcs) + len(data)
	if p.w.fault == TimeStandsStill && len(rpcs) == 0 {
		return false
	}
	p.owner.Take(p.now(), owner.Arrived{RPC: rpcs, Data: data, CatchingUp: catchingUp})
	return len(rpcs)+len(data) > 0
}

// setAlarm plans a turn.
func (p *process) setAlarm(wake rpc.Instant) {
	at := max(wake.Add(-p.clock), p.w.now.Add(time.Millisecond))
	if p.alarm > p.w.now && p.alarm <= at {
		return
	}
	p.alarm = at
	p.after(time.Duration(at-p.w.now)*time.Microsecond, func() {})
}

// after does something later, if the process lives then; a frozen one does it when it goes on.
func (p *process) after(d time.Duration, do func()) {
	p.w.after(d, func() {
		switch {
		case p.alive && p.frozen:
			p.after(500*time.Millisecond, do)
		case p.alive:
			do()
		}
	})
}

// do executes the owner's work; true: there is more at once.
func (p *process) do(r *owner.Ready) (again bool) {
	for i := range r.Notices {
		p.notice(&r.Notices[i])
	}
	if r.Append != nil {
		p.peak = [2]rpc.Instant{p.now(), p.peak[0]}
		if p.w.fault == EffectsFirst {
			first := r.Append.Release(nil)
			p.release(&first)
		}
		p.after(p.w.within(20*time.Millisecond), func() { p.append(r.Append) })
	}
	for i := range r.Release {
		if p.w.fault != ReleasesLost {
			p.release(&r.Release[i])
		}
	}
	if len(r.Unread) > 0 {
		p.owner.Returned(p.inbox.End(r.Unread))
		again = true
	}
	for i := range r.Completed {
		p.complete(&r.Completed[i])
	}
	for _, m := range r.Misrouted {
		if p.w.fault != MisroutedLost {
			p.redirect(m)
		}
	}
	for i := range r.Reads {
		one := r.Reads[i]
		p.after(p.slow(50*time.Millisecond), func() { p.answer(&one) })
	}
	p.canceled = p.canceled || r.CancelClaim
	if len(r.Claim) > 0 {
		p.canceled = false
		claims := r.Claim
		p.after(p.slow(200*time.Millisecond), func() { p.claim(claims) })
	}
	for _, n := range r.Left {
		if done := p.leaving[n]; done != nil {
			delete(p.leaving, n)
			done()
		}
	}
	return again
}

// slow is how long a read takes: now and then it is slow.
func (p *process) slow(most time.Duration) time.Duration {
	if !p.w.calm() && p.w.chance(3) {
		p.w.report.SlowReads++
		most = 4 * time.Second
	}
	return p.w.within(most)
}

func (p *process) notice(n *owner.Notice) {
	if n.Err != nil {
		p.w.log("  %s: notice %d, partitions %v: %s", p.name, n.Kind, n.Partitions, shortened(n.Err.Error()))
	}
	if n.Kind == owner.NoticePanicked {
		p.w.fail("%s: a step panicked: %w", p.name, n.Err)
	}
	if n.Kind == owner.NoticeNewerEvents {
		p.unfit = true
		p.after(0, p.w.group.share)
	}
}

func shortened(text string) string {
	if text, _, _ = strings.Cut(text, "\n"); len(text) > 160 {
		return text[:160] + "…"
	}
	return text
}

// append stores a batch. Anything may fail.
func (p *process) append(b *owner.Batch) {
	var fenced []int32
	torn := false
	if len(b.Store.Partitions) > 0 {
		p.w.fault.appended(&b.Store)
		switch {
		case p.w.now < p.w.outage, !p.w.calm() && p.w.chance(2):
			p.w.report.FailedAppends++
			p.owner.Advance(p.now(), nil, &eventstore.OutageError{Err: errAway})
			return
		case !p.w.calm() && p.w.rng.IntN(200) == 0:
			p.crash("before an append")
			return
		case !p.w.calm() && p.w.rng.IntN(150) == 0 && len(p.w.processes) > 1:
			p.freeze()
			p.after(0, func() { p.append(b) })
			return
		}
		var err error
		var conflict *eventstore.ConflictError
		fenced, err = p.store.Append(context.Background(), b.Store)
		switch {
		case errors.As(err, &conflict): // a repeated call that the owner does not know any more
			p.w.report.Conflicts++
			p.owner.Advance(p.now(), nil, err)
			return
		case err != nil:
			p.w.fail("%s: the store refuses a batch: %w", p.name, err)
			return
		}
		p.w.promises.committed(p, b, fenced)
		torn = !p.w.calm() && p.w.chance(2)
	}
	switch {
	case torn:
		p.w.report.TornAppends++
		p.owner.Advance(p.now(), nil, errors.New("the connection was reset"))
		return
	case !p.w.calm() && p.w.rng.IntN(200) == 0:
		p.crash("between an append and its effects")
		return
	}
	out := b.Release(fenced)
	if p.w.fault == FencedReleased {
		out = b.Release(nil)
	}
	if p.w.fault != EffectsFirst {
		p.release(&out)
	}
	p.owner.Advance(p.now(), fenced, nil)
}

// answer executes a read of the owner.
func (p *process) answer(r *owner.Read) {
	a := p.reader.Answer(context.Background(), r)
	p.w.fault.answered(r, a)
	p.owner.Answered(p.now(), a)
}

// claim claims and loads partitions.
func (p *process) claim(claims []owner.Claim) {
	out := &owner.Claimed{Callers: map[int32][]wireCaller{}}
	for _, c := range claims {
		out.Partitions = append(out.Partitions, c.Partition)
	}
	if out.Err = p.load(claims, out); out.Err == nil {
		for _, n := range out.Partitions {
			p.reportHere(n, out)
		}
	}
	p.owner.Claimed(p.now(), out)
	for _, n := range out.Partitions {
		if epoch := p.owner.Epoch(n); out.Err == nil && epoch > 0 {
			p.epochs[n], p.claimed[n] = epoch, p.w.now
			p.announce(n, epoch)
		}
	}
}

// reportHere gives the owner the sessions and callers that are here.
func (p *process) reportHere(n int32, out *owner.Claimed) {
	if p.w.fault != SessionsForgotten {
		for _, s := range p.sessionsIn(n) {
			out.Sessions = append(out.Sessions, owner.LocalSession{Partition: n, Device: s.device.id, Actions: s.sessionReport()})
		}
	}
	if p.w.fault != CallersForgotten {
		out.Callers[n] = p.callersIn(n)
	}
}

func (p *process) load(claims []owner.Claim, out *owner.Claimed) error {
	ctx := context.Background()
	if p.canceled {
		out.Canceled = true
		return context.Canceled
	}
	checkpoints, err := p.store.Claim(ctx, p.node, out.Partitions)
	if err != nil {
		return err
	}
	p.w.log("%s claims %v", p.name, out.Partitions)
	for i := range checkpoints {
		cp := &checkpoints[i]
		r, err := p.reader.Load(ctx, *cp)
		if err != nil {
			return err
		}
		p.w.fault.recovered(r)
		out.Recovered = append(out.Recovered, r)
		if !slices.Contains(claims, owner.Claim{Partition: cp.Partition, Reading: true}) {
			out.From = append(out.From, p.from(cp))
		}
	}
	return p.inbox.Begin(ctx, out.From)
}

// from is where the inbox goes on with a partition.
func (p *process) from(cp *eventstore.Checkpoint) bus.From {
	from := bus.From{Partition: cp.Partition}
	for lane, at := range cp.Positions {
		from.Next[lane] = bus.Place{Topic: at.Topic, Offset: at.Offset}
		if p.w.fault == InboxSkipped && at.Topic != uuid.Nil {
			from.Next[lane].Offset++
		}
	}
	return from
}

// revoke lets the process give a partition up; done is called when it has.
func (p *process) revoke(n int32, done func()) {
	if p.frozen {
		return // it does not get it in time
	}
	p.leaving[n] = done
	p.owner.Revoke(p.now(), []int32{n})
}

// release releases a stored batch.
func (p *process) release(r *owner.Release) {
	r.Completions(p.complete)
	r.Effects(p.dispatch)
}

// complete gives a sender the decision.
func (p *process) complete(c *owner.Completion) {
	switch {
	case c.Done != nil:
		c.Done(c.Err)
	case c.Waiter.ID != uuid.Nil:
		p.send(c.Waiter.Node, func(to *process) { to.decided(c.Waiter.ID, c.Err) })
	}
}

func (p *process) decided(id uuid.UUID, err error) {
	if done := p.decisions[id]; done != nil {
		delete(p.decisions, id)
		done(err)
	}
}

// send gives something to a process: at once to itself, to others after a while, in order.
func (p *process) send(name string, do func(*process)) {
	if name == p.name {
		do(p)
		return
	}
	for _, to := range p.w.processes {
		if to.name == name {
			at := max(p.w.now.Add(p.w.within(30*time.Millisecond)), p.sending[name])
			p.sending[name] = at
			to.after(time.Duration(at-p.w.now)*time.Microsecond, func() { do(to) })
		}
	}
}

// redirect sends a message on to the owner of its partition.
func (p *process) redirect(m bus.Message) {
	if p.w.bus == nil {
		p.w.fail("%s: alone, a message is misrouted: %+v", p.name, m)
		return
	}
	cmd, ok := m.Value.(step.Command)
	if !ok {
		return
	}
	p.putCommand(m.Partition, m.Priority, cmd, m.Done)
}
