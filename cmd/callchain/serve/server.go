// Package serve puts the parts of a server together: database, registry, rule chains, engine, REST and MQTT. It is the one place
// where concrete types meet; what they mean is decided elsewhere.
//
// A Server runs in a process of its own or inside a test; it touches no globals and reads no environment.
package serve

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"callchain/cmd/callchain/settings"
	"callchain/cmd/callchain/telemetry"
	"callchain/engine"
	"callchain/engine/bus"
	"callchain/engine/bus/kafka"
	"callchain/eventstore"
	"callchain/nodes"
	"callchain/registry"
	"callchain/registry/auth"
	"callchain/transports/coap"
	httpdevice "callchain/transports/http"
	"callchain/transports/mqtt"

	"github.com/prometheus/client_golang/prometheus"
)

// Server is one node: all that runs in this process.
type Server struct {
	settings settings.Settings
	log      *slog.Logger
	metrics  *prometheus.Registry

	store     eventstore.Store
	registry  *registry.Registry
	database  *sql.DB // of the registry
	first     registry.Started
	password  string // file with the password made at random, empty if none was
	kinds     nodes.Registry
	programs  *programs
	folder    folder
	access    *auth.Access
	node      string
	inbox     bus.Inbox
	kafka     *kafka.Bus    // nil: commands stay in the process
	changes   chan struct{} // says that the outbox of the registry has some
	doubt     chan struct{} // says that changes of others may have been missed
	directory *directory
	traces    *telemetry.Traces // nil: off
	version   string
	engine    *engine.Engine
	listener  listeners
	mqtt      *mqtt.Server
	coap      *coap.Server // nil: off

	httpDevices *httpdevice.Server

	ready   chan struct{}
	failed  chan error // what ended a part that should run for ever
	parts   parts
	stopped sync.Once
	stopErr error
}

// parts are what runs, in the order in which it is stopped.
type parts struct {
	chains, memory, topics, http, mqtt, coap, engine part
}

// part is a goroutine that ends when it is told to.
type part struct {
	stop context.CancelFunc
	done chan struct{}
	err  error // of its end, once done is closed, if it was told to end
}

// How long parts may take to end; together they are under the ten seconds that an operator is promised.
const (
	httpGrace   = 2 * time.Second
	mqttDrain   = 2 * time.Second
	engineGrace = 4 * time.Second
)

// New opens the database and the registry, loads the rule chains and binds the listeners. Nothing runs before Start. What fails
// is told in one line that names the place; New leaves nothing open then.
func New(ctx context.Context, s settings.Settings, log *slog.Logger, more ...Option) (_ *Server, err error) {
	server := &Server{
		settings: s, log: log, metrics: prometheus.NewRegistry(), ready: make(chan struct{}), failed: make(chan error, 4),
	}
	for _, option := range more {
		option(server)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, server.close())
		}
	}()
	for _, step := range []func(context.Context) error{server.setUp, server.listener.open(s), server.assemble} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return server, nil
}

// Start lets everything run. It returns at once; Ready tells when callers are served, Failed when something broke.
func (s *Server) Start() {
	s.run(&s.parts.engine, s.engine.Run)
	s.run(&s.parts.http, s.serveHTTP)
	s.run(&s.parts.chains, s.watchChains)
	s.run(&s.parts.memory, giveBack)
	s.run(&s.parts.topics, s.shareRegistry)
	s.run(&s.parts.coap, s.serveCoAP)
	s.run(&s.parts.mqtt, func(ctx context.Context) error {
		if !s.awaitEngine(ctx) {
			return nil
		}
		close(s.ready)
		return s.serveMQTT(ctx)
	})
}

func (s *Server) run(p *part, do func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	p.stop, p.done = stop, make(chan struct{})
	go func() {
		defer close(p.done)
		err := do(ctx)
		switch {
		case err == nil || ctx.Err() != nil && errors.Is(err, context.Canceled):
		case ctx.Err() != nil:
			p.err = err
		default:
			select {
			case s.failed <- err:
			default: // the first failure ends the server
			}
		}
	}()
}

// awaitEngine waits until the partitions are loaded; false: the server is stopped before.
func (s *Server) awaitEngine(ctx context.Context) bool {
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for len(s.engine.Ready()) > 0 {
		select {
		case <-look.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// Ready is closed when every listener serves and the partitions are loaded.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Failed gives what broke a part; the server is to be stopped then.
func (s *Server) Failed() <-chan error { return s.failed }

// HTTPAddr is the address of the REST listener, with its port.
func (s *Server) HTTPAddr() net.Addr { return s.listener.http.Addr() }

// MQTTAddr is the address of the MQTT listener, nil if MQTT is off.
func (s *Server) MQTTAddr() net.Addr {
	if s.listener.mqtt == nil {
		return nil
	}
	return s.listener.mqtt.Addr()
}

// First tells what the first start did, and the file that holds a password made at random then.
func (s *Server) First() (registry.Started, string) { return s.first, s.password }

// Stop refuses new calls, answers waiting callers 503 with their call's id, tells devices goodbye, commits what was accepted and
// closes the database. It takes eight seconds at most, and a moment more if a broker or a collector of traces does not answer. It may
// be called more than once.
func (s *Server) Stop() error {
	s.stopped.Do(func() {
		s.engine.Stop()
		s.httpDevices.Stop()
		endAll(time.Second, &s.parts.chains, &s.parts.memory)
		if in := endAll(max(httpGrace, mqttDrain)+time.Second, &s.parts.http, &s.parts.mqtt, &s.parts.coap); slices.Contains(in, false) {
			s.log.Warn("connections were cut off", "http", !in[0], "mqtt", !in[1], "coap", !in[2])
		}
		if !endAll(engineGrace, &s.parts.engine, &s.parts.topics)[0] { // the last requests had changes to publish
			s.stopErr = errors.New("stopping the engine: the last append did not end in time")
		} else if err := s.parts.engine.err; err != nil {
			s.stopErr = fmt.Errorf("stopping the engine: %w", err)
		}
		s.stopErr = errors.Join(s.stopErr, s.close())
	})
	return s.stopErr
}

// end stops a part and waits for it, false if it takes too long.
func (p *part) end(most time.Duration) bool {
	if p.stop == nil {
		return true // it was never started
	}
	p.stop()
	late := time.NewTimer(most)
	defer late.Stop()
	select {
	case <-p.done:
		return true
	case <-late.C:
		return false
	}
}

// endAll ends parts side by side, and tells which of them did in time.
func endAll(most time.Duration, parts ...*part) []bool {
	inTime := make([]bool, len(parts))
	var ending sync.WaitGroup
	for i, p := range parts {
		ending.Go(func() { inTime[i] = p.end(most) })
	}
	ending.Wait()
	return inTime
}

// close frees what New opened.
func (s *Server) close() error {
	s.listener.close()
	s.closeTraces()
	var errs []error
	if s.inbox != nil {
		s.inbox.Close()
	}
	if s.kafka != nil {
		errs = append(errs, s.kafka.Close())
	}
	if s.database != nil {
		errs = append(errs, s.database.Close())
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("closing the database and the bus: %w", err)
	}
	return nil
}
