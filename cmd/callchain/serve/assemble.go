package serve

import (
	"context"
	"fmt"
	"time"

	"callchain/api"
	"callchain/engine"
	"callchain/engine/observe"
	"callchain/engine/rpc"
	"callchain/registry"
	"callchain/registry/auth"
	"callchain/transports/mqtt"
)

// assemble wires engine and transports.
func (s *Server) assemble(ctx context.Context) (err error) {
	if s.node, err = s.nodeID(); err != nil {
		return err
	}
	if err := s.openTraces(ctx); err != nil {
		return err
	}
	if err := s.openBus(ctx); err != nil {
		return err
	}
	s.measure()
	config := engine.DefaultConfig()
	config.Node, config.Partitions, config.ClientTimeout = s.node, int32(s.settings.Partitions), s.settings.RPC.ClientSide
	config.Tenant, config.DeadLetters = s.first.Tenant.ID, s.settings.Limits.DeadLetters
	s.directory = &directory{registry: s.registry, programs: s.programs, rules: s.rules()}
	deps := engine.Deps{Store: s.store, Inbox: s.inbox, Directory: s.directory, Metrics: observe.NewMetrics(s.metrics), Log: s.log}
	if s.kafka != nil {
		deps.Topics, deps.Group = s.kafka.Topics(), s.kafka.Group()
	}
	if s.traces != nil {
		deps.Tracing = s.traces.Engine()
	}
	s.engine = engine.New(config, deps)
	s.registry.OnChange(s.changed)
	if err := s.assembleHTTP(); err != nil {
		return err
	}
	if err := s.assembleCoAP(); err != nil {
		return err
	}
	return s.assembleMQTT()
}

func (s *Server) assembleMQTT() (err error) {
	if s.listener.mqtt == nil {
		return nil
	}
	c := mqtt.Default()
	c.MaxPacket, c.MaxConnections = int(s.settings.Limits.MQTTPacket), s.settings.Limits.MQTTConnections
	c.DataOutstanding, c.DrainTimeout = s.settings.Limits.DataOutstanding, mqttDrain
	c.Limits.MaxInflight = s.settings.Limits.DataOutstanding
	s.mqtt, err = mqtt.New(c, s.registry, s.engine.Inbound(), s.log)
	if err != nil {
		return fmt.Errorf("setting up MQTT: %w", err)
	}
	registerMQTT(s.metrics, s.mqtt)
	return nil
}

// rules are the server's own settings for calls; profiles may differ.
func (s *Server) rules() rpc.Settings {
	r := s.settings.RPC
	return rpc.Settings{
		Order: orderOf(r.SubmitStrategy), MaxRetries: r.MaxRetries, AckTimeout: r.Ack, ResponseTimeout: r.Response,
		CloseOnTimeout: r.CloseSession, MaxOpen: s.settings.Limits.OpenCalls,
	}
}

// serveHTTP serves REST and the device API until ctx ends.
func (s *Server) serveHTTP(ctx context.Context) error {
	c := api.DefaultConfig()
	c.Timeouts = api.Timeouts{Minimum: s.settings.RPC.MinTimeout, Default: s.settings.RPC.DefaultTimeout}
	c.Body, c.Requests = int64(s.settings.Limits.HTTPBody), s.settings.Limits.HTTPRequests
	c.Connections += s.settings.Limits.HTTPPolls
	c.Traces = s.settings.Retention.Traces
	h := api.New(c, api.Deps{
		Engine: s.engine, Store: s.store, Directory: s.registry, Access: s.access, Nodes: s.kinds, Metrics: s.metrics, Log: s.log,
		Waiting: s.waiting, Tracer: s.tracer(),
	})
	return api.Serve(ctx, s.listener.http, s.besideDevices(h), c, httpGrace, s.log)
}

func (s *Server) openAccess(ctx context.Context) error {
	key, err := s.registry.Key(ctx, registry.SigningKey)
	if err != nil {
		return fmt.Errorf("auth: %w", err)
	}
	issuer, err := auth.NewIssuer(auth.Config{
		Key: key, AccessLife: s.settings.Auth.Token.Access, RefreshLife: s.settings.Auth.Token.Refresh, Revoked: s.registry.Revoked,
	})
	if err != nil {
		return fmt.Errorf("auth: %w", err)
	}
	s.access = auth.NewAccess(s.registry, issuer, auth.NewAttempts(time.Now))
	return nil
}

// waiting are the reasons, besides the engine's, why the server is not ready.
func (s *Server) waiting() []string {
	select {
	case <-s.ready:
		return nil
	default:
		return []string{"the device listeners wait for the engine"}
	}
}

// serveMQTT serves devices until ctx ends.
func (s *Server) serveMQTT(ctx context.Context) error {
	if s.mqtt == nil {
		<-ctx.Done()
		return nil
	}
	return s.mqtt.Serve(ctx, s.listener.mqtt)
}
