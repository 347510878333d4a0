package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"callchain/engine/bus"

	"github.com/IBM/sarama"
	"github.com/rcrowley/go-metrics"
)

// Options are the brokers, how to log in there, and what the topics are like.
type Options struct {
	Brokers     []string // host:port
	Prefix      string   // before the name of every topic
	Node        string   // this process among others; the client id that brokers show
	Partitions  int32
	Replication int16  // of topics that are created; 0: as the brokers are set
	Resume      string // ResumeStrict or ResumeOldest
	TLS         TLS
	SASL        SASL
	Most        int // messages of a lane that wait to be taken, and as many that wait to be written
	Codec       bus.Codec
	Log         *slog.Logger

	dial func(ctx context.Context, network, address string) (net.Conn, error) // how the group's connections are made; nil: as usual
}

// What Begin does with a position that a topic does not have any more.
const (
	ResumeStrict = "strict" // it fails with *bus.LostError
	ResumeOldest = "oldest" // it warns, and continues with what is there
)

// TLS secures the connections. The brokers' certificates are always checked.
type TLS struct {
	Enabled   bool
	CA        string // file, PEM; empty: the CAs of the system
	Cert, Key string // files, PEM; empty: none
}

// SASL is the login to the brokers.
type SASL struct {
	Mechanism string // "none", "plain", "scram-sha-256", "scram-sha-512"
	User      string
	Password  string
}

// MessageBytesMax bounds one message. The largest body that REST takes fits.
const MessageBytesMax = 20 << 20

// Timeouts and backoff: they decide how soon an outage is detected and how soon it ends.
const (
	dialTimeout  = 3 * time.Second
	probeTimeout = 2 * time.Second // of one request of probe
	ackTimeout   = 3 * time.Second // of the replicas
	ioTimeout    = 5 * time.Second // of one request
	backOff      = 100 * time.Millisecond
)

// config is what all clients of this package have in common.
func (o *Options) config(purpose string) (*sarama.Config, error) {
	c := sarama.NewConfig()
	c.ClientID = "callchain-" + o.Node + "-" + purpose
	c.Version = sarama.V2_8_0_0 // the first with topic ids; newer brokers speak it
	c.Net.DialTimeout, c.Net.ReadTimeout, c.Net.WriteTimeout = dialTimeout, ioTimeout, ioTimeout
	c.Metadata.Retry.Max, c.Metadata.Retry.Backoff = 1, backOff
	c.Metadata.RefreshFrequency = 30 * time.Second
	c.Metadata.AllowAutoTopicCreation = false
	c.Admin.Timeout = ioTimeout
	c.MetricRegistry = noMetrics{metrics.NewRegistry()}
	if err := o.security(c); err != nil {
		return nil, err
	}
	return c, nil
}

func (o *Options) security(c *sarama.Config) error {
	if o.TLS.Enabled {
		conf, err := o.TLS.config()
		if err != nil {
			return err
		}
		c.Net.TLS.Enable, c.Net.TLS.Config = true, conf
	}
	if o.SASL.Mechanism == "" || o.SASL.Mechanism == "none" {
		return nil
	}
	c.Net.SASL.Enable, c.Net.SASL.Handshake = true, true
	c.Net.SASL.User, c.Net.SASL.Password = o.SASL.User, o.SASL.Password
	switch o.SASL.Mechanism {
	case "plain":
		c.Net.SASL.Mechanism = sarama.SASLTypePlaintext
	case "scram-sha-256":
		c.Net.SASL.Mechanism, c.Net.SASL.SCRAMClientGeneratorFunc = sarama.SASLTypeSCRAMSHA256, scram256
	case "scram-sha-512":
		c.Net.SASL.Mechanism, c.Net.SASL.SCRAMClientGeneratorFunc = sarama.SASLTypeSCRAMSHA512, scram512
	default:
		return fmt.Errorf("SASL mechanism %q is not known", o.SASL.Mechanism)
	}
	return nil
}

func (t *TLS) config() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("reading bus.kafka.tls.ca: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM form", t.CA)
		}
	}
	if t.Cert == "" {
		return conf, nil
	}
	pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("reading bus.kafka.tls.cert and bus.kafka.tls.key: %w", err)
	}
	conf.Certificates = []tls.Certificate{pair}
	return conf, nil
}

// consumerConfig is for clients that read. MaxWaitTime delays no message; it only bounds how long closing takes.
func (o *Options) consumerConfig(purpose string) (*sarama.Config, error) {
	c, err := o.config(purpose)
	if err != nil {
		return nil, err
	}
	c.Consumer.MaxWaitTime = 100 * time.Millisecond
	c.Consumer.Fetch.Min = 1
	c.Consumer.Retry.Backoff = 2 * backOff
	c.Consumer.Return.Errors = true
	c.ChannelBufferSize = 64
	return c, nil
}

func (o *Options) check() error {
	switch {
	case len(o.Brokers) == 0:
		return errors.New("no broker is named")
	case o.Codec == nil || o.Log == nil:
		return errors.New("kafka: Options need a Codec and a Log")
	case o.Partitions < 1 || o.Most < 1:
		return errors.New("kafka: Options need partitions and a bound")
	}
	return nil
}
