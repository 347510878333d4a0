package httpdevice

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"

	"callchain/transports"
)

// Server serves devices over HTTP: it is the http.Handler of all paths that begin with Prefix.
type Server struct {
	cfg    Config
	auth   transports.Authenticator
	in     transports.Inbound
	log    *slog.Logger
	table  [telemetry + 1]map[string]handler
	count  counters
	bodies atomic.Int64 // bytes left for bodies
	posts  atomic.Int64 // requests being served that are no polls

	mu      sync.Mutex            // taken before that of a device
	devices map[uuid.UUID]*device // those that poll, or did until a moment ago
	stopped bool
}

// New makes a server. It fails with the first bad field of cfg.
func New(cfg Config, auth transports.Authenticator, in transports.Inbound, log *slog.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("http.%w", err)
	}
	s := &Server{cfg: cfg, auth: auth, in: in, log: log, table: table(), devices: map[uuid.UUID]*device{}}
	s.bodies.Store(cfg.Bodies)
	return s, nil
}

// ServeHTTP serves one request of a device. A path that is not there is 404, a method 405, both without a body.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.count.requests.Add(1)
	defer s.recovered(w)
	t := parseTarget(r.URL.EscapedPath())
	methods := s.methods(t.resource)
	serve, ok := methods[r.Method]
	switch {
	case methods == nil:
		empty(w, http.StatusNotFound)
	case !ok:
		w.Header().Set("Allow", strings.Join(slices.Sorted(maps.Keys(methods)), ", "))
		empty(w, http.StatusMethodNotAllowed)
	default:
		serve(s, w, r, t)
	}
}

// recovered turns a panic into a 500 and a line in the log, which does not name the path: the token is in it.
func (s *Server) recovered(w http.ResponseWriter) {
	p := recover()
	if p == nil {
		return
	}
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p)
	}
	s.log.Error("http device: a request panicked", "panic", p, "stack", string(debug.Stack()))
	empty(w, http.StatusInternalServerError) // without effect if the answer has begun
}

// authenticate finds the device of a token, or answers the request. A deep stack is needed for that; it is that of another goroutine,
// because this one may be about to wait for minutes.
func (s *Server) authenticate(w http.ResponseWriter, r *http.Request, token string) (transports.Identity, bool) {
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.AuthTimeout)
	defer cancel()
	type outcome struct {
		identity transports.Identity
		err      error
	}
	found := make(chan outcome, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				s.log.Error("http device: checking a token panicked", "panic", p, "stack", string(debug.Stack()))
				found <- outcome{err: errPanicked}
			}
		}()
		id, err := s.auth.Authenticate(ctx, transports.Credentials{Token: token})
		found <- outcome{id, err}
	}()
	o := <-found
	switch {
	case o.err == nil:
		return o.identity, true
	case errors.Is(o.err, transports.ErrUnauthorized):
		s.count.unauthorized.Add(1)
		empty(w, http.StatusUnauthorized)
	case r.Context().Err() != nil: // the device has hung up
		empty(w, http.StatusRequestTimeout)
	default:
		s.log.Warn("http device: a token could not be checked", "error", o.err)
		s.busy(w)
	}
	return transports.Identity{}, false
}

var errPanicked = errors.New("checking the token panicked")

// traced is the engine for one message that may stand in a trace.
func (s *Server) traced(r *http.Request) transports.Inbound {
	parent := r.Header.Get("Traceparent")
	if t, ok := s.in.(transports.Traced); ok && parent != "" {
		return t.InTrace(parent)
	}
	return s.in
}

// Stop ends the waiting polls with 408, as when their time is over, and every session; polls that still come are answered 503. Other
// requests go on to their end.
func (s *Server) Stop() {
	s.mu.Lock()
	s.stopped = true
	all := slices.Collect(maps.Values(s.devices))
	clear(s.devices)
	s.mu.Unlock()
	for _, d := range all {
		d.end(string(transports.ReasonShutdown))
	}
}
