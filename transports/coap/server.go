package coap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/plgd-dev/go-coap/v3/message/pool"
	coapnet "github.com/plgd-dev/go-coap/v3/net"
	"github.com/plgd-dev/go-coap/v3/options"
	"github.com/plgd-dev/go-coap/v3/options/config"
	"github.com/plgd-dev/go-coap/v3/pkg/runner/periodic"
	"github.com/plgd-dev/go-coap/v3/udp"
	"github.com/plgd-dev/go-coap/v3/udp/client"

	"callchain/transports"
)

// Server serves devices over CoAP.
type Server struct {
	cfg       Config
	auth      transports.Authenticator
	in        transports.Inbound
	log       *slog.Logger
	count     counters
	transfers atomic.Int64  // bytes held for block-wise transfers
	checks    chan struct{} // a token for each credentials check under way
	socket    *coapnet.UDPConn
	done      chan struct{}   // closed when the server stops
	lookUps   context.Context // of the credentials checks; ends when the server stops
	stopLooks context.CancelFunc
	handling  sync.WaitGroup // packets that are being handled; none is added once ended

	mu        sync.Mutex
	addr      net.Addr
	ended     bool
	endpoints map[string]*endpoint // by address
	sessions  map[*session]struct{}
	devices   map[uuid.UUID]*presence // by device id
}

// checksMost is how many credentials are looked up at once.
const checksMost = 64

// queueSize is how many packets of a peer may wait for its goroutine. go-coap's reading loop serves all peers and waits when a peer's
// queue is full, so the queue has room for one packet more than the monitor lets through.
const queueSize = 15

// New makes a server that is not listening yet. It fails with the first bad field of cfg.
func New(cfg Config, auth transports.Authenticator, in transports.Inbound, log *slog.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("coap.%w", err)
	}
	s := &Server{
		cfg: cfg, auth: auth, in: in, log: log, checks: make(chan struct{}, checksMost), done: make(chan struct{}),
		endpoints: map[string]*endpoint{}, sessions: map[*session]struct{}{}, devices: map[uuid.UUID]*presence{},
	}
	s.lookUps, s.stopLooks = context.WithCancel(context.Background())
	return s, nil
}

// Addr is where the server listens, nil before Serve.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// Serve answers packets until ctx ends; then it tells the devices that observe (5.03), ends their sessions and closes conn. It
// returns nil after that, or what broke the socket. It is called once.
func (s *Server) Serve(ctx context.Context, conn *net.UDPConn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	s.addr, s.socket = conn.LocalAddr(), coapnet.NewUDPConn("udp", conn)
	s.mu.Unlock()
	server := udp.NewServer(
		options.WithContext(context.WithoutCancel(ctx)),              // the socket is open until the devices were told
		options.WithErrors(func(error) { s.count.malformed.Add(1) }), // the text may hold what a stranger sent: it is not logged
		options.WithMaxMessageSize(datagramMost),
		options.WithBlockwise(false, 0, time.Second), // see block.go
		options.WithPeriodicRunner(periodic.New(ctx.Done(), 5*time.Second)),
		options.WithReceivedMessageQueueSize(queueSize+1),
		options.WithInactivityMonitor(connectionIdle, func(cc *client.Conn) { _ = cc.Close() }), // it only ends a context
		options.WithOnNewConn(s.attach),
		options.WithRequestMonitor(s.monitor),
		options.WithProcessReceivedMessageFunc(s.process),
	)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.sweepUntil(ctx)
		s.drain()
		server.Stop()
	}()
	err := server.Serve(s.socket)
	broke := ctx.Err() == nil
	cancel()
	<-stopped
	_ = s.socket.Close() // go-coap leaves it open if it broke, or if ctx had ended before
	if broke {
		if err == nil {
			err = net.ErrClosed // go-coap takes it for an end that was wanted
		}
		return fmt.Errorf("reading from %s: %w", conn.LocalAddr(), err)
	}
	return nil
}

// datagramMost is the largest datagram read.
const datagramMost = 65535

// connectionIdle is how long go-coap keeps a connection of a peer without packets. It holds nothing that is missed: the next packet
// makes another one.
const connectionIdle = 60 * time.Second

// lineKey finds what belongs to a connection in its context.
type lineKey struct{}

// attach gives a new connection its endpoint, or ends the connection.
func (s *Server) attach(cc *client.Conn) {
	addr, ok := cc.RemoteAddr().(*net.UDPAddr)
	if !ok {
		_ = cc.Close() // there is no other kind of address
		return
	}
	now := time.Now()
	key := addr.String()
	s.mu.Lock()
	ep := s.endpoints[key]
	fresh := ep == nil
	if fresh && !s.ended && s.room(now) {
		ep = newEndpoint(s, cc, addr, now)
		s.endpoints[key] = ep
	}
	s.mu.Unlock()
	if ep == nil {
		s.count.dropped.Add(1)
		_ = cc.Close() // it only ends a context
		return
	}
	if fresh {
		s.count.endpoints.Add(1)
	}
	ep.mu.Lock()
	ep.cc = cc
	ep.mu.Unlock()
	cc.SetContextValue(lineKey{}, &line{ep: ep})
}

// line is one connection of go-coap to an endpoint.
type line struct {
	ep     *endpoint
	queued atomic.Int32 // packets that wait for the connection's goroutine
}

func lineOf(cc *client.Conn) *line {
	l, _ := cc.Context().Value(lineKey{}).(*line)
	return l
}

// monitor sees every packet first.
func (s *Server) monitor(cc *client.Conn, m *pool.Message) (drop bool, err error) {
	l := lineOf(cc)
	if l == nil {
		return true, nil
	}
	return l.monitor(m), nil
}

// process handles packets of one peer, one after the other. go-coap's own handler is left out: its memory of answers is looked
// through for each packet and grows by each message id, so that one peer could hold up all others; it says Confirmable to whoever did
// not ask for it; and it takes any packet with a known message id for an acknowledgement.
func (s *Server) process(m *pool.Message, cc *client.Conn, _ config.HandlerFunc[*client.Conn]) {
	if l := lineOf(cc); l != nil {
		l.queued.Add(-1)
		if s.enter() {
			l.ep.receive(m)
			s.handling.Done()
		}
	}
	cc.ReleaseMessage(m)
}

// enter makes the end of the server wait for handling.Done; false: it has ended, and the engine must not be told any more.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.handling.Add(1)
	}
	return !s.ended
}

// room makes room for one endpoint if there is none; mu is held.
func (s *Server) room(now time.Time) bool {
	if len(s.endpoints) < s.cfg.MaxEndpoints {
		return true
	}
	const sample = 32
	n := 0
	for key, ep := range s.endpoints { // the order is random
		if n++; n > sample {
			break
		}
		if ep.idle(now, time.Second) {
			delete(s.endpoints, key)
			go ep.end()
			return true
		}
	}
	return false
}

// idle says whether nothing is lost with the endpoint.
func (ep *endpoint) idle(now time.Time, strangers time.Duration) bool {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	if ep.held > 0 || ep.working > 0 || len(ep.exchanges) > 0 {
		return false
	}
	quiet := now.Sub(ep.heard)
	return quiet > ep.srv.cfg.EndpointIdle || !ep.known && quiet > strangers
}

// end frees what an endpoint holds that is no longer in the table.
func (ep *endpoint) end() {
	ep.mu.Lock()
	ep.ended = true
	cc, open := ep.cc, ep.exchanges
	ep.exchanges = nil
	for _, x := range open {
		x.timer.Stop()
	}
	ep.mu.Unlock()
	for _, x := range open {
		x.over(silent, time.Now())
	}
	ep.expire(time.Time{}, true)
	ep.srv.count.endpoints.Add(-1)
	_ = cc.Close() // it only ends a context
}

// sweepUntil forgets what is no longer used, once a second.
func (s *Server) sweepUntil(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.sweep(now)
		}
	}
}

func (s *Server) sweep(now time.Time) {
	s.mu.Lock()
	all := make([]*endpoint, 0, len(s.endpoints))
	var ended []*endpoint
	for key, ep := range s.endpoints {
		if ep.idle(now, s.cfg.StrangerIdle) {
			delete(s.endpoints, key)
			ended = append(ended, ep)
			continue
		}
		all = append(all, ep)
	}
	sessions := slices.Collect(maps.Keys(s.sessions))
	s.mu.Unlock()
	for _, ep := range ended {
		ep.end()
	}
	for _, ep := range all {
		ep.expire(now, false)
	}
	for _, one := range sessions {
		one.check(now)
	}
}

// drain ends all sessions and forgets all peers.
func (s *Server) drain() {
	s.mu.Lock()
	s.ended = true
	sessions := slices.Collect(maps.Keys(s.sessions))
	s.mu.Unlock()
	close(s.done)
	s.stopLooks()
	for _, one := range sessions {
		one.stop(string(transports.ReasonShutdown))
	}
	for _, one := range sessions {
		<-one.gone
	}
	s.handling.Wait()
	s.mu.Lock()
	endpoints := s.endpoints
	s.endpoints = map[string]*endpoint{}
	s.mu.Unlock()
	for _, ep := range endpoints {
		ep.end()
	}
}

// authenticate finds out whose token it is. It waits for its turn among a bounded number of checks.
func (s *Server) authenticate(token string) (transports.Identity, error) {
	ctx, cancel := context.WithTimeout(s.lookUps, s.cfg.AuthTimeout)
	defer cancel()
	if token == "" {
		return transports.Identity{}, transports.ErrUnauthorized
	}
	select {
	case s.checks <- struct{}{}:
		defer func() { <-s.checks }()
	case <-ctx.Done():
		return transports.Identity{}, errors.Join(transports.ErrBusy, ctx.Err())
	case <-s.done:
		return transports.Identity{}, transports.ErrBusy
	}
	return s.auth.Authenticate(ctx, transports.Credentials{Token: token})
}
