package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"callchain/engine"
	"callchain/engine/bus"
	"callchain/engine/bus/kafka"
	"callchain/engine/bus/local"
	"callchain/registry"
)

// openBus opens what commands come through: Kafka if the settings name brokers, else queues in this process.
func (s *Server) openBus(ctx context.Context) error {
	k := &s.settings.Bus.Kafka
	if k.Brokers == "" {
		s.inbox = local.New(s.settings.Limits.Inbox)
		return nil
	}
	b, err := kafka.Open(ctx, kafka.Options{
		Brokers: k.BrokerList(), Prefix: k.Prefix, Node: s.node, Partitions: int32(s.settings.Partitions), Replication: int16(k.Replication), Resume: k.Resume,
		TLS:  kafka.TLS{Enabled: k.TLS.Enabled, CA: k.TLS.CA, Cert: k.TLS.Cert, Key: k.TLS.Key},
		SASL: kafka.SASL{Mechanism: k.SASL.Mechanism, User: k.SASL.User, Password: k.SASL.Password.Reveal()},
		Most: s.settings.Limits.Inbox, Codec: engine.Codec{}, Log: s.log,
	})
	if err != nil {
		return fmt.Errorf("bus.kafka.brokers %s: %w", k.Brokers, err)
	}
	s.kafka, s.inbox, s.changes = b, b.Inbox(), make(chan registry.Change, changesWaiting)
	return nil
}

// headerNode tells who made a change of the registry: a node does not take its own changes twice.
const headerNode = "node"

// changesWaiting is how many changes of the registry may wait for the topic. Those beyond are not told: other nodes see them when they forget
// what they know, or start again.
const changesWaiting = 1_000

// shareRegistry tells other nodes of changes of the registry and hears of theirs, until ctx ends.
func (s *Server) shareRegistry(ctx context.Context) error {
	if s.kafka == nil {
		return nil
	}
	var beside sync.WaitGroup
	beside.Go(func() { s.publishChanges(ctx) })
	beside.Go(func() { s.refreshRevocations(ctx) })
	defer beside.Wait()
	return s.kafka.Topics().Follow(ctx, bus.Registry, s.catchUp, func(r bus.Record) {
		if r.Headers[headerNode] == s.node {
			return
		}
		var c registry.Change
		if err := json.Unmarshal(r.Value, &c); err != nil {
			s.log.Warn("a change of the registry cannot be read", "from", r.Headers[headerNode], "error", err)
			return
		}
		s.registry.Apply(c)
	})
}

// catchUp reads again what other nodes may have changed since this one read it and before it began to hear of changes, and lets them look at the
// chains that this one has activated at its start.
func (s *Server) catchUp() {
	all := registry.Change{Kind: registry.ChainActivated, Tenant: s.first.Tenant.ID}
	s.registry.Apply(all)
	s.registry.Apply(registry.Change{Kind: registry.UserChanged, Tenant: s.first.Tenant.ID})
	s.noteChange(all)
}

// refreshRevocations reads soon what other nodes have revoked.
func (s *Server) refreshRevocations(ctx context.Context) {
	const period = 250 * time.Millisecond
	look := time.NewTicker(period)
	defer look.Stop()
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
		if err := s.registry.RefreshRevocations(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("tokens that another node has revoked may still be accepted here", "error", err)
		}
	}
}

// noteChange keeps a change of this node for the topic.
func (s *Server) noteChange(c registry.Change) {
	if s.kafka == nil || c.Foreign {
		return
	}
	select {
	case s.changes <- c:
	default:
		s.log.Warn("a change of the registry is not told to other nodes: too many wait", "kind", c.Kind)
	}
}

// publishChanges publishes what noteChange kept, each until the topic has it.
func (s *Server) publishChanges(ctx context.Context) {
	const again = time.Second
	for {
		var c registry.Change
		select {
		case c = <-s.changes:
		case <-ctx.Done():
			return
		}
		value, err := json.Marshal(c)
		if err != nil {
			panic(fmt.Sprintf("serve: %v", err)) // ids and words only
		}
		record := bus.Record{Key: c.Tenant.String(), Headers: map[string]string{headerNode: s.node, "kind": string(c.Kind)}, Value: value}
		for err := s.kafka.Topics().Publish(ctx, bus.Registry, []bus.Record{record}); err != nil; err = s.kafka.Topics().Publish(ctx, bus.Registry, []bus.Record{record}) {
			wait := time.NewTimer(again)
			select {
			case <-wait.C:
			case <-ctx.Done():
				wait.Stop()
				return
			}
		}
	}
}
