package coap

import "sync/atomic"

// Stats are counters since the server began, for the metrics of the shell; Endpoints, Sessions and Observers are what is there now.
type Stats struct {
	Endpoints       int64 // peers remembered
	Sessions        int64 // sessions in the engine, also of devices that only send
	Observers       int64 // observations of calls and of attributes
	PacketsIn       int64 // packets that could be decoded
	PacketsOut      int64
	Malformed       int64 // packets that could not be decoded, and sockets' errors
	Refused         int64 // requests with a token that belongs to nobody
	Dropped         int64 // packets of peers that send more than the server works on, or that there is no room for
	Duplicates      int64 // repeated messages that were not done again
	Retransmissions int64
	Unacknowledged  int64 // messages given up because no ACK came
	Resets          int64 // messages that the peer answered with a RST
	DataUnanswered  int64 // telemetry and attributes answered 5.03
	PayloadsRefused int64 // requests answered with a client error or 5.00
	CommandsWritten int64
	CommandsRefused int64 // reported with Inbound.Failed
	MessagesDropped int64 // attribute updates that did not fit the queue
}

// counters are Stats while they change.
type counters struct {
	endpoints, sessions, observers                      atomic.Int64
	packetsIn, packetsOut, malformed, refused, dropped  atomic.Int64
	duplicates, retransmissions, unacknowledged, resets atomic.Int64
	dataUnanswered, payloadsRefused                     atomic.Int64
	commandsWritten, commandsRefused, messagesDropped   atomic.Int64
}

// Stats reads the counters; each is exact, together they may be of slightly different moments.
func (s *Server) Stats() Stats {
	c := &s.count
	return Stats{
		Endpoints:       c.endpoints.Load(),
		Sessions:        c.sessions.Load(),
		Observers:       c.observers.Load(),
		PacketsIn:       c.packetsIn.Load(),
		PacketsOut:      c.packetsOut.Load(),
		Malformed:       c.malformed.Load(),
		Refused:         c.refused.Load(),
		Dropped:         c.dropped.Load(),
		Duplicates:      c.duplicates.Load(),
		Retransmissions: c.retransmissions.Load(),
		Unacknowledged:  c.unacknowledged.Load(),
		Resets:          c.resets.Load(),
		DataUnanswered:  c.dataUnanswered.Load(),
		PayloadsRefused: c.payloadsRefused.Load(),
		CommandsWritten: c.commandsWritten.Load(),
		CommandsRefused: c.commandsRefused.Load(),
		MessagesDropped: c.messagesDropped.Load(),
	}
}
