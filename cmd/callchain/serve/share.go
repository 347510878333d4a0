package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"callchain/engine/bus"
	"callchain/engine/cluster"
	"callchain/registry"
	"callchain/transports"
)

// headerNode tells who told of a change of the registry: a node does not take its own changes twice.
const headerNode = "node"

// How often a node looks for changes of the registry that wait, and how old one of another process is when it is taken for left behind.
const (
	outboxAgain = time.Second
	outboxLeft  = 10 * time.Second
)

// reviewPeriod is how often a node looks whether it has missed a change.
const reviewPeriod = time.Minute

// shareRegistry tells other nodes of changes of the registry and hears of theirs, until ctx ends.
func (s *Server) shareRegistry(ctx context.Context) error {
	if s.kafka == nil {
		return nil
	}
	var beside sync.WaitGroup
	beside.Go(func() { s.emptyOutbox(ctx) })
	beside.Go(func() { s.refreshRevocations(ctx) })
	beside.Go(func() { s.review(ctx) })
	defer beside.Wait()
	begun := func() { // changes before that were not heard
		s.registry.Forget()
		signal(s.doubt)
	}
	return s.kafka.Topics().Follow(ctx, bus.Registry, begun, func(r bus.Record) {
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

// signal wakes who waits for a channel that holds one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is awake
	}
}

// review looks now and then whether what this node goes by is what the registry says, since a change may not have been heard: while the node began to
// follow the topic, or after it was away for so long that the topic had forgotten.
func (s *Server) review(ctx context.Context) {
	look := time.NewTicker(reviewPeriod)
	defer look.Stop()
	for {
		select {
		case <-s.doubt:
		case <-look.C:
		case <-ctx.Done():
			return
		}
		for _, kind := range []registry.ChangeKind{registry.ChainActivated, registry.UserChanged} {
			s.registry.Apply(registry.Change{Kind: kind, Tenant: s.first.Tenant.ID})
		}
		if err := s.reviewConnections(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("connections may be on credentials that have changed", "error", err)
		}
	}
}

// reviewConnections ends the connections on older credentials than the registry has, and of devices that it has not.
func (s *Server) reviewConnections(ctx context.Context) error {
	connected := s.engine.Connected()
	for some := range slices.Chunk(slices.Collect(maps.Keys(connected)), 500) {
		versions, err := s.registry.CredentialVersions(ctx, some)
		if err != nil {
			return err
		}
		for _, device := range some {
			switch version, exists := versions[device]; {
			case !exists:
				s.engine.Deleted(device)
			case connected[device] < version:
				s.engine.Revoke(device, version)
			}
		}
	}
	return nil
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

// changed is told of every committed change of the registry. Of one that was made here the outbox tells the others, if there are any.
func (s *Server) changed(c registry.Change) {
	switch c.Kind {
	case registry.DeviceDeleted:
		s.engine.Deleted(c.Device)
	case registry.CredentialsChanged:
		s.engine.Revoke(c.Device, int64(c.Version)) // version 0, from a node of before, revokes nothing: it tells the owner
	default:
		s.programs.changed(c)
	}
	if s.kafka == nil || c.Foreign {
		return
	}
	if s.engine.Level() < cluster.LevelRevokes {
		s.tellOwner(c)
	}
	signal(s.changes)
}

// tellOwner lets the owner of a device end its session, for nodes that do not do so themselves.
func (s *Server) tellOwner(c registry.Change) {
	why := transports.ReasonCredentials
	switch c.Kind {
	case registry.DeviceDeleted:
		why = transports.ReasonDeviceDeleted
	case registry.CredentialsChanged:
	default:
		return
	}
	if err := s.engine.CloseDevice(c.Device, s.registry.Partition(c.Device), why); err != nil {
		s.log.Warn("a session may go on", "kind", c.Kind, "device", c.Device, "tenant", c.Tenant, "error", err)
	}
}

// emptyOutbox tells of what this process has changed, and of what a process that is gone has changed, each until it is told. At its end it tells of what
// the last requests changed.
func (s *Server) emptyOutbox(ctx context.Context) {
	look := time.NewTicker(outboxAgain)
	defer look.Stop()
	silent, unread := false, false
	for {
		err := s.tellOutbox(ctx)
		switch {
		case err != nil && !silent && ctx.Err() == nil:
			s.log.Warn("other nodes cannot be told of changes of the registry now", "error", err)
		case err == nil && silent:
			s.log.Info("other nodes have been told of the changes of the registry")
		}
		silent = err != nil
		select {
		case <-s.changes:
		case <-look.C:
			s.adopt(ctx, &unread)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), outboxAgain)
			defer cancel()
			if err := s.tellOutbox(last); err != nil {
				s.log.Warn("another node has to tell of changes of the registry, or this one when it starts again", "error", err)
			}
			return
		}
	}
}

// adopt takes over what others have left behind; that it cannot is said once.
func (s *Server) adopt(ctx context.Context, unread *bool) {
	n, err := s.registry.Adopt(ctx, outboxLeft)
	switch {
	case err != nil && !*unread && ctx.Err() == nil:
		s.log.Warn("changes of the registry that other processes may have left behind cannot be read", "error", err)
	case n > 0:
		s.log.Info("telling of changes of the registry that another process left behind", "waiting", n)
	}
	*unread = err != nil
}

// tellOutbox tells other nodes of what waits.
func (s *Server) tellOutbox(ctx context.Context) error {
	for {
		some, err := s.registry.Outbox(ctx)
		if err != nil || len(some) == 0 {
			return err
		}
		records := make([]bus.Record, len(some))
		for i, c := range some {
			value, err := json.Marshal(c)
			if err != nil {
				panic(fmt.Sprintf("serve: %v", err)) // ids and words only
			}
			records[i] = bus.Record{Key: c.Tenant.String(), Headers: map[string]string{headerNode: s.node, "kind": string(c.Kind)}, Value: value}
		}
		if err := s.kafka.Topics().Publish(ctx, bus.Registry, records); err != nil {
			return err
		}
		if err := s.registry.Told(ctx, some); err != nil {
			return err
		}
	}
}
