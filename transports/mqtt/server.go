package mqtt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"callchain/transports"
)

// Server serves devices over MQTT. Connections share nothing but the list of them, which is touched when one opens or ends,
// and counters.
type Server struct {
	cfg   Config
	auth  transports.Authenticator
	in    transports.Inbound
	log   *slog.Logger
	count counters

	mu    sync.Mutex
	addr  net.Addr
	conns map[*conn]struct{}
	ended bool
	wg    sync.WaitGroup
}

// New makes a server that is not listening yet. It fails with the first bad field of cfg.
func New(cfg Config, auth transports.Authenticator, in transports.Inbound, log *slog.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("mqtt.%w", err)
	}
	return &Server{cfg: cfg, auth: auth, in: in, log: log, conns: map[*conn]struct{}{}}, nil
}

// Addr is where the server listens, nil before Serve.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// Serve accepts connections until ctx ends, then closes ln, tells MQTT 5 clients that the server is shutting down (0x8B) and
// waits for the connections, DrainTimeout at most. It returns nil after that, or what broke the listener.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	s.addr = ln.Addr()
	s.mu.Unlock()
	stopped := context.AfterFunc(ctx, func() {
		// A listener that is already closed has nothing left to tell.
		_ = ln.Close()
	})
	err := s.accept(ctx, ln)
	if stopped() {
		_ = ln.Close() // accept failed, its error is the one to return
	}
	cancel()
	s.drain()
	return err
}

func (s *Server) accept(ctx context.Context, ln net.Listener) error {
	pause := 5 * time.Millisecond
	for {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			pause = 5 * time.Millisecond
			s.open(ctx, nc)
			continue
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accepting on %s: %w", ln.Addr(), err)
		}
		// Out of file descriptors, a peer that went away while waiting: the next one may do.
		s.log.Warn("mqtt: accepting a connection failed", "addr", ln.Addr().String(), "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
			pause = min(2*pause, time.Second)
		}
	}
}

// open starts serving nc, or closes it when there are too many.
func (s *Server) open(ctx context.Context, nc net.Conn) {
	s.count.accepted.Add(1)
	c := newConn(s, nc)
	s.mu.Lock()
	ok := !s.ended && len(s.conns) < s.cfg.MaxConnections
	if ok {
		s.conns[c] = struct{}{}
		s.wg.Add(1)
	}
	s.mu.Unlock()
	if !ok {
		s.count.refused.Add(1)
		_ = nc.Close() // refused: nothing was said, nothing is lost
		return
	}
	s.count.connections.Add(1)
	go func() {
		if !c.welcome(ctx) {
			s.finish(c)
			return
		}
		go s.serve(c)
	}()
}

// serve serves a connection with a goroutine of its own. Checking credentials and subscribing take a deep stack; the goroutine
// that waits for packets, perhaps for days, begins anew with a small one.
func (s *Server) serve(c *conn) {
	if c.serve() {
		go s.serve(c)
		return
	}
	s.finish(c)
}

func (s *Server) finish(c *conn) {
	defer s.wg.Done()
	c.finish()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.count.connections.Add(-1)
}

// drain ends all connections; those that are not gone in time are cut.
func (s *Server) drain() {
	s.mu.Lock()
	s.ended = true
	for c := range s.conns {
		c.stop(codeServerShuttingDown, string(transports.ReasonShutdown))
	}
	s.mu.Unlock()
	gone := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-time.After(s.cfg.DrainTimeout):
		s.cut()
		<-gone
	}
}

func (s *Server) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.fail(string(transports.ReasonShutdown))
	}
}
