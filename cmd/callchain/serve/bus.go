package serve

import (
	"context"
	"fmt"

	"callchain/engine/bus/kafka"
	"callchain/engine/bus/local"
	"callchain/engine/wire"
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
		Most: s.settings.Limits.Inbox, Codec: wire.Codec{}, Log: s.log,
	})
	if err != nil {
		return fmt.Errorf("bus.kafka.brokers %s: %w", k.Brokers, err)
	}
	s.kafka, s.inbox, s.changes = b, b.Inbox(), make(chan struct{}, 1)
	s.doubt = make(chan struct{}, 1)
	return nil
}
