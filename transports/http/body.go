package httpdevice

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	// bodyStep is how much of a body is read before more room is asked for.
	bodyStep = 64 << 10
	// swallowed is how much of a body that is not wanted is read all the same, so that the device sees the answer before the connection
	// closes. Tomcat's maxSwallowSize is the same.
	swallowed = 2 << 20
)

var (
	errTooLarge = errors.New("the body is too large")
	errNoRoom   = errors.New("the bodies being read take all the memory reserved for them")
)

// oversize answers 413 to a body whose length is told and too large, before anything else is looked at (ThingsBoard's
// PayloadSizeFilter).
func (s *Server) oversize(w http.ResponseWriter, r *http.Request, limit int64) bool {
	if r.ContentLength <= limit {
		return false
	}
	s.tooLarge(w, r, limit)
	return true
}

func (s *Server) tooLarge(w http.ResponseWriter, r *http.Request, limit int64) {
	s.count.payloadsRefused.Add(1)
	s.readDeadline(w)
	_, _ = io.CopyN(io.Discard, r.Body, swallowed) // whatever comes of it, the answer is the same
	w.Header().Set("Connection", "close")
	text(w, http.StatusRequestEntityTooLarge, "", fmt.Sprintf(`"Payload size exceeds the limit of %d bytes"`, limit))
}

func (s *Server) readDeadline(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.cfg.ReadTimeout)) // writers of tests have none
}

// body reads the whole body, or answers the request. What is read counts against the room for all bodies until release is called.
func (s *Server) body(w http.ResponseWriter, r *http.Request, limit int64) (_ []byte, release func(), ok bool) {
	s.readDeadline(w)
	var b bytes.Buffer
	taken := int64(0)
	release = func() { s.bodies.Add(taken) }
	err := s.fill(&b, r.Body, limit, &taken)
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // as above
	if err == nil {
		return b.Bytes(), release, true
	}
	release()
	switch {
	case errors.Is(err, errTooLarge):
		s.tooLarge(w, r, limit)
	case errors.Is(err, errNoRoom):
		s.busy(w)
	default: // cut off, or too slow
		s.count.payloadsRefused.Add(1)
		w.Header().Set("Connection", "close")
		empty(w, http.StatusBadRequest)
	}
	return nil, nil, false
}

func (s *Server) fill(b *bytes.Buffer, from io.Reader, limit int64, taken *int64) error {
	for {
		step := min(bodyStep, limit+1-int64(b.Len()))
		if s.bodies.Add(-step) < 0 {
			s.bodies.Add(step)
			return errNoRoom
		}
		*taken += step
		n, err := io.CopyN(b, from, step)
		switch {
		case int64(b.Len()) > limit:
			return errTooLarge
		case errors.Is(err, io.EOF):
			s.bodies.Add(step - n)
			*taken -= step - n
			return nil
		case err != nil:
			return fmt.Errorf("reading the body: %w", err)
		}
	}
}
