package kafka

import (
	"context"
	"net"
	"time"

	"github.com/IBM/sarama"
)

// line is the way to the broker that coordinates a group. Its connections end with their context, whatever they wait for.
type line struct {
	group    string
	config   *sarama.Config // of requests that are answered at once
	patient  *sarama.Config // of those that are answered when all members have joined
	brokers  []string
	client   sarama.Client
	prompt   *sarama.Broker
	patients *sarama.Broker
}

const (
	lineDial   = time.Second
	linePrompt = 2 * time.Second
)

func newLine(ctx context.Context, o *Options, group string) (*line, error) {
	c, err := o.config("owners")
	if err != nil {
		return nil, err
	}
	c.Metadata.Retry.Max, c.Metadata.RefreshFrequency = 0, 0
	c.Net.ReadTimeout, c.Net.WriteTimeout = linePrompt, linePrompt
	c.Net.Proxy.Enable, c.Net.Proxy.Dialer = true, dialer{ctx, o.dial}
	patient := *c
	patient.Net.ReadTimeout = groupRebalance + linePrompt
	return &line{group: group, config: c, patient: &patient, brokers: o.Brokers}, nil
}

// quick sends a request that is answered at once.
func (l *line) quick(ask func(*sarama.Broker) error) error { return l.send(&l.prompt, l.config, ask) }

// wait sends a request that is answered when all members have joined.
func (l *line) wait(ask func(*sarama.Broker) error) error { return l.send(&l.patients, l.patient, ask) }

func (l *line) send(over **sarama.Broker, c *sarama.Config, ask func(*sarama.Broker) error) error {
	if *over == nil {
		address, err := l.coordinator()
		if err != nil {
			return err
		}
		b := sarama.NewBroker(address)
		if err := b.Open(c); err != nil {
			return err
		}
		*over = b
	}
	return ask(*over)
}

// coordinator is the address of the broker that coordinates the group now.
func (l *line) coordinator() (string, error) {
	if l.client == nil || l.client.Closed() {
		client, err := sarama.NewClient(l.brokers, l.config)
		if err != nil {
			return "", err
		}
		l.client = client
	}
	if err := l.client.RefreshCoordinator(l.group); err != nil {
		return "", err
	}
	b, err := l.client.Coordinator(l.group)
	if err != nil {
		return "", err
	}
	return b.Addr(), nil
}

// forget closes the connections: the next request looks for the coordinator anew.
func (l *line) forget() {
	for _, b := range []*sarama.Broker{l.prompt, l.patients} {
		if b != nil {
			_ = b.Close() // it may be closed already
		}
	}
	if l.client != nil {
		_ = l.client.Close() // likewise
	}
	l.prompt, l.patients, l.client = nil, nil, nil
}

// dialer makes connections that end with its context.
type dialer struct {
	ctx context.Context //nolint:containedctx // the library's interface has none
	via func(ctx context.Context, network, address string) (net.Conn, error)
}

// Dial implements the dialer of golang.org/x/net/proxy.
func (d dialer) Dial(network, address string) (net.Conn, error) {
	dial := d.via
	if dial == nil {
		dial = (&net.Dialer{Timeout: lineDial}).DialContext
	}
	conn, err := dial(d.ctx, network, address)
	if err != nil {
		return nil, err
	}
	return bound{conn, context.AfterFunc(d.ctx, func() { _ = conn.Close() })}, nil // whoever reads from it is told
}

// bound is a connection that a context closes.
type bound struct {
	net.Conn
	free func() bool
}

// Close implements net.Conn.
func (b bound) Close() error {
	b.free()
	return b.Conn.Close()
}
