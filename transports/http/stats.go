package httpdevice

import "sync/atomic"

// Stats are counters since the server began, for the metrics of the shell; Polls and Sessions are what is open now.
type Stats struct {
	Polls           int64 // requests that wait for calls or attribute changes
	Sessions        int64 // devices that poll
	Requests        int64 // requests with a path of the device API
	Unauthorized    int64 // of them with a token that no device has
	Refused         int64 // of them answered 503: too many, or the engine is too busy
	PayloadsRefused int64 // of them with a body that is too large or cannot be read
	PollsEmpty      int64 // polls that ended without anything
	CommandsTaken   int64 // calls fetched by their devices
	CommandsLost    int64 // calls whose device hung up while they were written; they come again
	CommandsRefused int64 // calls reported with Inbound.Failed
}

// counters are Stats while they change.
type counters struct {
	polls, sessions, requests, unauthorized, refused, payloadsRefused atomic.Int64
	pollsEmpty, taken, lost, commandsRefused                          atomic.Int64
}

// Stats reads the counters; each is exact, together they may be of slightly different moments.
func (s *Server) Stats() Stats {
	c := &s.count
	return Stats{
		Polls:           c.polls.Load(),
		Sessions:        c.sessions.Load(),
		Requests:        c.requests.Load(),
		Unauthorized:    c.unauthorized.Load(),
		Refused:         c.refused.Load(),
		PayloadsRefused: c.payloadsRefused.Load(),
		PollsEmpty:      c.pollsEmpty.Load(),
		CommandsTaken:   c.taken.Load(),
		CommandsLost:    c.lost.Load(),
		CommandsRefused: c.commandsRefused.Load(),
	}
}
