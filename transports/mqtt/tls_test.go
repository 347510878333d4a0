package mqtt_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"testing"
	"time"

	"callchain/transports"
	"callchain/transports/mqtt"
	"callchain/transports/mqtt/mqttclient"
	"callchain/transports/transporttest"
)

// certificate makes a certificate for 127.0.0.1 that signs itself.
func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}
}

// A listener with TLS serves as any other: a call, its answer, and the code that says why the session ended.
func TestTLS(t *testing.T) {
	cert := certificate(t)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	engine := transporttest.NewEngine()
	s, err := mqtt.New(mqtt.Default(), engine, engine, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	pool := x509.NewCertPool()
	parsed, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(parsed)
	nc, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{RootCAs: pool})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 1)
	c, err := mqttclient.Open(t.Context(), nc, mqttclient.Options{
		Token: "device", Version: mqttclient.V5,
		OnPublish: func(_ *mqttclient.Client, m mqttclient.Message) { got <- string(m.Topic) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Drop()
	link := engine.Session(t, "device").Link
	link.Send(command(4))
	if topic := <-got; topic != commandTopic+"4" {
		t.Fatalf("%s came", topic)
	}
	engine.Next(t, transporttest.Acknowledged)
	link.Close(transports.ReasonCredentials)
	<-c.Done()
	if err := c.Err(); !errors.Is(err, mqttclient.Code{Packet: "DISCONNECT", Value: 0x98}) {
		t.Fatalf("ended with %v", err)
	}
}
