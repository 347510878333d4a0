package sim

import (
	"slices"
	"time"

	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/transports"

	"github.com/google/uuid"
)

// device is one at the other end of a bad line.
type device struct {
	w         *world
	number    int
	id        uuid.UUID
	partition int32
	session   *session // nil: not connected
	silent    bool     // never answers
	deaf      bool     // never acknowledges
	slow      time.Duration
}

func newDevice(w *world, number int) *device {
	d := &device{w: w, number: number, id: w.id(), partition: int32(number % partitions), silent: w.chance(15), deaf: w.chance(15), slow: 1 + w.within(12*time.Second)}
	w.registry.add(d.id, d.partition)
	return d
}

// connect opens a session with some process, which the line will cut some time.
func (d *device) connect() {
	p := d.w.some()
	if p.frozen || d.session != nil {
		d.again()
		return
	}
	s := &session{id: d.w.id(), device: d, process: p, since: p.now(), given: map[attempt]bool{}}
	d.session, p.sessions[s.id] = s, s
	d.w.log("device %d connects to %s as %.8s", d.number, p.name, s.id)
	p.put(d.id, d.partition, false, step.RPC{Do: rpc.Connect{Session: s.id, Transport: transports.MQTT, Node: p.node, Process: p.run}}, func(err error) {
		if err != nil {
			d.loseIf(s, "connecting: "+err.Error())
			return
		}
		d.subscribe(s, 5)
	})
	if d.w.chance(70) {
		d.w.after(d.w.within(2*time.Minute), func() { d.loseIf(s, "the line is cut") })
	}
}

// subscribe makes a session take calls. A new owner may not know it yet.
func (d *device) subscribe(s *session, tries int) {
	if d.session != s {
		return
	}
	s.subscribed = true
	s.process.put(d.id, d.partition, true, step.RPC{Do: rpc.Subscribe{Session: s.id}}, func(err error) {
		switch {
		case err == nil || d.session != s:
		case tries == 0:
			d.loseIf(s, "subscribing: "+err.Error())
		default:
			for _, do := range s.sessionReport()[:1] {
				s.process.put(d.id, d.partition, true, step.RPC{Do: do}, nil)
			}
			d.subscribe(s, tries-1)
		}
	})
}

func (d *device) loseIf(s *session, why string) {
	if d.session == s {
		d.lose(why)
	}
}

// lose ends the session; its process reports that, if it lives.
func (d *device) lose(why string) {
	s := d.session
	d.session = nil
	delete(s.process.sessions, s.id)
	d.w.log("device %d: %s", d.number, why)
	s.process.after(d.w.within(100*time.Millisecond), func() {
		s.process.put(d.id, d.partition, true, step.RPC{Do: rpc.Disconnect{Session: s.id, Why: "closed"}}, nil)
	})
	d.again()
}

// again connects some time later.
func (d *device) again() {
	longest := 20 * time.Second
	if d.w.calm() {
		longest = 2 * time.Second
	}
	d.w.after(d.w.within(longest), func() {
		if d.session == nil {
			d.connect()
		}
	})
}

// receive takes a command; its acknowledgement and answers travel back late, twice, in any order.
func (d *device) receive(s *session, o rpc.Delivery) {
	if d.session != s {
		return
	}
	w := d.w
	w.promises.delivered(s, o)
	ack := w.chance(60)
	w.after(w.within(50*time.Millisecond), func() {
		d.say(s, "written", rpc.Written{Session: s.id, Call: o.Call.ID, Attempt: o.Call.Attempt, Ack: ack})
	})
	if ack && !d.deaf {
		w.after(w.within(d.slow), func() {
			d.say(s, "acknowledgement", rpc.Acknowledged{Call: o.Call.ID, Evidence: transports.EvidencePuback})
		})
	}
	if d.silent || o.Call.Oneway && w.chance(80) {
		return
	}
	for range 1 + w.rng.IntN(6)/4 { // one in three answers twice
		w.after(w.within(d.slow), func() {
			d.say(s, "answer", rpc.Reply{Wire: o.Call.Wire, Response: rpc.NewPayload([]byte(o.Call.ID.String()))})
		})
	}
}

// say sends a message of the device, unless the line loses it.
func (d *device) say(s *session, what string, do rpc.Action) {
	switch {
	case !s.process.alive, d.session != s && what == "answer":
	case !d.w.calm() && d.w.chance(8):
		d.w.log("device %d: its %s is lost", d.number, what)
	default:
		s.process.put(d.id, d.partition, true, step.RPC{Do: do}, nil)
	}
}

// call is a call that a user asks for.
type call struct {
	id      uuid.UUID
	device  *device
	request rpc.Request
	offline bool
}

func (c *call) content() []byte { return slices.Clone(c.request.Content[:]) }

// caller is one who waits for a call at a process.
type caller struct {
	call     *call
	process  *process
	accepted bool
	since    rpc.Instant
}

// call asks for a call: a new one, or one that was asked for before.
func (w *world) call() {
	if w.chance(10) && len(w.calls) > 0 {
		w.calls[w.rng.IntN(len(w.calls))].ask()
		return
	}
	w.report.Calls++
	id := w.id()
	c := &call{id: id, device: w.devices[int(id[0])%len(w.devices)], offline: id[4]%8 == 0}
	c.request = rpc.Request{
		ID: id, Method: "m", Oneway: id[1]%3 == 0, Persistent: id[2]%2 == 0, Order: rpc.Order(id[3] % 4),
		Expires: w.now.Add(time.Second + w.within(time.Minute)), Content: [32]byte(append(id[:], id[:]...)),
	}
	c.request.Waiting = !c.request.Persistent
	w.calls = append(w.calls, c)
	c.ask()
	if w.chance(15) { // a flood of one caller
		for range 5 {
			w.after(w.within(time.Second), w.call)
		}
	}
}

// ask asks for the call at some process.
func (c *call) ask() {
	p := c.device.w.some()
	if p.frozen {
		return
	}
	c.device.w.log("user: call %.8s to device %d at %s, oneway %t, persistent %t, order %d, until %s", c.id, c.device.number, p.name, c.request.Oneway,
		c.request.Persistent, c.request.Order, time.Duration(c.request.Expires-began)*time.Microsecond)
	one := &caller{call: c, process: p, since: c.device.w.now}
	p.callers = append(p.callers, one)
	p.put(c.device.id, c.device.partition, false, step.Call{Request: c.request, FailOffline: c.offline, Chosen: true}, func(err error) {
		if one.accepted = err == nil; err != nil {
			one.leave()
		}
	})
}

// answer gives the caller its answer.
func (c *caller) answer(rpc.Phase) { c.leave() }

func (c *caller) leave() {
	c.process.callers = slices.DeleteFunc(c.process.callers, func(one *caller) bool { return one == c })
}

// cancelSome cancels or removes a call, whatever has become of it.
func (w *world) cancelSome() {
	if len(w.calls) == 0 {
		return
	}
	c, p := w.calls[w.rng.IntN(len(w.calls))], w.some()
	var do rpc.Action = rpc.Cancel{Call: c.id}
	if w.chance(50) {
		do = rpc.Remove{Call: c.id}
	}
	w.log("user: %T %.8s", do, c.id)
	p.put(c.device.id, c.device.partition, false, step.RPC{Do: do}, func(error) {})
}
