// Package goja runs scripts in JavaScript with dop251/goja. It is the only place that knows the engine.
//
// A script is as pure as a node: its clock is the message's Now, its chance is seeded from message and node, its time zone is
// UTC, and nothing that it sets survives the run: all that is built in is frozen. What it may cost is bounded: time by a
// watchdog, the growth of texts by a check on every addition (the compiler puts it in), lists and the costly functions by
// prelude.js, results by their size. The clock of the machine is looked at for the watchdog only.
package goja

import (
	_ "embed" // the preludes
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"callchain/nodes/script"

	"github.com/dlclark/regexp2/v2"
	js "github.com/dop251/goja"
)

// BudgetDefault is how long one run may take.
const BudgetDefault = 50 * time.Millisecond

// The bounds of a run.
const (
	inputMax  = 256 << 10 // bytes of a message's data and metadata, in memory
	resultMax = 300_000   // bytes of a result, in memory (ThingsBoard: max_result_size)
	callsMax  = 400       // calls within calls
	cachedMax = 1000      // functions that a machine keeps ready
)

// Engine is a script.Engine.
type Engine struct {
	budget   time.Duration
	free     chan *machine
	runs     atomic.Int64
	excesses atomic.Int64
}

var _ script.Engine = (*Engine)(nil)

// New is an engine whose scripts may run as long as budget; 0 means BudgetDefault.
func New(budget time.Duration) *Engine {
	if budget <= 0 {
		budget = BudgetDefault
	}
	boundExpressions(budget)
	return &Engine{budget: budget, free: make(chan *machine, 2*runtime.GOMAXPROCS(0))}
}

// expressions guards what the library of regular expressions has for the whole process only; nothing else here uses it.
var expressions sync.Mutex

// boundExpressions bounds one match of an expression that goes back and forth (look-ahead, references back): such a match hears no
// interrupt. It may take no less than a budget, so that a match that is given up is never taken for none: the watchdog has fired by then.
func boundExpressions(budget time.Duration) {
	expressions.Lock()
	defer expressions.Unlock()
	if none := regexp2.DefaultMatchTimeout > time.Hour; none {
		regexp2.SetTimeoutCheckPeriod(expressionClock)
		regexp2.DefaultMatchTimeout = budget
	} else if budget > regexp2.DefaultMatchTimeout {
		regexp2.DefaultMatchTimeout = budget
	}
}

// expressionClock is how often the library looks at the time.
const expressionClock = 10 * time.Millisecond

// Stats are counters since the engine was made.
type Stats struct {
	Runs     int64
	Excesses int64 // runs that the watchdog ended
}

// Stats are the counters of all scripts of the engine.
func (e *Engine) Stats() Stats { return Stats{Runs: e.runs.Load(), Excesses: e.excesses.Load()} }

// machine is an idle machine, or a new one.
func (e *Engine) machine() (*machine, error) {
	select {
	case m := <-e.free:
		return m, nil
	default:
		return newMachine()
	}
}

func (e *Engine) release(m *machine) {
	select {
	case e.free <- m:
	default: // there are enough
	}
}

// machine is a JavaScript world; one goroutine at a time uses it.
type machine struct {
	vm        *js.Runtime
	tools     *js.Object // what the preludes share with us
	intrinsic []js.Value // what compiled scripts are given: see wrapper
	functions map[*compiled]js.Callable
	costs     map[string]int // of regular expressions
	now       time.Time
	chance    uint64
	timer     *time.Timer
	fired     chan struct{}
}

//go:embed prelude.js
var prelude string

//go:embed tbel.js
var tbelPrelude string

// preludes are compiled once for all machines.
var preludes = sync.OnceValues(func() ([2]*js.Program, error) {
	var out [2]*js.Program
	for i, p := range []struct{ name, text string }{{"prelude.js", prelude}, {"tbel.js", tbelPrelude}} {
		var err error
		if out[i], err = js.Compile(p.name, p.text, true); err != nil {
			return out, fmt.Errorf("compiling %s: %w", p.name, err)
		}
	}
	return out, nil
})

func newMachine() (*machine, error) {
	programs, err := preludes()
	if err != nil {
		return nil, err
	}
	m := &machine{vm: js.New(), functions: map[*compiled]js.Callable{}, costs: map[string]int{}, fired: make(chan struct{}, 1)}
	m.vm.SetMaxCallStackSize(callsMax)
	m.vm.SetTimeSource(func() time.Time { return m.now })
	m.vm.SetRandSource(m.random)
	m.timer = time.AfterFunc(time.Hour, m.fire)
	m.timer.Stop()
	tools := m.vm.NewObject()
	for name, f := range map[string]any{"stringify": m.stringify, "expressionCost": m.cost, "base64": m.base64, "unbase64": m.unbase64} {
		if err := tools.Set(name, f); err != nil {
			return nil, fmt.Errorf("preparing a machine: %w", err)
		}
	}
	var results [2]js.Value
	for i, p := range programs {
		v, err := m.vm.RunProgram(p)
		if err != nil {
			return nil, fmt.Errorf("preparing a machine: %w", err)
		}
		set, _ := js.AssertFunction(v)
		if results[i], err = set(js.Undefined(), tools); err != nil {
			return nil, fmt.Errorf("preparing a machine: %w", err)
		}
	}
	primitive, _ := js.AssertFunction(results[0])
	m.tools = tools
	m.intrinsic = []js.Value{m.vm.ToValue(m.limit(primitive)), m.vm.ToValue(m.limitText), results[1], tools.Get("tbel")}
	return m, nil
}

// random is the next number of splitmix64.
func (m *machine) random() float64 {
	m.chance += 0x9e3779b97f4a7c15
	z := m.chance
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return float64((z^z>>31)>>11) / (1 << 53)
}

var errTime = errors.New("the time is over")

func (m *machine) fire() {
	m.vm.Interrupt(errTime)
	m.fired <- struct{}{}
}

// watched does something that the watchdog may end.
func (m *machine) watched(budget time.Duration, do func()) {
	m.timer.Reset(budget)
	defer func() {
		if !m.timer.Stop() {
			<-m.fired
			m.vm.ClearInterrupt()
			if err := m.tools.Set("depth", 0); err != nil { // an interrupt runs no finally
				panic(err)
			}
		}
	}()
	do()
}
