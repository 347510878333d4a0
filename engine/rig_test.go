package engine_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"callchain/chains"
	"callchain/engine"
	"callchain/engine/bus"
	"callchain/engine/bus/local"
	"callchain/engine/bus/memory"
	"callchain/engine/observe"
	"callchain/engine/owner"
	"callchain/engine/replay"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/engine/wire"
	"callchain/eventstore"
	"callchain/eventstore/memstore"
	"callchain/nodes"
	"callchain/nodes/builtin"
	"callchain/transports"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var tenant = named("tenant")

func named(name string) uuid.UUID { return uuid.NewSHA1(uuid.NameSpaceOID, []byte(name)) }

const rootChain = `
name: Root
nodes:
  - name: by type
    type: message type switch
    to:
      Post telemetry: store
      Post attributes: boom
      RPC Request to Device: send
  - name: store
    type: save time series
  - name: boom
    type: broken
  - name: send
    type: rpc call request
`

// rig is an engine in a synctest bubble: time stands still until everything waits.
type rig struct {
	t      *testing.T
	store  *memstore.Store
	inbox  bus.Inbox
	topics bus.Topics                              // may be nil; set before start
	most   int                                     // dead letters; 0: the default; set before start
	node   string                                  // its name
	group  bus.Group                               // nil: it is alone; set before start
	over   func(eventstore.Store) eventstore.Store // nil: the store as it is; set before start
	engine *engine.Engine
	chain  *chains.Program
	info   func(device uuid.UUID) step.Info
	gone   *sync.Map    // devices that were deleted
	asked  func() error // before the directory answers; may be nil

	directory engine.Directory // nil: one that has every device; set before start

	asking     sync.Mutex
	generation *atomic.Uint64
	unchecked  bool // the test has stored what cannot be folded
	stop       func() error

	measured *prometheus.Registry
}

// inBubble runs a test with an engine of its own over a fresh store, once for each kind of inbox.
func inBubble(t *testing.T, test func(*rig)) {
	t.Run("in process", func(t *testing.T) { bubble(t, func(t *testing.T) bus.Inbox { return local.New(waitMost) }, test) })
	t.Run("durable", func(t *testing.T) { bubble(t, func(t *testing.T) bus.Inbox { return durableInbox(t) }, test) })
}

const (
	partitions = 4
	waitMost   = 2_000 // commands a lane
)

// durable is a durable inbox, as Kafka's, of a single process.
type durable struct {
	bus.Inbox
	t       *testing.T
	cluster *memory.Cluster
	node    *memory.Node
}

func durableInbox(t *testing.T) *durable {
	c := memory.New(partitions, wire.Codec{})
	c.Most = waitMost
	t.Cleanup(c.Close)
	return (&durable{t: t, cluster: c}).Open()
}

// Open is the same inbox in another process: what nobody took is there, what was ephemeral is not.
func (d *durable) Open() *durable {
	if d.node != nil {
		d.node.Close()
	}
	n := d.cluster.Node("node")
	return &durable{n.Inbox(), d.t, d.cluster, n}
}

// Away lets the brokers go away, or come back.
func (d *durable) Away(away bool) { d.cluster.SetAway(away) }

// Recreate makes a lane's topic anew: what it had is gone.
func (d *durable) Recreate(lane bus.Lane) { d.cluster.Renew(lane) }

// Keep adds raw bytes to the inbox's topic, as another program would.
func (d *durable) Keep(lane bus.Lane, partition int32, value []byte) {
	d.cluster.Corrupt(lane, partition, value)
}

func bubble(t *testing.T, open func(*testing.T) bus.Inbox, test func(*rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, memstore.New(), open(t))
		test(r)
		if err := r.stop(); err != nil {
			t.Errorf("the engine ends with %v", err)
		}
		if !r.unchecked {
			r.rowsAreTheFold()
		}
	})
}

// rowsAreTheFold checks promise P3 on everything that a test stored.
func (r *rig) rowsAreTheFold() {
	r.t.Helper()
	_, err := replay.Check(context.Background(), r.store.Open(), replay.Options{}, func(d replay.Difference) { r.t.Error(d) })
	if err != nil {
		r.t.Error(err)
	}
}

func newRig(t *testing.T, store *memstore.Store, inbox bus.Inbox) *rig {
	r := unstarted(t, store, inbox)
	r.start()
	return r
}

func unstarted(t *testing.T, store *memstore.Store, inbox bus.Inbox) *rig {
	r := &rig{t: t, store: store, inbox: inbox, chain: compiled(t, rootChain), gone: new(sync.Map), generation: new(atomic.Uint64)}
	r.info = func(uuid.UUID) step.Info {
		return step.Info{Name: "d", Type: "default", Chain: r.chain, Settings: rpc.DefaultSettings()}
	}
	return r
}

// start runs an engine until stop.
func (r *rig) start() {
	r.run()
	synctest.Wait()
}

// run begins an engine, which ends by itself or with stop; stop may be called more than once.
func (r *rig) run() (ended <-chan struct{}) {
	r.measured = prometheus.NewRegistry()
	c := engine.DefaultConfig()
	c.Partitions, c.Tenant, c.Node = partitions, tenant, cmp.Or(r.node, c.Node)
	c.DeadLetters = cmp.Or(r.most, c.DeadLetters)
	r.engine = engine.New(c, engine.Deps{
		Store: r.seen(), Inbox: r.inbox, Directory: cmp.Or[engine.Directory](r.directory, directory{r}), Topics: r.topics, Group: r.group,
		Metrics: observe.NewMetrics(r.measured), Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	end := make(chan struct{})
	var err error
	go func() {
		defer close(end)
		err = r.engine.Run(ctx)
	}()
	r.stop = func() error {
		r.engine.Stop()
		cancel()
		<-end
		return err
	}
	return end
}

// seen is the store as the engine sees it.
func (r *rig) seen() eventstore.Store {
	if r.over == nil {
		return r.store
	}
	return r.over(r.store)
}

// again opens the store with another engine, as after a restart.
func (r *rig) again() *rig {
	r.t.Helper()
	if err := r.stop(); err != nil {
		r.t.Fatal(err)
	}
	next := newRig(r.t, r.store.Open(), opened(r.inbox))
	r.gone.Range(func(device, _ any) bool { next.gone.Store(device, nil); return true })
	r.stop = next.stop
	return next
}

// opened is the inbox as the next process finds it.
func opened(inbox bus.Inbox) bus.Inbox {
	if d, ok := inbox.(*durable); ok {
		return d.Open()
	}
	return local.New(waitMost)
}

type directory struct{ r *rig }

// Cached has all rows, unless a test looks at how they are read.
func (d directory) Cached(id uuid.UUID) (owner.Device, bool) { return d.row(id), d.r.asked == nil }

func (d directory) Device(_ context.Context, id uuid.UUID) (owner.Device, error) {
	if d.r.asked != nil {
		d.r.asking.Lock()
		defer d.r.asking.Unlock()
		if err := d.r.asked(); err != nil {
			return owner.Device{}, err
		}
	}
	return d.row(id), nil
}

func (d directory) row(id uuid.UUID) owner.Device {
	if _, gone := d.r.gone.Load(id); gone || id == named("nobody") {
		return owner.Device{ID: id, Deleted: true}
	}
	return owner.Device{ID: id, Tenant: tenant, Partition: int32(id[15]) % 4, Info: d.r.info(id)}
}

func (d directory) Chain(uuid.UUID) *chains.Program { return d.r.chain }

func (d directory) Version(context.Context, step.Version) (*chains.Program, error) {
	return d.r.chain, nil
}

// Generation changes all the time: what is known of a device is read anew for each command.
func (d directory) Generation() uint64 { return d.r.generation.Add(1) }

// broken is a node that panics.
type broken struct{}

func (broken) Process(nodes.Msg) nodes.Out { panic("this node is broken") }

func compiled(t *testing.T, yaml string) *chains.Program {
	t.Helper()
	kinds := nodes.NewRegistry(append(builtin.Registry().Kinds(), nodes.Define(nodes.Spec{
		Type: "broken", Category: nodes.Action, Summary: "Panics.", Relations: []string{nodes.Success}, Terminal: true, Example: `{}`,
	}, func(nodes.EmptyConfig) (nodes.Node, error) { return broken{}, nil }))...)
	def, err := chains.Parse("chain.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	p, err := chains.Compile(def, kinds, named("chain"), 1)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// device is a connected device: a link that notes what it is given.
type device struct {
	r       *rig
	id      uuid.UUID
	session uuid.UUID

	mu      sync.Mutex
	got     []transports.Command
	answers []transports.Response
	closed  []transports.Reason
	given   []transports.AttributesAnswer
	pushed  []map[string][]byte
}

// connect connects a device and lets it subscribe.
func (r *rig) connect(name, session string) *device {
	r.t.Helper()
	return r.connectWith(name, session, 0, nil)
}

// connectWith does so with a version of its credentials, and expects an outcome.
func (r *rig) connectWith(name, session string, credentials int64, want error) *device {
	r.t.Helper()
	d := &device{r: r, id: named(name), session: named(session)}
	in := r.engine.Inbound()
	in.Connect(transports.Session{
		ID: d.session, Identity: transports.Identity{Tenant: tenant, Device: d.id, Partition: int32(d.id[15]) % 4, Credentials: credentials},
		Transport: "mqtt", Link: d,
	}, r.mustBe("connect", want))
	if want == nil {
		in.Subscribe(d.session, r.mustBe("subscribe", nil))
	}
	synctest.Wait()
	return d
}

// begin connects a device and does not wait for the outcome.
func (r *rig) begin(name, session string) {
	r.engine.Inbound().Connect(transports.Session{
		ID: named(session), Identity: transports.Identity{Tenant: tenant, Device: named(name), Partition: int32(named(name)[15]) % 4},
		Transport: "mqtt", Link: &device{r: r},
	}, nil)
	synctest.Wait()
}

// mustBe is a done that expects one outcome, once.
func (r *rig) mustBe(what string, want error) func(error) {
	var once sync.Once
	return func(err error) {
		first := false
		once.Do(func() { first = true })
		if !first {
			r.t.Errorf("%s: done was called twice", what)
		}
		if !errors.Is(err, want) {
			r.t.Errorf("%s: done got %v, want %v", what, err, want)
		}
	}
}

// unlessDurable is the result for a device whose command its owner refuses: nil if the inbox had stored the command by then.
func (r *rig) unlessDurable(err error) error {
	if r.inbox.Durable() {
		return nil
	}
	return err
}

func (d *device) Send(c transports.Command) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.got = append(d.got, c)
}

func (d *device) Respond(a transports.Response) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answers = append(d.answers, a)
}

func (d *device) AnswerAttributes(a transports.AttributesAnswer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.given = append(d.given, a)
}

func (d *device) PushAttributes(changed map[string][]byte, _ []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pushed = append(d.pushed, changed)
}

func (d *device) Close(why transports.Reason) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = append(d.closed, why)
}

// commands waits until nothing moves any more and takes what the device was sent.
func (d *device) commands() []transports.Command {
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	got := d.got
	d.got = nil
	return got
}

// one is the single command that the device was sent.
func (d *device) one() transports.Command {
	d.r.t.Helper()
	got := d.commands()
	if len(got) != 1 {
		d.r.t.Fatalf("the device was sent %d commands, want 1: %+v", len(got), got)
	}
	return got[0]
}

func (d *device) written(c transports.Command) {
	d.r.engine.Inbound().Written(d.session, c.Call, c.Attempt, time.Now(), true)
}

func (d *device) reply(c transports.Command, body string) {
	d.r.engine.Inbound().Reply(d.session, c.Wire, []byte(body), d.r.mustBe("reply", nil))
}

// caller is a call with a waiting caller.
type caller struct {
	r      *rig
	result engine.CallResult
	err    error
	ended  chan struct{}
}

// call asks for a call of a minute in the background.
func (r *rig) call(deviceName string, change func(*engine.CallRequest)) *caller {
	req := engine.CallRequest{Tenant: tenant, Device: named(deviceName), Method: "reboot", Expires: time.Now().Add(time.Minute), Actor: "test"}
	if change != nil {
		change(&req)
	}
	c := &caller{r: r, ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		c.result, c.err = r.engine.Call(context.Background(), req)
	}()
	synctest.Wait()
	return c
}

// waits reports whether the caller has no answer yet.
func (c *caller) waits() bool {
	synctest.Wait()
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

// outcome is the caller's result: phase, code and response, or the error.
func (c *caller) outcome() string {
	if c.waits() {
		return "waits"
	}
	if c.err != nil {
		return c.err.Error()
	}
	return fmt.Sprintf("%s %s %s", c.result.Phase, c.result.Code, c.result.Response.Bytes)
}

func (c *caller) want(outcome string) {
	c.r.t.Helper()
	if got := c.outcome(); got != outcome {
		c.r.t.Errorf("the caller got %q, want %q", got, outcome)
	}
}

// types are the stored facts of a call.
func (r *rig) types(call uuid.UUID) []string {
	r.t.Helper()
	events, err := r.store.Open().Stream(context.Background(), "rpc/"+tenant.String()+"/"+call.String(), 0, 100)
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, e := range events {
		out = append(out, e.Type)
	}
	return out
}

func (r *rig) wantTypes(call uuid.UUID, want ...string) {
	r.t.Helper()
	if got := r.types(call); fmt.Sprint(got) != fmt.Sprint(want) {
		r.t.Errorf("stored facts %v, want %v", got, want)
	}
}

// holds reports whether a batch has an event of a type.
func holds(b eventstore.Batch, eventType string) bool {
	for i := range b.Partitions {
		for j := range b.Partitions[i].Events {
			if b.Partitions[i].Events[j].Type == eventType {
				return true
			}
		}
	}
	return false
}

var _ bus.Inbox = (*local.Inbox)(nil)

// pass lets the bubble's time go on.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
