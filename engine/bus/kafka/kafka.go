// Package kafka is the bus on Kafka: the durable inbox, and the topics beside it.
//
// Each lane of the inbox is a topic. Put writes to it, and Done is called when the brokers acknowledge the message; Take answers what was read from
// it, from exactly the offset that the owner's last append names. The package knows bytes and offsets; its Codec knows the commands.
package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"callchain/engine/bus"

	"github.com/IBM/sarama"
)

// Bus is the connection of one node to its brokers.
type Bus struct {
	options Options
	inbox   *Inbox
	topics  *Topics
	closing sync.Once
	err     error
}

// openTimeout is how long the brokers may take to answer for the first time.
const openTimeout = 10 * time.Second

// prepareTimeout is how long brokers that answer may take to have all topics: those that were just started, on a busy machine, take a while.
const prepareTimeout = 30 * time.Second

// Open connects, creates the topics that are missing and checks the others.
func Open(ctx context.Context, o Options) (*Bus, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, prepareTimeout)
	defer cancel()
	maxBytes, err := o.prepareTopics(ctx)
	if err != nil {
		return nil, err
	}
	b := &Bus{options: o}
	if b.inbox, err = openInbox(ctx, &b.options, maxBytes.commands()); err != nil {
		return nil, err
	}
	if err = b.inbox.waitUntilReady(ctx); err != nil {
		return nil, errors.Join(err, b.inbox.disconnect())
	}
	if b.topics, err = openTopics(&b.options, maxBytes); err != nil {
		return nil, errors.Join(err, b.inbox.disconnect())
	}
	return b, nil
}

// prepareTopics tries until ctx ends: brokers that were just started may not know their controller yet.
func (o *Options) prepareTopics(ctx context.Context) (maxBytes limits, err error) {
	if err := o.probe(ctx); err != nil {
		return maxBytes, err
	}
	c, err := o.config("admin")
	if err != nil {
		return maxBytes, err
	}
	created := map[string]bool{}
	err = retryTemporary(ctx, func() error {
		admin, err := sarama.NewClusterAdmin(o.Brokers, c)
		if err != nil {
			return fmt.Errorf("no broker answers: %w", err)
		}
		maxBytes, err = o.ensureTopics(admin, created)
		return errors.Join(err, admin.Close())
	})
	return maxBytes, err
}

// probe asks whether a broker answers at all, with shorter timeouts than other requests.
func (o *Options) probe(ctx context.Context) error {
	c, err := o.config("probe")
	if err != nil {
		return err
	}
	c.Net.DialTimeout, c.Net.ReadTimeout, c.Net.WriteTimeout = probeTimeout, probeTimeout, probeTimeout
	c.Metadata.Retry.Max = 0
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	asked := make(chan error, 1)
	go func() { // it ends by itself, soon: the client asks one broker after the other
		client, err := sarama.NewClient(o.Brokers, c)
		if err == nil {
			err = client.Close()
		}
		asked <- err
	}()
	select {
	case err = <-asked:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return o.explain(err)
	}
	return nil
}

// explain names the setting to fix when the brokers do not answer, or refuse this server.
func (o *Options) explain(err error) error {
	var broken *net.OpError
	switch {
	case errors.Is(err, sarama.ErrSASLAuthenticationFailed):
		return fmt.Errorf("the brokers refuse user %q (check bus.kafka.sasl): %w", o.SASL.User, err)
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return fmt.Errorf("the certificate of a broker is not trusted (check bus.kafka.tls.ca): %w", err)
	case errors.As(err, &broken) && broken.Op == "remote error": // an alert of TLS
		return fmt.Errorf("a broker requires a client certificate that it trusts (check bus.kafka.tls.cert): %w", err)
	case errors.As(err, new(tls.RecordHeaderError)), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("no broker answers; one closed the connection (check bus.kafka.tls and bus.kafka.sasl): %w", err)
	}
	return fmt.Errorf("no broker answers: %w", err)
}

// retryTemporary retries until ctx ends, as long as the error is temporary.
func retryTemporary(ctx context.Context, try func() error) error {
	for {
		err := try()
		if err == nil || !temporary(err) {
			return err
		}
		backoff := time.NewTimer(2 * backOff)
		select {
		case <-backoff.C:
		case <-ctx.Done():
			backoff.Stop()
			return err
		}
	}
}

// temporary reports whether an error may go away without an operator.
func temporary(err error) bool {
	for _, one := range []error{
		sarama.ErrUnknownTopicOrPartition, sarama.ErrLeaderNotAvailable, sarama.ErrNotLeaderForPartition, sarama.ErrOffsetNotAvailable, sarama.ErrNotController,
		sarama.ErrControllerNotAvailable, sarama.ErrRequestTimedOut, sarama.ErrBrokerNotAvailable, sarama.ErrConsumerCoordinatorNotAvailable, sarama.ErrOffsetsLoadInProgress,
	} {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}

// Inbox is the inbox of this node.
func (b *Bus) Inbox() bus.Inbox { return b.inbox }

// Topics are the topics beside the inbox.
func (b *Bus) Topics() bus.Topics { return b.topics }

// Stats are the counters of the inbox.
func (b *Bus) Stats() Stats { return b.inbox.counts.read(b.inbox) }

// Close refuses further messages, waits two seconds for writes in flight, and disconnects. What waits in the inbox can still be taken.
func (b *Bus) Close() error {
	b.closing.Do(func() { b.err = errors.Join(b.topics.close(), b.inbox.disconnect()) })
	return b.err
}
