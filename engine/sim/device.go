package sim

import (
	"time"

	"callchain/engine/rpc"
	"callchain/engine/step"

	"github.com/google/uuid"
)

// device is one at the other end of a bad line.
type device struct {
	w       *world
	number  int
	id      uuid.UUID
	session uuid.UUID // uuid.Nil: not connected
	silent  bool      // never answers
	deaf    bool      // never acknowledges
	slow    time.Duration
}

func newDevice(w *world, number int) *device {
	return &device{w: w, number: number, id: w.id(), silent: w.chance(15), deaf: w.chance(15), slow: 1 + w.within(12*time.Second)}
}

// connect opens a session that the line will cut some time.
func (d *device) connect() {
	d.session = d.w.id()
	session := d.session
	d.w.tell("device %d connects as %.8s", d.number, session)
	d.w.owner.put(d.id, step.RPC{Do: rpc.Connect{Session: session}})
	d.w.owner.put(d.id, step.RPC{Do: rpc.Subscribe{Session: session}})
	d.w.after(d.w.within(2*time.Minute), func() {
		if d.session == session {
			d.cut("the line is cut")
		}
	})
}

// cut ends the session on the device's side; the owner hears of it, or not, or later.
func (d *device) cut(why string) {
	session := d.session
	d.session = uuid.Nil
	d.w.tell("device %d: %s", d.number, why)
	if d.w.chance(80) {
		d.w.after(d.w.within(5*time.Second), func() {
			d.w.owner.put(d.id, step.RPC{Do: rpc.Disconnect{Session: session, Why: "closed"}})
		})
	}
	if d.w.now < began.Add(horizon) {
		d.w.after(d.w.within(20*time.Second), func() {
			if d.session == uuid.Nil {
				d.connect()
			}
		})
	}
}

// receive takes a command off the line; acknowledgement and answers travel back, late, twice, in any order.
func (d *device) receive(o rpc.Delivery) {
	if d.session != o.Session.ID {
		return
	}
	w := d.w
	w.promise.delivered(o)
	ack := w.chance(60)
	w.after(w.within(50*time.Millisecond), func() { // the transport's report; it knows the session, not whether that still lives
		d.say("written", step.RPC{Do: rpc.Written{Session: o.Session.ID, Call: o.Call.ID, Attempt: o.Call.Attempt, Ack: ack}})
	})
	if ack && !d.deaf {
		w.after(w.within(d.slow), func() { d.say("ack", step.RPC{Do: rpc.Acknowledged{Call: o.Call.ID, Evidence: "puback"}}) })
	}
	if d.silent || o.Call.Oneway && w.chance(80) {
		return
	}
	for range 1 + w.rng.IntN(6)/4 { // one in three answers twice
		w.after(w.within(d.slow), func() {
			late := uuid.Nil
			if w.owner.hasEnded(o.Call.ID) {
				late = o.Call.ID
			}
			d.say("reply", step.RPC{Do: rpc.Reply{Wire: o.Call.Wire, Response: rpc.NewPayload([]byte(o.Call.ID.String())), Late: late}})
		})
	}
}

// say puts a message of the device into the inbox, unless the line loses it.
func (d *device) say(what string, do step.Action) {
	if d.w.chance(10) {
		d.w.tell("device %d: its %s is lost", d.number, what)
		return
	}
	d.w.owner.put(d.id, do)
}
