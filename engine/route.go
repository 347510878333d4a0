package engine

import (
	"slices"

	"callchain/engine/cluster"
	"callchain/engine/rpc"
	"callchain/engine/step"

	"github.com/google/uuid"
)

// routes finds out whom the effects of a step concern: the process that holds a connection, those whose callers wait. It is asked before the
// step's events are taken over, because they end what it looks at. Alone, everything concerns this process.
func (o *owner) routes(cmd step.Command, d Device, res step.Result) []effect {
	out := make([]effect, len(res.Effects))
	if o.e.group == nil {
		return out
	}
	if cmd.Waiter.Node != "" {
		o.noteSender(&cmd, res)
	}
	for i, e := range res.Effects {
		switch do := e.(type) {
		case step.Deliver:
			out[i].to = o.homeOf(&cmd, do.Session.ID)
			if do.Call.Oneway {
				out[i].callers = slices.Clone(o.callers[do.Call.ID])
			}
		case step.Settle:
			out[i].to, out[i].content = o.callersOf(d.Partition, &do), o.contentOf(&cmd, do.Call)
		case step.Respond:
			out[i].to = o.homeOf(&cmd, do.Session)
			delete(o.asides, do.Session)
		case step.CloseSession:
			out[i].to = o.homeOf(&cmd, do.Session)
		case step.GiveAttributes:
			out[i].to = o.homeOf(&cmd, do.Session)
		case step.PushAttributes:
			out[i].to = o.homeOf(&cmd, do.Session)
		}
	}
	o.noteHome(&cmd, res)
	return out
}

// noteSender keeps which process waits for the end of a call, or holds the connection aside on which a device made one.
func (o *owner) noteSender(cmd *step.Command, res step.Result) {
	switch do := cmd.Do.(type) {
	case step.Call:
		if res.Refusal == nil {
			o.waits(do.ID, cmd.Waiter.Node)
		}
	case step.DeviceCall:
		if dh := o.devices[cmd.Device]; res.Refusal == nil && (dh == nil || dh.session != do.Session) {
			o.asides[do.Session] = cmd.Waiter.Node
		}
	}
}

// noteHome keeps which process holds the live connection of a device.
func (o *owner) noteHome(cmd *step.Command, res step.Result) {
	dh := o.devices[cmd.Device]
	if dh == nil {
		return
	}
	for i := range res.Events {
		switch f := res.Events[i].Event.Fact.(type) {
		case rpc.SessionOpened:
			dh.session, dh.home = f.Session, o.processOf(cmd)
			o.doubt(cmd.Device, dh)
		case rpc.SessionClosed:
			if dh.session == f.Session {
				dh.session, dh.home = uuid.Nil, ""
			}
		}
	}
}

// processOf is the process that a Connect came from.
func (o *owner) processOf(cmd *step.Command) string {
	if r, ok := cmd.Do.(step.RPC); ok {
		if c, ok := r.Do.(rpc.Connect); ok && c.Process != "" {
			return cluster.Process(c.Node, c.Process)
		}
	}
	return o.e.incarnation
}

// homeOf is the process that holds a connection. If that is not known, it is for all who live to look.
func (o *owner) homeOf(cmd *step.Command, session uuid.UUID) []string {
	if dh := o.devices[cmd.Device]; dh != nil && dh.session == session && dh.home != "" {
		return []string{dh.home}
	}
	if home, ok := o.asides[session]; ok {
		return []string{home}
	}
	if r, ok := cmd.Do.(step.RPC); ok {
		if c, ok := r.Do.(rpc.Connect); ok && c.Session == session {
			return []string{o.processOf(cmd)}
		}
	}
	if ask, ok := cmd.Do.(step.AskAttributes); ok && ask.Session == session && cmd.Waiter.Node != "" {
		return []string{cmd.Waiter.Node}
	}
	return append(o.e.members.others(), o.e.incarnation)
}

// callersOf are the processes whose callers wait for a call, and this one. While the other nodes have not told of theirs, it may be any.
func (o *owner) callersOf(partition int32, do *step.Settle) []string {
	to := []string{o.e.incarnation}
	known := o.callers[do.Call]
	to = append(to, known...)
	delete(o.callers, do.Call)
	if u := o.parts[partition].unsure; u != nil {
		for _, p := range u.others {
			if !slices.Contains(to, p) {
				to = append(to, p)
			}
		}
	}
	return to
}

// contentOf is the digest of an open call, or of the one that a command asks for: by it, those know their call who were not told that it is accepted,
// because its owner died before.
func (o *owner) contentOf(cmd *step.Command, call uuid.UUID) []byte {
	if asked, ok := cmd.Do.(step.Call); ok && asked.ID == call {
		return slices.Clone(asked.Content[:])
	}
	d := o.state.Devices[cmd.Device]
	if c := d.Find(call); c != nil {
		return slices.Clone(c.Content[:])
	}
	return nil
}

// senderOf is the process that a command came from, and this one.
func (o *owner) senderOf(cmd *step.Command) []string {
	if o.e.group == nil || cmd.Waiter.Node == "" || cmd.Waiter.Node == o.e.incarnation {
		return nil
	}
	return []string{cmd.Waiter.Node}
}
