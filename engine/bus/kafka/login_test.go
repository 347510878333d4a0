package kafka_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"callchain/engine/bus/kafka"

	"github.com/IBM/sarama"
)

// authority vouches for certificates.
type authority struct {
	dir  string
	name string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T, dir, name string) *authority {
	t.Helper()
	a := &authority{dir: dir, name: name}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	var der []byte
	a.key, der = sign(t, template, nil)
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.write(t, name+".pem", &pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

// sign makes a key and its certificate; without an authority it vouches for itself.
func sign(t *testing.T, template *x509.Certificate, by *authority) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}

func (a *authority) write(t *testing.T, file string, blocks ...*pem.Block) string {
	t.Helper()
	var text []byte
	for _, b := range blocks {
		text = append(text, pem.EncodeToMemory(b)...)
	}
	path := filepath.Join(a.dir, file)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// ca is the file with the certificate of the authority.
func (a *authority) ca() string { return filepath.Join(a.dir, a.name+".pem") }

// vouch writes a certificate for 127.0.0.1, its key, and both in one file.
func (a *authority) vouch(t *testing.T, name string) (cert, key, both string) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	private, der := sign(t, template, a)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	c, k := &pem.Block{Type: "CERTIFICATE", Bytes: der}, &pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}
	return a.write(t, name+".crt", c), a.write(t, name+".key", k), a.write(t, name+".both", k, c)
}

// guarded is a broker of this test's own that lets nobody in without a password, or without a certificate.
type guarded struct {
	open     string // address where anybody may come in, to prepare it
	password string // SASL over TLS
	mutual   string // TLS with a certificate of the client
	ours     *authority
}

const scripts = "../../../scripts/"

// guardedBroker starts it, and ends it with the test.
func guardedBroker(t *testing.T) *guarded {
	t.Helper()
	if os.Getenv("CALLCHAIN_TEST_KAFKA_CTL") == "" {
		t.Skip("CALLCHAIN_TEST_KAFKA_CTL is not set: only where tests may stop brokers do they start one of their own")
	}
	if out, err := exec.Command(scripts + "kafka-jars.sh").CombinedOutput(); err != nil {
		t.Skipf("Kafka cannot be had: %v\n%s", err, out)
	}
	if _, err := exec.LookPath("java"); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	g := &guarded{ours: newAuthority(t, dir, "ours")}
	_, _, keys := g.ours.vouch(t, "broker")
	ports := freePorts(t, 4)
	address := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", ports[i]) }
	g.open, g.password, g.mutual = address(0), address(2), address(3)
	if err := os.WriteFile(filepath.Join(dir, "ports"), fmt.Appendf(nil, "%d %d\n", ports[0], ports[1]), 0o600); err != nil {
		t.Fatal(err)
	}
	clients := "CLIENT://" + g.open + ",PASSWORD://" + g.password + ",MUTUAL://" + g.mutual
	const end = `\u003b` // a semicolon, for kafka-up.sh parts the lines by it
	extra := strings.Join([]string{
		"listeners=" + clients + ",CONTROL://" + address(1), "advertised.listeners=" + clients,
		"listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROL:PLAINTEXT,PASSWORD:SASL_SSL,MUTUAL:SSL",
		"ssl.keystore.type=PEM", "ssl.keystore.location=" + keys, "ssl.truststore.type=PEM", "ssl.truststore.location=" + g.ours.ca(),
		"listener.name.mutual.ssl.client.auth=required",
		"listener.name.password.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
		`listener.name.password.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_plain="right"` + end,
		"listener.name.password.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required" + end,
		"listener.name.password.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required" + end,
	}, ";")
	start := exec.Command(scripts+"kafka-up.sh", dir)
	start.Env = append(os.Environ(), "KAFKA_EXTRA="+extra, "KAFKA_HEAP=256m", "KAFKA_JAVA=-XX:TieredStopAtLevel=1")
	t.Cleanup(func() {
		if out, err := exec.Command(scripts+"kafka-down.sh", dir, "kill").CombinedOutput(); err != nil {
			t.Errorf("ending the broker: %v\n%s", err, out)
		}
	})
	if out, err := start.CombinedOutput(); err != nil {
		t.Fatalf("starting a broker: %v\n%s", err, out)
	}
	g.users(t)
	return g
}

// freePorts are ports that nothing listens on.
func freePorts(t *testing.T, count int) []int {
	t.Helper()
	ports := make([]int, count)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // at the end, so that no port is found twice
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports
}

// users makes the users of SCRAM, and waits until the broker knows them.
func (g *guarded) users(t *testing.T) {
	t.Helper()
	c := sarama.NewConfig()
	c.Version = sarama.V2_8_0_0
	admin, err := sarama.NewClusterAdmin([]string{g.open}, c)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	names := map[string]sarama.ScramMechanismType{"scram-sha-256": sarama.SCRAM_MECHANISM_SHA_256, "scram-sha-512": sarama.SCRAM_MECHANISM_SHA_512}
	var all []sarama.AlterUserScramCredentialsUpsert
	for name, mechanism := range names {
		all = append(all, sarama.AlterUserScramCredentialsUpsert{Name: name, Mechanism: mechanism, Iterations: 4096, Salt: []byte("salt of 16 bytes"), Password: []byte("right")})
	}
	results, err := admin.UpsertUserScramCredentials(all)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.ErrorCode != sarama.ErrNoError {
			t.Fatalf("user %s: %v", r.User, r.ErrorCode)
		}
	}
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for name := range names {
		for deadline := time.Now().Add(10 * time.Second); ; <-look.C {
			b, err := kafka.Open(context.Background(), g.options(t, g.password, name))
			if err == nil {
				if err := b.Close(); err != nil {
					t.Error(err)
				}
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s is not let in: %v", name, err)
			}
		}
	}
}

// options are those of a client that is let in.
func (g *guarded) options(t *testing.T, address, mechanism string) kafka.Options {
	s := site{brokers: []string{address}, prefix: "guarded."}
	o := s.options(t)
	o.Partitions = 1
	o.TLS = kafka.TLS{Enabled: true, CA: g.ours.ca()}
	o.SASL = kafka.SASL{Mechanism: mechanism, User: mechanism, Password: "right"}
	return o
}

// Who has the right password, or certificate, is let in, and everything works; all others get an error that says what is wrong, and where to fix it. The password
// is given to nobody.
func TestLogin(t *testing.T) {
	g := guardedBroker(t)
	theirs := newAuthority(t, t.TempDir(), "theirs")
	cert, key, _ := g.ours.vouch(t, "client")
	theirCert, theirKey, _ := theirs.vouch(t, "stranger")
	with := func(cert, key string) func(*kafka.Options) {
		return func(o *kafka.Options) { o.TLS.Cert, o.TLS.Key = cert, key }
	}
	none := func(*kafka.Options) {}
	foreign := func(o *kafka.Options) { o.TLS.CA = theirs.ca() }
	wrong := func(o *kafka.Options) { o.SASL.Password = "wr0ng-passw0rd" }
	const login, vouched, ours = "bus.kafka.sasl", "bus.kafka.tls.ca", "bus.kafka.tls.cert"
	for _, c := range []struct {
		name, address, mechanism string
		spoil                    func(*kafka.Options)
		want                     string // empty: it is let in
	}{
		{"PLAIN", g.password, "plain", none, ""},
		{"SCRAM-SHA-256", g.password, "scram-sha-256", none, ""},
		{"SCRAM-SHA-512", g.password, "scram-sha-512", none, ""},
		{"PLAIN, wrong password", g.password, "plain", wrong, login},
		{"SCRAM-SHA-256, wrong password", g.password, "scram-sha-256", wrong, login},
		{"SCRAM-SHA-512, wrong password", g.password, "scram-sha-512", wrong, login},
		{"SCRAM-SHA-512, unknown user", g.password, "scram-sha-512", func(o *kafka.Options) { o.SASL.User = "nobody" }, login},
		{"no login", g.password, "none", none, login},
		{"a foreign authority", g.password, "plain", foreign, vouched},
		{"no TLS", g.password, "plain", func(o *kafka.Options) { o.TLS = kafka.TLS{} }, "bus.kafka.tls"},
		{"TLS where there is none", g.open, "none", none, "bus.kafka.tls"},
		{"a certificate", g.mutual, "none", with(cert, key), ""},
		{"no certificate", g.mutual, "none", none, ours},
		{"a certificate of a foreign authority", g.mutual, "none", with(theirCert, theirKey), ours},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := g.options(t, c.address, c.mechanism)
			c.spoil(&o)
			began := time.Now()
			b, err := kafka.Open(context.Background(), o)
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				defer func() {
					if err := b.Close(); err != nil {
						t.Error(err)
					}
				}()
				serves(t, b)
				return
			}
			wantError(t, err, c.want)
			t.Log(time.Since(began), err)
			if strings.Contains(err.Error(), o.SASL.Password) && o.SASL.Password != "right" {
				t.Errorf("%v contains the password", err)
			}
		})
	}
}
