package httpdevice

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"callchain/transports"
	"callchain/transports/internal/devicejson"
)

// admit lets a request in that is no poll, if there are not too many.
func (s *Server) admit(w http.ResponseWriter) (leave func(), ok bool) {
	if s.posts.Add(1) > int64(s.cfg.Requests) {
		s.posts.Add(-1)
		s.busy(w)
		return nil, false
	}
	return func() { s.posts.Add(-1) }, true
}

// bodyMissing is ThingsBoard's answer to a message without a body.
func bodyMissing(w http.ResponseWriter) { badRequest(w, "Required request body is missing") }

// post takes a message of a device: it judges the size, finds the device, reads the body, opens a secondary session and lets the message in.
func (s *Server) post(w http.ResponseWriter, r *http.Request, t target, limit int64, l transports.Link, take func(transports.Identity, uuid.UUID, []byte)) {
	leave, ok := s.admit(w)
	if !ok {
		return
	}
	defer leave()
	if s.oversize(w, r, limit) {
		return
	}
	if r.ContentLength == 0 {
		bodyMissing(w)
		return
	}
	id, ok := s.authenticate(w, r, t.token)
	if !ok {
		return
	}
	body, release, ok := s.body(w, r, limit)
	if !ok {
		return
	}
	defer release()
	if len(body) == 0 {
		bodyMissing(w)
		return
	}
	session, err := s.secondary(r, id, l)
	if err != nil {
		s.settled(w, err)
		return
	}
	defer s.in.Disconnect(session, "answered")
	take(id, session, body)
}

// secondary opens the session of one request.
func (s *Server) secondary(r *http.Request, id transports.Identity, l transports.Link) (uuid.UUID, error) {
	session := transports.Session{ID: uuid.New(), Identity: id, Transport: transports.HTTP, Remote: r.RemoteAddr, Link: l, Secondary: true}
	err := s.settle(r.Context(), func(done func(error)) { s.in.Connect(session, done) })
	return session.ID, err
}

// settle waits until the engine has settled a message. When that takes too long the device is to send it again.
func (s *Server) settle(ctx context.Context, do func(done func(error))) error {
	outcome := make(chan error, 1)
	do(func(err error) { outcome <- err })
	late := time.NewTimer(s.cfg.SettleTimeout)
	defer late.Stop()
	select {
	case err := <-outcome:
		return err
	case <-ctx.Done():
		return fmt.Errorf("waiting for the engine: %w", transports.ErrBusy)
	case <-late.C:
		return fmt.Errorf("waiting %s for the engine: %w", s.cfg.SettleTimeout, transports.ErrBusy)
	}
}

// reply serves POST …/rpc/{id}: the answer to a server-side call, any bytes, known id or not. It never overtakes the report of its call:
// an answer may be on its way back before the call's response is known to be written.
func (s *Server) reply(w http.ResponseWriter, r *http.Request, t target) {
	wire, err := strconv.ParseInt(t.id, 10, 32)
	if err != nil {
		if !s.oversize(w, r, s.cfg.CallBody) {
			badRequest(w, "Method parameter 'requestId': a 32-bit number is expected")
		}
		return
	}
	s.post(w, r, t, s.cfg.CallBody, newInquiry(), func(id transports.Identity, session uuid.UUID, body []byte) {
		if one := s.underWay(id.Device, int32(wire)); one != nil {
			select {
			case <-one.done:
			case <-r.Context().Done():
			}
		}
		s.settled(w, s.settle(r.Context(), func(done func(error)) { s.traced(r).Reply(session, int32(wire), body, done) }))
	})
}

// call serves POST …/rpc: a call of the device to the server, which waits for its answer.
func (s *Server) call(w http.ResponseWriter, r *http.Request, t target) {
	i := newInquiry()
	s.post(w, r, t, s.cfg.CallBody, i, func(_ transports.Identity, session uuid.UUID, body []byte) {
		method, params, err := devicejson.ParseCall(body)
		if err == nil && params == nil {
			err = fmt.Errorf("%w: a call needs params", devicejson.ErrFormat)
		}
		if err != nil {
			s.unreadable(w, err)
			return
		}
		a := s.inquire(r, i, s.cfg.AnswerTimeout, func(done func(error)) { s.traced(r).Call(session, 0, method, params, done) })
		if a.err == nil && a.status == http.StatusOK {
			text(w, a.status, negotiated(r), string(a.body))
			return
		}
		s.finish(w, r, a)
	})
}

// inquire asks the engine and waits for the answer.
func (s *Server) inquire(r *http.Request, i inquiry, most time.Duration, ask func(done func(error))) answer {
	if err := s.settle(r.Context(), ask); err != nil {
		return answer{err: err}
	}
	over := time.NewTimer(most)
	defer over.Stop()
	select {
	case a := <-i.result:
		return a
	case <-over.C:
	case <-r.Context().Done():
	}
	return timeOver
}

// finish answers a request that asked.
func (s *Server) finish(w http.ResponseWriter, r *http.Request, a answer) {
	_ = s.send(w, r, a) // the device has hung up: it asks again
}

// giveAttributes serves GET …/attributes?clientKeys=a,b&sharedKeys=c; without keys all are given.
func (s *Server) giveAttributes(w http.ResponseWriter, r *http.Request, t target) {
	leave, ok := s.admit(w)
	if !ok {
		return
	}
	defer leave()
	id, ok := s.authenticate(w, r, t.token)
	if !ok {
		return
	}
	i := newInquiry()
	session, err := s.secondary(r, id, i)
	if err != nil {
		s.settled(w, err)
		return
	}
	defer s.in.Disconnect(session, "answered")
	query := r.URL.Query()
	client, shared := keys(query.Get("clientKeys")), keys(query.Get("sharedKeys"))
	s.finish(w, r, s.inquire(r, i, s.cfg.PollDefault, func(done func(error)) {
		s.in.RequestAttributes(session, 0, client, shared, done)
	}))
}

// keys are the names in a list, nil for none.
func keys(list string) []string {
	if list == "" {
		return nil
	}
	return devicejson.Keys(list)
}

// postTelemetry serves POST …/telemetry. 200 says that it is durable.
func (s *Server) postTelemetry(w http.ResponseWriter, r *http.Request, t target) {
	s.data(w, r, t, true, s.in.Telemetry)
}

// postAttributes serves POST …/attributes.
func (s *Server) postAttributes(w http.ResponseWriter, r *http.Request, t target) {
	s.data(w, r, t, false, s.in.Attributes)
}

func (s *Server) data(w http.ResponseWriter, r *http.Request, t target, array bool, take func(uuid.UUID, []byte, func(error))) {
	s.post(w, r, t, s.cfg.Body, newInquiry(), func(_ transports.Identity, session uuid.UUID, body []byte) {
		if err := devicejson.Check(body, array); err != nil {
			s.unreadable(w, err)
			return
		}
		s.settled(w, s.settle(r.Context(), func(done func(error)) { take(session, body, done) }))
	})
}

// unreadable is ThingsBoard's answer to a body that it cannot use: 500, with the parser's words if it is no JSON.
func (s *Server) unreadable(w http.ResponseWriter, err error) {
	s.count.payloadsRefused.Add(1)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		text(w, http.StatusInternalServerError, textType, fmt.Sprintf("%s at byte %d", syntax, syntax.Offset))
		return
	}
	empty(w, http.StatusInternalServerError)
}
