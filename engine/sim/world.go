// Package sim runs deterministic simulations with faults: owners crash, freeze and lose partitions to each other, reads and appends fail or are slow,
// clocks differ and jump, connections are cut. They run the owner of package owner, as the server does, with a driver without
// goroutines. The promises must hold in all of them.
package sim

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"callchain/chains"
	"callchain/engine/bus/memory"
	"callchain/engine/rpc"
	"callchain/engine/wire"
	"callchain/eventstore/memstore"
	"callchain/nodes/builtin"

	"github.com/google/uuid"
)

// Report is what happened in a world.
type Report struct {
	Calls, Commands, Events, Crashes, Freezes, Rebalances, ClockJumps, FailedAppends, TornAppends, Conflicts, FailedReads, SlowReads, Outages, Upgrades, Delivered, Replies int
}

// began is the time at which every world begins.
const began = rpc.Instant(1_800_000_000_000_000)

// The bounds of a world: users act for horizon, and after drain everything must have ended.
const (
	horizon    = 4 * time.Minute
	drain      = 4 * time.Minute
	scriptMost = 400 // lines that a failure prints
	partitions = 2
)

// world is an installation with a few devices under one seed.
type world struct {
	fault  Fault
	rng    *rand.Rand
	now    rpc.Instant
	tasks  tasks
	count  int // of tasks and ids ever made
	script []string
	report Report

	store     *memstore.Store
	bus       *memory.Cluster // nil: there is one process, and commands stay in it
	registry  registry
	processes []*process // that live
	group     group
	outage    rpc.Instant // until then the store does not answer
	back      rpc.Instant // when the brokers were back last
	runs      int         // of processes
	devices   []*device
	calls     []*call
	promises  promises
	broken    error
}

// Run lets a world live until everything in it must have ended. Its error names the broken promise, with the log before it.
func Run(seed uint64, fault Fault) (Report, error) {
	//nolint:gosec // G404: a world must be the same again under its seed
	w := &world{fault: fault, rng: rand.New(rand.NewPCG(seed, seed^0x9e3779b97f4a7c15)), now: began, store: memstore.New()}
	w.promises = newPromises(w)
	chain, err := w.chain()
	if err != nil {
		return w.report, err
	}
	w.registry = registry{w: w, chain: chain, rows: map[uuid.UUID]*row{}}
	nodes := 1 + w.rng.IntN(3)
	if nodes > 1 || w.chance(50) {
		w.bus = memory.New(partitions, wire.Codec{})
		w.bus.Sync = true
	}
	for i := range 4 {
		w.devices = append(w.devices, newDevice(w, i))
	}
	for n := range nodes {
		w.start(fmt.Sprint("node-", n))
	}
	w.plan(nodes)
	for w.now < began.Add(horizon+drain) && w.broken == nil {
		one := heap.Pop(&w.tasks).(task)
		w.now = max(w.now, one.at)
		one.do()
		for _, p := range slices.Clone(w.processes) {
			p.turn()
		}
	}
	if w.broken == nil {
		w.promises.atTheEnd()
	}
	if w.broken != nil {
		return w.report, fmt.Errorf("seed %d: %w\n%s", seed, w.broken, strings.Join(w.script, "\n"))
	}
	return w.report, nil
}

// rules are the rule chains of worlds: what the message of a call may run through.
var rules = []string{`
name: Straight
nodes:
  - name: send
    type: rpc call request
`, `
name: Waits for the answer
nodes:
  - name: by type
    type: message type switch
    to:
      RPC Request to Device: send
      RPC Successful: note
      RPC Failed: note
      RPC Queued: hold
  - name: hold
    type: delay
    config: {periodInSeconds: 3}
    to:
      Success: note
  - name: send
    type: rpc call request
    to:
      Success: note
      Failure: note
  - name: note
    type: log
    config: {text: "$[*]"}
`, `
name: Sends later
nodes:
  - name: by type
    type: message type switch
    to:
      RPC Request to Device: hold
  - name: hold
    type: delay
    config: {periodInSeconds: 2}
    to:
      Success: send
  - name: send
    type: rpc call request
`}

func (w *world) chain() (*chains.Program, error) {
	def, err := chains.Parse("sim.yaml", []byte(rules[w.rng.IntN(len(rules))]))
	if err != nil {
		return nil, err
	}
	return chains.Compile(def, builtin.Registry(), w.id(), 1)
}

// id is a new id; the same seed gives the same ids.
func (w *world) id() uuid.UUID {
	w.count++
	return uuid.NewSHA1(uuid.NameSpaceOID, fmt.Appendf(nil, "%d", w.count))
}

func (w *world) chance(percent int) bool { return w.rng.IntN(100) < percent }

// within is a random time up to d.
func (w *world) within(d time.Duration) time.Duration { return time.Duration(w.rng.Int64N(int64(d))) }

// log adds a line to what a failure prints.
func (w *world) log(format string, args ...any) {
	w.script = append(w.script, fmt.Sprintf("%12s ", time.Duration(w.now-began)*time.Microsecond)+fmt.Sprintf(format, args...))
	if len(w.script) > scriptMost {
		w.script = w.script[1:]
	}
}

// fail notes the first broken promise.
func (w *world) fail(format string, args ...any) {
	if w.broken == nil {
		w.broken = fmt.Errorf(format, args...)
	}
}

// calm reports whether faults have stopped: the world comes to its end.
func (w *world) calm() bool { return w.now >= began.Add(horizon) }

// plan writes down what users, operators and fate will do.
func (w *world) plan(nodes int) {
	for _, d := range w.devices {
		w.after(w.within(time.Minute), d.connect)
	}
	often := func(most int, do func()) {
		for range w.rng.IntN(most + 1) {
			w.after(w.within(horizon), do)
		}
	}
	for range 5 + w.rng.IntN(25) {
		w.after(w.within(horizon-time.Minute), w.call)
	}
	often(8, w.cancelSome)
	often(4, func() { w.some().crash("for no reason") })
	often(3, func() { w.some().jump() })
	often(3, w.storeAway)
	often(3, func() { w.registry.change() })
	if w.bus != nil {
		often(2, w.brokersAway)
	}
	if nodes > 1 {
		often(4, func() { w.some().freeze() })
		often(4, func() { w.group.share() })
		often(2, w.upgrade)
	}
	w.promises.sendersAnswered()
	w.after(horizon+drain, func() { w.log("the end") })
}

// some is a process that lives.
func (w *world) some() *process { return w.processes[w.rng.IntN(len(w.processes))] }

// storeAway lets the store be away for a while.
func (w *world) storeAway() {
	w.report.Outages++
	away := w.within(8 * time.Second)
	w.log("the store is away for %s", away)
	w.outage = w.now.Add(away)
	w.after(away, func() {})
}

// brokersAway lets the brokers be away for a while.
func (w *world) brokersAway() {
	w.log("the brokers are away")
	w.bus.SetAway(true)
	w.after(w.within(8*time.Second), func() {
		w.log("the brokers are back")
		w.bus.SetAway(false)
		w.back = w.now
		w.group.share()
	})
}

// upgrade lets one process write facts for a while that the others cannot read: theirs is an older program.
func (w *world) upgrade() {
	w.report.Upgrades++
	p := w.some()
	w.log("%s is an older program now", p.name)
	p.older = true
	w.after(30*time.Second, func() {
		w.log("%s is upgraded", p.name)
		p.older = false
		p.unfit = false
		w.group.share()
	})
}

// task is something that happens at a time.
type task struct {
	at     rpc.Instant
	number int // of two tasks at one time, the one that was made first happens first
	do     func()
}

func (w *world) after(d time.Duration, do func()) {
	w.count++
	heap.Push(&w.tasks, task{w.now.Add(d), w.count, do})
}

// tasks is a heap of what is to happen.
type tasks []task

func (t tasks) Len() int { return len(t) }
func (t tasks) Less(i, j int) bool {
	return t[i].at < t[j].at || t[i].at == t[j].at && t[i].number < t[j].number
}
func (t tasks) Swap(i, j int) { t[i], t[j] = t[j], t[i] }

// Push implements heap.Interface.
func (t *tasks) Push(x any) { *t = append(*t, x.(task)) }

// Pop implements heap.Interface.
func (t *tasks) Pop() any {
	old := *t
	last := old[len(old)-1]
	*t = old[:len(old)-1]
	return last
}
