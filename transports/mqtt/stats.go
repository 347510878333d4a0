package mqtt

import "sync/atomic"

// Stats are counters since the server began, for the metrics of the shell; Connections and Sessions are what is open now.
type Stats struct {
	Connections      int64 // open sockets
	Sessions         int64 // of them with an accepted CONNECT
	Accepted         int64 // sockets ever accepted
	Refused          int64 // CONNECTs refused and sockets over MaxConnections
	PacketsIn        int64
	PacketsOut       int64
	BytesIn          int64
	BytesOut         int64
	DataDropped      int64 // QoS 0 telemetry and attributes over the bound or not taken
	DataUnanswered   int64 // QoS 1 messages left unacknowledged
	CommandsWritten  int64
	CommandsRefused  int64 // reported with Inbound.Failed
	MessagesDropped  int64 // answers and attribute updates that did not fit the queue or the device's packet size
	PayloadsRefused  int64 // publishes answered with a reason code, or whose connection was closed for them
	ProtocolErrors   int64 // connections closed for breaking MQTT
	StalledClosed    int64 // connections closed because the device did not read
	KeepAliveExpired int64
}

// counters are Stats while they change.
type counters struct {
	connections, sessions, accepted, refused            atomic.Int64
	packetsIn, packetsOut, bytesIn, bytesOut            atomic.Int64
	dataDropped, dataUnanswered                         atomic.Int64
	commandsWritten, commandsRefused, messagesDropped   atomic.Int64
	payloadsRefused, protocolErrors, stalled, keepAlive atomic.Int64
}

// Stats reads the counters; each is exact, together they may be of slightly different moments.
func (s *Server) Stats() Stats {
	c := &s.count
	return Stats{
		Connections:      c.connections.Load(),
		Sessions:         c.sessions.Load(),
		Accepted:         c.accepted.Load(),
		Refused:          c.refused.Load(),
		PacketsIn:        c.packetsIn.Load(),
		PacketsOut:       c.packetsOut.Load(),
		BytesIn:          c.bytesIn.Load(),
		BytesOut:         c.bytesOut.Load(),
		DataDropped:      c.dataDropped.Load(),
		DataUnanswered:   c.dataUnanswered.Load(),
		CommandsWritten:  c.commandsWritten.Load(),
		CommandsRefused:  c.commandsRefused.Load(),
		MessagesDropped:  c.messagesDropped.Load(),
		PayloadsRefused:  c.payloadsRefused.Load(),
		ProtocolErrors:   c.protocolErrors.Load(),
		StalledClosed:    c.stalled.Load(),
		KeepAliveExpired: c.keepAlive.Load(),
	}
}
