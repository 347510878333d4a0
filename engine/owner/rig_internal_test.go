package owner

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"callchain/chains"
	"callchain/engine/bus"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/eventstore"
	"callchain/nodes/builtin"

	"github.com/google/uuid"
)

func named(name string) uuid.UUID { return uuid.NewSHA1(uuid.NameSpaceOID, []byte(name)) }

var tenant = named("tenant")

const began = rpc.Instant(1_800_000_000_000_000)

// rig drives an owner of two partitions. It stores every append and answers every read at once, unless a test says otherwise.
type rig struct {
	t     testing.TB
	o     *Owner
	now   rpc.Instant
	count int // of ids
	chain *Program
	last  rpc.Instant // time of the last event stored before

	opened []string // streams that were opened since the watermark, by what was stored before
	marks  []int64  // Indexed of every checkpoint that was stored

	answer      func(*Read) *Answer // nil: the device exists and has nothing
	store       func(*Batch) error  // nil: it is stored
	reads       []Read
	notices     []Notice
	events      []eventstore.Event
	rows        []eventstore.Row
	completions []error // completions
	effects     []Effect
}

const straight = `
name: Straight
nodes:
  - name: by type
    type: message type switch
    to:
      RPC Request to Device: send
  - name: send
    type: rpc call request
`

func newRig(t testing.TB, change ...func(*rig, *Config)) *rig {
	t.Helper()
	r := &rig{t: t, now: began}
	def, err := chains.Parse("rig.yaml", []byte(straight))
	if err != nil {
		t.Fatal(err)
	}
	if r.chain, err = chains.Compile(def, builtin.Registry(), named("chain"), 1); err != nil {
		t.Fatal(err)
	}
	c := Config{
		Process: "node/1", Partitions: 2, BatchEvents: 400, Linger: 50 * time.Millisecond, DeadLetters: 100, Tenant: tenant,
		NewID: r.id, Chain: func(uuid.UUID) *Program { return r.chain }, Stack: func() []byte { return nil },
	}
	for _, f := range change {
		f(r, &c)
	}
	r.o = New(c)
	r.o.Assign(r.now, []int32{0, 1})
	r.do()
	return r
}

func (r *rig) id() uuid.UUID {
	r.count++
	return named(fmt.Sprint("id", r.count))
}

// do works off Ready until nothing is left to do now.
func (r *rig) do() {
	r.t.Helper()
	for range 1_000 {
		ready := r.o.Ready(r.now)
		r.notices = append(r.notices, ready.Notices...)
		for i := range ready.Completed {
			r.complete(&ready.Completed[i])
		}
		for i := range ready.Release {
			r.release(&ready.Release[i])
		}
		if len(ready.Claim) > 0 {
			r.claim(ready.Claim)
		}
		if ready.Append != nil {
			r.append(ready.Append)
		}
		for i := range ready.Reads {
			r.read(&ready.Reads[i])
		}
		if ready.Append == nil && len(ready.Claim) == 0 && len(ready.Reads) == 0 {
			return
		}
	}
	r.t.Fatal("the owner works for ever")
}

func (r *rig) claim(claims []Claim) {
	c := &Claimed{}
	for _, one := range claims {
		c.Partitions = append(c.Partitions, one.Partition)
		cp := eventstore.Checkpoint{Partition: one.Partition, Epoch: 1, Seq: int64(len(r.opened))}
		c.Recovered = append(c.Recovered, &Recovered{Checkpoint: cp, LastAt: r.last, Opened: r.opened})
	}
	r.o.Claimed(r.now, c)
}

func (r *rig) append(b *Batch) {
	if r.store != nil {
		if err := r.store(b); err != nil {
			r.o.Advance(r.now, nil, err)
			return
		}
	}
	for i := range b.Store.Partitions {
		r.events = append(r.events, b.Store.Partitions[i].Events...)
		r.rows = append(r.rows, b.Store.Partitions[i].Rows...)
		r.marks = append(r.marks, b.Store.Partitions[i].Next.Indexed)
	}
	out := b.Release(nil)
	r.release(&out)
	r.o.Advance(r.now, nil, nil)
}

func (r *rig) release(out *Release) {
	out.Completions(r.complete)
	out.Effects(func(fx *Effect) { r.effects = append(r.effects, *fx) })
}

func (r *rig) complete(c *Completion) {
	if r.completions = append(r.completions, c.Err); c.Done != nil {
		c.Done(c.Err)
	}
}

var errAway = errors.New("the store is away")

func (r *rig) read(read *Read) {
	r.reads = append(r.reads, *read)
	if r.answer != nil {
		if a := r.answer(read); a != nil {
			a.ID = read.ID
			r.o.Answered(r.now, a)
			return
		}
	}
	a := &Answer{ID: read.ID, Bodies: map[uuid.UUID]rpc.Body{}}
	if read.Registry {
		a.Registry = r.row(read.Device)
	}
	r.o.Answered(r.now, a)
}

func (r *rig) row(device uuid.UUID) *Device {
	return &Device{ID: device, Tenant: tenant, Partition: partitionOf(device), Info: step.Info{Name: "d", Type: "t", Chain: r.chain, Settings: rpc.DefaultSettings()}}
}

func partitionOf(device uuid.UUID) int32 { return int32(device[15] % 2) }

// put gives the owner commands of a device, as from an inbox in the process.
func (r *rig) put(device uuid.UUID, actions ...step.Action) {
	r.t.Helper()
	r.o.Take(r.now, Arrived{RPC: r.messages(device, bus.RPC, actions...)})
	r.do()
}

func (r *rig) messages(device uuid.UUID, lane bus.Lane, actions ...step.Action) (out []bus.Message) {
	for _, do := range actions {
		cmd := step.Command{Meta: rpc.Meta{Occurred: r.now, Actor: "test", Cause: "mqtt"}, Device: device, Do: do}
		out = append(out, bus.Message{Partition: partitionOf(device), Lane: lane, Key: device, Value: cmd})
	}
	return out
}

// pass lets time pass.
func (r *rig) pass(d time.Duration) {
	r.t.Helper()
	r.now = r.now.Add(d)
	r.o.Take(r.now, Arrived{})
	r.do()
}

// call is a call of an hour.
func (r *rig) call(persistent bool) step.Call {
	id := r.id()
	return step.Call{Request: rpc.Request{
		ID: id, Method: "m", Persistent: persistent, Waiting: !persistent, Expires: r.now.Add(time.Hour), Content: [32]byte(append(id[:], id[:]...)),
	}}
}

func session(device uuid.UUID) []step.Action {
	id := uuid.NewSHA1(device, []byte("session"))
	return []step.Action{step.RPC{Do: rpc.Connect{Session: id, Transport: "mqtt"}}, step.RPC{Do: rpc.Subscribe{Session: id}}}
}

func reply(wireID int32) step.Action {
	return step.RPC{Do: rpc.Reply{Wire: wireID, Response: rpc.NewPayload([]byte(`1`))}}
}

// counted are the notices of a kind.
func (r *rig) counted(kind NoticeKind) (n int) {
	for i := range r.notices {
		if r.notices[i].Kind == kind {
			n++
		}
	}
	return n
}

// types are the types of the events of a call.
func (r *rig) types(call uuid.UUID) (out []string) {
	for i := range r.events {
		if e := &r.events[i]; len(e.Stream) > 36 && e.Stream[len(e.Stream)-36:] == call.String() {
			out = append(out, e.Type)
		}
	}
	return out
}
