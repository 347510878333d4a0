package sim

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"callchain/chains"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/nodes/builtin"

	"github.com/google/uuid"
)

// Rule is how the owner of a world treats its promises.
type Rule uint8

// The rules. All but Sound are broken on purpose: a simulation that does not notice them proves nothing.
const (
	Sound          Rule = iota
	EffectsFirst        // lets effects out before the append
	NewWireIDs          // forgets the counter of wire ids in a crash
	ForgetsOpen         // does not load open calls after a crash
	DoublesAnswers      // takes what a device repeats for a second end
)

// Report is what happened in a world.
type Report struct {
	Commands, Events, Calls, Crashes, FailedAppends, TornAppends, Delivered, Told int
}

// began is the time at which every world begins.
const began = rpc.Instant(1_800_000_000_000_000)

// horizon is how long users wish for things; scriptMost bounds what a failure prints.
const (
	horizon    = 5 * time.Minute
	scriptMost = 400
)

// world is one partition with a few devices under one seed.
type world struct {
	rule   Rule
	rng    *rand.Rand
	now    rpc.Instant
	tasks  tasks
	count  int // of tasks and ids ever made
	script []string
	report Report

	owner   *owner
	devices []*device
	calls   []uuid.UUID
	promise promises
	broken  error
}

// Run lets a world live until everything in it must have ended. Its error names the promise that was broken, and tells what
// happened before.
func Run(seed uint64, rule Rule) (Report, error) {
	//nolint:gosec // G404: a world must be the same again under its seed
	w := &world{rule: rule, rng: rand.New(rand.NewPCG(seed, seed^0x9e3779b97f4a7c15)), now: began}
	w.promise = promises{w: w, shadow: newFolded(), persistent: map[uuid.UUID]bool{}, ended: map[uuid.UUID]rpc.Phase{}}
	chain, err := w.chain()
	if err != nil {
		return w.report, err
	}
	w.owner = newOwner(w, chain)
	for i := range 3 {
		w.devices = append(w.devices, newDevice(w, i))
	}
	w.plan()
	for len(w.tasks) > 0 && w.broken == nil {
		one := heap.Pop(&w.tasks).(task)
		w.now = max(w.now, one.at)
		one.do()
		w.owner.turn()
	}
	if w.broken == nil {
		w.promise.atTheEnd()
	}
	if w.broken != nil {
		return w.report, fmt.Errorf("seed %d: %w\n%s", seed, w.broken, strings.Join(w.script, "\n"))
	}
	return w.report, nil
}

// chainsOfWorlds are what the message of a call may run through.
var chainsOfWorlds = []string{`
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
	def, err := chains.Parse("sim.yaml", []byte(chainsOfWorlds[w.rng.IntN(len(chainsOfWorlds))]))
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

func (w *world) tell(format string, args ...any) {
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

// plan writes down what users and devices will do: calls, cancels, removals, connections.
func (w *world) plan() {
	for _, d := range w.devices {
		w.after(w.within(time.Minute), d.connect)
	}
	for range 5 + w.rng.IntN(25) {
		w.after(w.within(horizon), w.call)
	}
	for range w.rng.IntN(8) {
		w.after(w.within(horizon), w.meddle)
	}
	for range w.rng.IntN(4) {
		w.after(w.within(horizon), func() { w.owner.crash("between two turns") })
	}
	w.after(horizon+3*time.Minute, func() {}) // everything has ended by then
}

// call is a wish of a user.
func (w *world) call() {
	id := w.id()
	if w.chance(10) && len(w.calls) > 0 {
		id = w.calls[w.rng.IntN(len(w.calls))] // somebody tries again
	} else {
		w.calls = append(w.calls, id)
		w.report.Calls++
	}
	d := w.devices[int(id[0])%len(w.devices)]
	r := rpc.Request{
		ID: id, Method: "m", Oneway: id[1]%3 == 0, Persistent: id[2]%2 == 0, Order: rpc.Order(id[3] % 4),
		Expires: w.now.Add(time.Second + w.within(time.Minute)), Content: [32]byte(append(id[:], id[:]...)),
	}
	r.Waiting = !r.Persistent
	w.tell("user: call %.8s to device %d, oneway %t, persistent %t, order %d", id, d.number, r.Oneway, r.Persistent, r.Order)
	w.owner.put(d.id, step.Call{Request: r, FailOffline: id[4]%8 == 0})
}

// meddle cancels or removes a call, whatever has become of it.
func (w *world) meddle() {
	if len(w.calls) == 0 {
		return
	}
	id := w.calls[w.rng.IntN(len(w.calls))]
	d := w.devices[int(id[0])%len(w.devices)]
	if w.chance(50) {
		w.tell("user: cancel %.8s", id)
		w.owner.put(d.id, step.RPC{Do: rpc.Cancel{Call: id}})
		return
	}
	w.tell("user: remove %.8s", id)
	w.owner.put(d.id, step.RPC{Do: rpc.Remove{Call: id, Ended: w.owner.hasEnded(id)}})
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
