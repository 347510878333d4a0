// Package kafka is the bus on Kafka: the inbox that remembers, and the topics beside it.
//
// What is put into the inbox is written to a topic a lane and acknowledged when the brokers have it; what is taken was read from there, from
// exactly the position that the owner's last append names. It knows bytes and positions; what a command is, its Codec knows.
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
	most, err := o.prepareTopics(ctx)
	if err != nil {
		return nil, err
	}
	b := &Bus{options: o}
	if b.inbox, err = openInbox(ctx, &b.options, most.commands()); err != nil {
		return nil, err
	}
	if err = b.inbox.settle(ctx); err != nil {
		return nil, errors.Join(err, b.inbox.end())
	}
	if b.topics, err = openTopics(&b.options, most); err != nil {
		return nil, errors.Join(err, b.inbox.end())
	}
	return b, nil
}

// prepareTopics tries until ctx ends: brokers that were just started may not know their controller yet.
func (o *Options) prepareTopics(ctx context.Context) (most limits, err error) {
	if err := o.reach(ctx); err != nil {
		return most, err
	}
	c, err := o.config("admin")
	if err != nil {
		return most, err
	}
	created := map[string]bool{}
	err = insist(ctx, func() error {
		admin, err := sarama.NewClusterAdmin(o.Brokers, c)
		if err != nil {
			return fmt.Errorf("no broker answers: %w", err)
		}
		most, err = o.prepare(admin, created)
		return errors.Join(err, admin.Close())
	})
	return most, err
}

// reach asks whether a broker answers at all, with less patience than work needs.
func (o *Options) reach(ctx context.Context) error {
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

// explain says what to mend when brokers do not answer, or do not let this server in.
func (o *Options) explain(err error) error {
	var broken *net.OpError
	switch {
	case errors.Is(err, sarama.ErrSASLAuthenticationFailed):
		return fmt.Errorf("the brokers do not let user %q in (bus.kafka.sasl): %w", o.SASL.User, err)
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return fmt.Errorf("nobody vouches for the certificate of a broker (bus.kafka.tls.ca): %w", err)
	case errors.As(err, &broken) && broken.Op == "remote error": // an alert of TLS
		return fmt.Errorf("a broker refuses this server's certificate, or that there is none (bus.kafka.tls.cert): %w", err)
	case errors.As(err, new(tls.RecordHeaderError)), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("no broker answers; one hangs up, as it does when it wants bus.kafka.tls or bus.kafka.sasl to be otherwise: %w", err)
	}
	return fmt.Errorf("no broker answers: %w", err)
}

// insist tries again while ctx lasts and the error may pass by itself.
func insist(ctx context.Context, try func() error) error {
	for {
		err := try()
		if err == nil || !temporary(err) {
			return err
		}
		again := time.NewTimer(2 * backOff)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return err
		}
	}
}

// temporary tells errors that may pass by themselves.
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

// Stats counts what passed.
func (b *Bus) Stats() Stats { return b.inbox.counts.read(b.inbox) }

// Close refuses further messages, waits two seconds for writes under way, and disconnects. What waits in the inbox can still be taken.
func (b *Bus) Close() error {
	b.closing.Do(func() { b.err = errors.Join(b.topics.close(), b.inbox.end()) })
	return b.err
}
