// Package api is what users and their programs reach over HTTP: ThingsBoard's REST API for RPC, devices, profiles and attributes,
// and Callchain's own paths for the history of calls, events, rule chains and health.
//
// It judges who may do what, reads requests, and writes answers; it decides nothing about calls. Every error becomes a status and a
// code in one place (errors.go), and every route stands in one table (routes.go).
//
// It must not know how a call lives, how rows are stored, or which transport a device uses.
package api

import (
	"log/slog"
	"net/http"
	"time"

	"callchain/eventstore"
	"callchain/nodes"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
)

// Timeouts are ThingsBoard's server.rest.server_side_rpc: a call's timeout is at least Minimum, and Default if none was given.
type Timeouts struct {
	Minimum time.Duration
	Default time.Duration
}

// Config bounds what callers may use up.
type Config struct {
	Timeouts    Timeouts
	Body        int64         // bytes of one body
	SmallBody   int64         // bytes of a body that anybody may send (login)
	Bodies      int64         // bytes of all bodies in memory at a time
	Requests    int           // requests served at a time; one more gets 503
	Streams     int           // server-sent event streams open at a time
	Connections int           // connections open at a time; one more waits in the listener's queue
	HeaderBytes int           // of one request
	ReadHeader  time.Duration // for a request's header to arrive
	ReadBody    time.Duration // for a request's body to arrive
	Idle        time.Duration // a connection without requests is closed
	WriteStall  time.Duration // a stream's reader that takes nothing for so long is cut off
	Heartbeat   time.Duration // between comments on a quiet stream
	Traces      time.Duration // older traces of rule nodes are not shown; 0: all are
}

// DefaultConfig is meant for one machine: ThingsBoard's limits where it has them.
func DefaultConfig() Config {
	return Config{
		Timeouts: Timeouts{Minimum: 5 * time.Second, Default: 10 * time.Second},
		Body:     16 << 20, SmallBody: 64 << 10, Bodies: 256 << 20,
		Requests: 10_000, Streams: 1_000, Connections: 20_000, HeaderBytes: 64 << 10,
		ReadHeader: 10 * time.Second, ReadBody: 60 * time.Second, Idle: 2 * time.Minute, WriteStall: 15 * time.Second, Heartbeat: 15 * time.Second,
	}
}

// Deps is what the API works with.
type Deps struct {
	Engine    Engine
	Store     eventstore.Store
	Directory Directory
	Access    Access
	Nodes     nodes.Registry // the kinds of nodes that chains may use
	Metrics   *prometheus.Registry
	Log       *slog.Logger         // nil: silent
	Now       func() time.Time     // nil: the clock
	NewID     func() uuid.UUID     // of new rule nodes; nil: random
	Tracer    trace.TracerProvider // makes the spans of requests; nil: none are made
	Waiting   func() []string      // what else keeps the server from being ready, for instance listeners; nil: nothing
}

// server holds what the handlers share.
type server struct {
	config  Config
	engine  Engine
	store   eventstore.Store
	dir     Directory
	access  Access
	nodes   nodes.Registry
	log     *slog.Logger
	now     func() time.Time
	newID   func() uuid.UUID
	waiting func() []string
	limits  *limits
	metrics *metrics
}

// New builds the handler of the whole API. Its measurements are registered with Deps.Metrics.
func New(c Config, d Deps) http.Handler {
	s := &server{
		config: c, engine: d.Engine, store: d.Store, dir: d.Directory, access: d.Access, nodes: d.Nodes,
		log: d.Log, now: d.Now, newID: d.NewID, waiting: d.Waiting, limits: newLimits(c), metrics: newMetrics(d.Metrics),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.newID == nil {
		s.newID = uuid.New
	}
	gin.SetMode(gin.ReleaseMode)
	g := gin.New()
	g.HandleMethodNotAllowed = true
	g.RedirectTrailingSlash = false
	g.ContextWithFallback = true
	g.Use(s.recovered)
	if d.Tracer != nil {
		g.Use(traced(d.Tracer))
	}
	for _, r := range s.documented(s.routes(d.Metrics)) {
		g.Handle(r.method, r.path, s.serve(r))
	}
	g.NoRoute(s.serve(route{roles: members, handle: noRoute}))
	g.NoMethod(s.serve(route{roles: members, handle: noMethod}))
	return g
}
