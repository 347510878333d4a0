package httpdevice

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"callchain/transports"
)

// pollCalls serves GET …/rpc: it waits for the next call to the device.
func (s *Server) pollCalls(w http.ResponseWriter, r *http.Request, t target) {
	s.poll(w, r, t, forCalls)
}

// pollUpdates serves GET …/attributes/updates: it waits for the next change of shared attributes.
func (s *Server) pollUpdates(w http.ResponseWriter, r *http.Request, t target) {
	s.poll(w, r, t, forUpdates)
}

func (s *Server) poll(w http.ResponseWriter, r *http.Request, t target, k kind) {
	timeout, ok := s.pollTimeout(r.URL.RawQuery)
	if !ok {
		badRequest(w, "Method parameter 'timeout': a number of milliseconds is expected")
		return
	}
	defer s.count.polls.Add(-1)
	if s.count.polls.Add(1) > int64(s.cfg.Polls) {
		s.busy(w)
		return
	}
	id, ok := s.authenticate(w, r, t.token)
	if !ok {
		return
	}
	d, p, ok := s.join(id, r.RemoteAddr, k)
	if !ok {
		s.busy(w)
		return
	}
	defer d.left()
	s.hand(w, r, d, d.await(r, p, timeout))
}

// pollTimeout is how long a poll waits: timeout is in milliseconds, absent and 0 mean PollDefault.
func (s *Server) pollTimeout(query string) (time.Duration, bool) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return 0, false
	}
	given := values.Get("timeout")
	if given == "" {
		return s.cfg.PollDefault, true
	}
	ms, err := strconv.ParseInt(given, 10, 64)
	switch {
	case err != nil:
		return 0, false
	case ms == 0:
		return s.cfg.PollDefault, true
	case ms > s.cfg.PollMost.Milliseconds():
		return s.cfg.PollMost, true
	}
	return time.Duration(max(ms, 0)) * time.Millisecond, true
}

// await waits until the poll is answered, its time is over, or the device hangs up.
func (d *device) await(r *http.Request, p *poll, timeout time.Duration) answer {
	over := time.NewTimer(timeout)
	defer over.Stop()
	select {
	case a := <-p.result:
		return a
	case <-over.C:
	case <-r.Context().Done():
	}
	a, _ := d.leave(p)
	return a
}

// hand writes the answer of a poll. A call counts as taken when its response was written and flushed to a connection that lived when that
// began: a device may hang up as soon as it has read the response, and that says nothing.
func (s *Server) hand(w http.ResponseWriter, r *http.Request, d *device, a answer) {
	one := a.delivery
	if one != nil {
		defer d.reported(one)
		if passed(one.command.Deadline) {
			s.count.commandsRefused.Add(1)
			s.in.Failed(one.session, one.command.Call, transports.FailedExpired)
			a, one = timeOver, nil
		}
	}
	if a.status == http.StatusRequestTimeout {
		s.count.pollsEmpty.Add(1)
	}
	began := time.Now() // an answer may be here before the write has returned
	err := s.send(w, r, a)
	switch {
	case one == nil:
	case err != nil:
		s.count.lost.Add(1)
		s.log.Debug("http device: a poll was gone before its call", "session", one.session, "error", err)
	default:
		s.count.taken.Add(1)
		s.in.Written(one.session, one.command.Call, one.command.Attempt, began, true)
		s.in.Acknowledged(one.session, one.command.Call, transports.EvidenceHTTPTaken, time.Now())
	}
}

// send writes an answer through to the network.
func (s *Server) send(w http.ResponseWriter, r *http.Request, a answer) error {
	switch {
	case a.err != nil:
		s.settled(w, a.err)
		return nil
	case len(a.body) == 0:
		empty(w, a.status)
		return nil
	case r.Context().Err() != nil: // hung up
		return r.Context().Err()
	}
	if a.trace != "" {
		w.Header().Set("Traceparent", a.trace)
	}
	contentType := jsonType
	if a.plain {
		contentType = textType
	}
	return s.push(w, a.status, contentType, a.body)
}

// push writes and flushes a body in pieces, each with the write timeout of its own, so that a slow device gets a large call through.
func (s *Server) push(w http.ResponseWriter, status int, contentType string, body []byte) error {
	const piece = 64 << 10
	rc := http.NewResponseController(w)
	begin(w, status, contentType, len(body))
	for len(body) > 0 {
		_ = rc.SetWriteDeadline(time.Now().Add(s.cfg.WriteTimeout)) // writers of tests have none
		n, err := w.Write(body[:min(piece, len(body))])
		if err != nil {
			return fmt.Errorf("writing to the device: %w", err)
		}
		body = body[n:]
	}
	if err := rc.Flush(); err != nil {
		return fmt.Errorf("flushing to the device: %w", err)
	}
	_ = rc.SetWriteDeadline(time.Time{}) // as above
	return nil
}
