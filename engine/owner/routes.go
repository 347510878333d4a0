package owner

import (
	"slices"

	"callchain/engine/cluster"
	"callchain/engine/rpc"
	"callchain/engine/step"

	"github.com/google/uuid"
)

// route finds the processes for the effects of a step: the one with the connection, those with callers. It must run before the step's result is applied,
// which removes what it looks at. Without other processes, everything concerns this one.
func (pre *presence) route(cmd *step.Command, d *device, effects []step.Effect) []Effect {
	if len(effects) == 0 {
		return nil
	}
	out := make([]Effect, len(effects))
	if !pre.config.Shared {
		return out
	}
	for i, e := range effects {
		switch do := e.(type) {
		case step.Deliver:
			out[i].To = pre.homeOf(cmd, d, do.Session.ID)
			if do.Call.Oneway {
				out[i].Callers = pre.callersElsewhere(cmd, do.Call.ID)
			}
		case step.NotifyCallers:
			out[i].To, out[i].Content = pre.callersOf(cmd, d.partition, do.Call), contentOf(cmd, d, do.Call)
		case step.Respond:
			out[i].To = pre.homeOfCall(cmd, d, &do)
		case step.CloseSession:
			out[i].To = pre.homeOf(cmd, d, do.Session)
		case step.GiveAttributes:
			out[i].To = pre.homeOf(cmd, d, do.Session)
		case step.PushAttributes:
			out[i].To = pre.homeOf(cmd, d, do.Session)
		}
	}
	return out
}

// rememberSender notes which process waits for the end of an open call, or holds the secondary session on which a device made one.
func (pre *presence) rememberSender(cmd *step.Command, d *device) {
	switch do := cmd.Do.(type) {
	case step.Call:
		if c := pre.tables.calls[do.ID]; c != nil {
			pre.awaitedBy(c, cmd.Waiter.Node)
		}
	case step.DeviceCall:
		if c := pre.tables.calls[do.ID]; c != nil && do.Session != d.state.Session.ID {
			c.home = cmd.Waiter.Node
		}
	}
}

// rememberHome notes which process holds the live session of a device.
func (pre *presence) rememberHome(cmd *step.Command, d *device, events []step.Event) {
	for i := range events {
		switch f := events[i].Event.Fact.(type) {
		case rpc.SessionOpened:
			d.home = pre.processOf(cmd)
			pre.addUnconfirmed(d, f.Session)
		case rpc.SessionClosed:
			if d.state.Session.ID == f.Session {
				d.home = ""
			}
		}
	}
}

// processOf is the process that a Connect came from.
func (pre *presence) processOf(cmd *step.Command) string {
	if r, ok := cmd.Do.(step.RPC); ok {
		if c, ok := r.Do.(rpc.Connect); ok && c.Process != "" {
			return cluster.Process(c.Node, c.Process)
		}
	}
	return pre.config.Process
}

// homeOf is the process that holds a session, or all live processes if it is unknown.
func (pre *presence) homeOf(cmd *step.Command, d *device, session uuid.UUID) []string {
	if d.state.Session.ID == session && d.home != "" {
		return []string{d.home}
	}
	if r, ok := cmd.Do.(step.RPC); ok {
		if c, ok := r.Do.(rpc.Connect); ok && c.Session == session {
			return []string{pre.processOf(cmd)}
		}
	}
	if ask, ok := cmd.Do.(step.AskAttributes); ok && ask.Session == session && cmd.Waiter.Node != "" {
		return []string{cmd.Waiter.Node}
	}
	return append(slices.Clone(pre.peers.live), pre.config.Process)
}

// homeOfCall is the process that holds the session on which a device made a call.
func (pre *presence) homeOfCall(cmd *step.Command, d *device, do *step.Respond) []string {
	if c := pre.tables.calls[do.Call]; c != nil && c.home != "" {
		return []string{c.home}
	}
	if call, ok := cmd.Do.(step.DeviceCall); ok && call.ID == do.Call && do.Session != d.state.Session.ID && cmd.Waiter.Node != "" {
		return []string{cmd.Waiter.Node}
	}
	return pre.homeOf(cmd, d, do.Session)
}

// callersElsewhere are the other processes in which callers wait for a call, the sender of the command too.
func (pre *presence) callersElsewhere(cmd *step.Command, call uuid.UUID) (out []string) {
	if c := pre.tables.calls[call]; c != nil {
		out = append(out, c.callers...)
	}
	sender := cmd.Waiter.Node
	if asked, ok := cmd.Do.(step.Call); ok && asked.ID == call && sender != "" && sender != pre.config.Process && !slices.Contains(out, sender) {
		out = append(out, sender)
	}
	return out
}

// callersOf are the processes with callers of a call, and this one. Processes that have not reported their callers yet are included.
func (pre *presence) callersOf(cmd *step.Command, partition int32, call uuid.UUID) []string {
	to := append([]string{pre.config.Process}, pre.callersElsewhere(cmd, call)...)
	if b := pre.parts[partition].barrier; b != nil {
		for _, p := range b.waiting {
			if !slices.Contains(to, p) {
				to = append(to, p)
			}
		}
	}
	return to
}

// contentOf is the digest of an open call, or of the one that a command asks for. By it a caller recognizes its call when the owner died before it confirmed the
// call.
func contentOf(cmd *step.Command, d *device, call uuid.UUID) []byte {
	if asked, ok := cmd.Do.(step.Call); ok && asked.ID == call {
		return slices.Clone(asked.Content[:])
	}
	if c := d.state.Find(call); c != nil {
		return slices.Clone(c.Content[:])
	}
	return nil
}

// senderOf is the process that a command came from; nil for this one.
func (pre *presence) senderOf(cmd *step.Command) []string {
	if !pre.config.Shared || cmd.Waiter.Node == "" || cmd.Waiter.Node == pre.config.Process {
		return nil
	}
	return []string{cmd.Waiter.Node}
}
