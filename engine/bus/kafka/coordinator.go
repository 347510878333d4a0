package kafka

import (
	"context"
	"net"
	"time"

	"github.com/IBM/sarama"
)

// coordinator has the connections to the broker that coordinates a group. Its connections end with their context, whatever they wait for.
type coordinator struct {
	group          string
	config         *sarama.Config // of requests that are answered at once
	blockingConfig *sarama.Config // of those that are answered when all members have joined
	brokers        []string
	client         sarama.Client
	immediate      *sarama.Broker
	blocking       *sarama.Broker
}

const (
	coordinatorDialTimeout = time.Second
	coordinatorTimeout     = 2 * time.Second
)

func newCoordinator(ctx context.Context, o *Options, group string) (*coordinator, error) {
	config, err := o.config("owners")
	if err != nil {
		return nil, err
	}
	config.Metadata.Retry.Max, config.Metadata.RefreshFrequency = 0, 0
	config.Net.ReadTimeout, config.Net.WriteTimeout = coordinatorTimeout, coordinatorTimeout
	config.Net.Proxy.Enable, config.Net.Proxy.Dialer = true, dialer{ctx, o.dial}
	blocking := *config
	blocking.Net.ReadTimeout = groupRebalance + coordinatorTimeout
	return &coordinator{group: group, config: config, blockingConfig: &blocking, brokers: o.Brokers}, nil
}

// send sends a request that is answered at once.
func (c *coordinator) send(request func(*sarama.Broker) error) error {
	return c.sendOver(&c.immediate, c.config, request)
}

// sendBlocking sends a request that is answered when all members have joined.
func (c *coordinator) sendBlocking(request func(*sarama.Broker) error) error {
	return c.sendOver(&c.blocking, c.blockingConfig, request)
}

func (c *coordinator) sendOver(connection **sarama.Broker, config *sarama.Config, request func(*sarama.Broker) error) error {
	if *connection == nil {
		address, err := c.address()
		if err != nil {
			return err
		}
		b := sarama.NewBroker(address)
		if err := b.Open(config); err != nil {
			return err
		}
		*connection = b
	}
	return request(*connection)
}

// address is the address of the broker that coordinates the group now.
func (c *coordinator) address() (string, error) {
	if c.client == nil || c.client.Closed() {
		client, err := sarama.NewClient(c.brokers, c.config)
		if err != nil {
			return "", err
		}
		c.client = client
	}
	if err := c.client.RefreshCoordinator(c.group); err != nil {
		return "", err
	}
	b, err := c.client.Coordinator(c.group)
	if err != nil {
		return "", err
	}
	return b.Addr(), nil
}

// disconnect closes the connections: the next request looks up the coordinator again.
func (c *coordinator) disconnect() {
	for _, b := range []*sarama.Broker{c.immediate, c.blocking} {
		if b != nil {
			_ = b.Close() // it may be closed already
		}
	}
	if c.client != nil {
		_ = c.client.Close() // likewise
	}
	c.immediate, c.blocking, c.client = nil, nil, nil
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
		dial = (&net.Dialer{Timeout: coordinatorDialTimeout}).DialContext
	}
	conn, err := dial(d.ctx, network, address)
	if err != nil {
		return nil, err
	}
	return contextConn{conn, context.AfterFunc(d.ctx, func() { _ = conn.Close() })}, nil // a read from it fails then
}

// contextConn is a connection that a context closes.
type contextConn struct {
	net.Conn
	stop func() bool
}

// Close implements net.Conn.
func (c contextConn) Close() error {
	c.stop()
	return c.Conn.Close()
}
