package engine

import (
	"time"

	"callchain/engine/bus"
	"callchain/engine/observe"
	"callchain/engine/rpc"
	"callchain/engine/step"
	"callchain/engine/submit"
	"callchain/transports"

	"github.com/prometheus/client_golang/prometheus"
)

// Ready lists why the engine is not ready. It is empty when the node's partitions are loaded and its services answer.
func (e *Engine) Ready() []string {
	why := e.problems()
	if s := e.status.Load(); s.Loading != "" {
		why = append(why, s.Loading)
	}
	return why
}

// problems are why no new call is taken. Loading partitions is none: their commands wait in the inbox, or go to other nodes.
func (e *Engine) problems() (why []string) {
	unfit := ""
	if e.members != nil {
		unfit = e.members.Unfit()
	}
	switch s := e.status.Load(); {
	case unfit != "":
		why = append(why, "this node owns nothing: "+unfit)
	case s.Problem != "":
		why = append(why, s.Problem)
	}
	if err := e.Inbox.Err(); err != nil {
		why = append(why, err.Error())
	}
	return why
}

// ageHere is how long the oldest command of a lane has been waiting here to be stored.
func (e *Engine) ageHere(lane bus.Lane) time.Duration {
	since := rpc.Instant(e.oldest[lane].Load())
	if p, ok := e.Inbox.(bus.Peeker); ok {
		if m, ok := p.First(lane); ok {
			if cmd, ok := m.Value.(step.Command); ok && (since == 0 || cmd.Occurred < since) {
				since = cmd.Occurred
			}
		}
	}
	if since == 0 {
		return 0
	}
	return max(0, time.Since(since.Time()))
}

// age is the age of the oldest command of a lane that waits for the owner of a partition.
func (e *Engine) age(partition int32, lane bus.Lane) time.Duration {
	if e.members == nil || e.sender.Owned.Has(partition) {
		return e.ageHere(lane)
	}
	return e.members.OwnerAge(partition, lane)
}

// overloaded reports whether the owner of a partition is so far behind that new calls are refused.
func (e *Engine) overloaded(partition int32) bool {
	return e.age(partition, bus.RPC) > submit.OldestMost
}

// Overloaded reports whether the owners of all partitions are so far behind that no new call would be taken. It is cheap, so that calls can be
// refused before any work is done for them.
func (e *Engine) Overloaded() bool {
	if len(e.problems()) > 0 {
		return false // Call returns the reason
	}
	if e.members == nil {
		return e.ageHere(bus.RPC) > submit.OldestMost
	}
	for p := range e.config.Partitions {
		if !e.overloaded(p) {
			return false
		}
	}
	return true
}

// measure registers the gauges that are computed when metrics are collected.
func (e *Engine) measure() {
	m := e.Metrics
	for lane := range bus.Lanes {
		labels := prometheus.Labels{"lane": observe.LaneName(lane)}
		m.Read("inbox_waiting", "Commands that wait in this process to be taken by their owner.", labels, func() float64 { return float64(e.Inbox.Len(lane)) })
		m.Read("inbox_oldest_seconds", "How long the oldest command waits that is not committed yet.", labels, func() float64 { return e.ageHere(lane).Seconds() })
	}
	for _, transport := range transports.Names() {
		m.Read("sessions", "Connections of devices, by transport.", prometheus.Labels{"transport": transport}, func() float64 { return float64(e.delivery.Count(transport)) })
	}
	m.Read("partitions", "Partitions of the installation.", nil, func() float64 { return float64(e.config.Partitions) })
	m.Read("partitions_owned", "Partitions that this node owns.", nil, func() float64 { return float64(len(e.sender.Owned.Claims())) })
	m.Read("nodes", "Nodes that are known to live, this one too.", nil, func() float64 {
		if e.members == nil {
			return 1
		}
		return float64(e.members.Nodes())
	})
	m.Read("feature_level", "The newest feature level that all live nodes have.", nil, func() float64 { return float64(e.Level()) })
	m.Read("waiting_callers", "Calls with a waiting caller.", nil, func() float64 { return float64(e.callers.Len()) })
	m.Read("ready", "1 if the engine serves, 0 if it does not.", nil, func() float64 {
		if len(e.Ready()) > 0 {
			return 0
		}
		return 1
	})
	m.Read("relay_waiting_events", "Committed events that are not published yet.", nil, func() float64 {
		if e.relay == nil {
			return 0
		}
		return float64(e.relay.Lag())
	})
}
