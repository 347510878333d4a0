package coap_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/udp/coder"
	"go.uber.org/goleak"

	"callchain/transports"
	"callchain/transports/coap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what has to happen.
const patience = 20 * time.Second

// start runs a server until the test ends, with limits as change leaves them, and returns a function that ends it earlier. After the
// end nothing of any peer is left.
func start(t testing.TB, auth transports.Authenticator, in transports.Inbound, change func(*coap.Config)) (*coap.Server, string, func()) {
	t.Helper()
	cfg := coap.Default()
	if change != nil {
		change(&cfg)
	}
	s, err := coap.New(cfg, auth, in, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, conn) }()
	var stopped atomic.Bool
	stop := func() {
		cancel()
		if stopped.Swap(true) {
			return
		}
		if err := <-served; err != nil {
			t.Errorf("serving: %v", err)
		}
		if st := s.Stats(); st.Endpoints != 0 || st.Sessions != 0 || st.Observers != 0 {
			t.Errorf("after the end there are %d peers, %d sessions and %d observations", st.Endpoints, st.Sessions, st.Observers)
		}
		if _, err := conn.WriteTo(nil, conn.LocalAddr()); err == nil {
			t.Error("after the end the socket is open")
		}
	}
	t.Cleanup(stop)
	return s, conn.LocalAddr().String(), stop
}

// packet is what a peer gets.
type packet struct{ message.Message }

func (p packet) String() string {
	text := fmt.Sprintf("%s %s mid=%d token=%x", p.Type, p.Code, p.MessageID, []byte(p.Token))
	for _, o := range p.Options {
		text += fmt.Sprintf(" %d:%x", o.ID, o.Value)
	}
	return text + fmt.Sprintf(" %.120q", p.Payload)
}

// number is the value of an option, -1 if it is absent.
func (p packet) number(id message.OptionID) int64 {
	v, err := p.Options.GetUint32(id)
	if err != nil {
		return -1
	}
	return int64(v)
}

// peer is a socket on which a test says exactly what it wants to. It answers nothing by itself.
type peer struct {
	conn  *net.UDPConn
	in    chan packet // closed when the socket is
	mid   atomic.Uint32
	known []packet // see passOver
}

func newPeer(t testing.TB, addr string) *peer {
	t.Helper()
	nc, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{conn: nc.(*net.UDPConn), in: make(chan packet, 4096)}
	p.mid.Store(1000)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.read()
	}()
	t.Cleanup(func() {
		p.close()
		<-ended
	})
	return p
}

// close is allowed twice.
func (p *peer) close() {
	// A second time it fails, which is what was wanted.
	_ = p.conn.Close()
}

func (p *peer) read() {
	defer close(p.in)
	buf := make([]byte, 65536)
	for {
		n, err := p.conn.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // the server is gone already
		}
		m := message.Message{Options: make(message.Options, 0, 32)}
		if _, err := coder.DefaultCoder.Decode(bytes.Clone(buf[:n]), &m); err != nil {
			panic(fmt.Sprintf("the server sent %x: %v", buf[:n], err))
		}
		select {
		case p.in <- packet{m}:
		default:
			panic("the server sends more than a test can have asked for")
		}
	}
}

// raw sends bytes.
func (p *peer) raw(b []byte) {
	// A datagram may be lost anyhow; the test sees what does not come.
	_, _ = p.conn.Write(b)
}

func (p *peer) send(m message.Message) {
	buf := make([]byte, len(m.Payload)+2048)
	n, err := coder.DefaultCoder.Encode(m, buf)
	if err != nil {
		panic(err)
	}
	p.raw(buf[:n])
}

func (p *peer) ack(mid int32) { p.send(message.Message{Type: message.Acknowledgement, MessageID: mid}) }
func (p *peer) rst(mid int32) { p.send(message.Message{Type: message.Reset, MessageID: mid}) }

// opt is an option with a number.
func opt(id message.OptionID, value uint32) message.Option {
	var b [4]byte
	n, err := message.EncodeUint32(b[:], value)
	if err != nil {
		panic(err)
	}
	return message.Option{ID: id, Value: b[:n]}
}

// blockOpt is a Block1 or Block2 option.
func blockOpt(id message.OptionID, num int, more bool, szx uint32) message.Option {
	v := uint32(num)<<4 | szx
	if more {
		v |= 8
	}
	return opt(id, v)
}

// request makes a confirmable request with a fresh message id and a token of its own. The path may have a query.
func (p *peer) request(code codes.Code, path, body string, opts ...message.Option) message.Message {
	mid := int32(uint16(p.mid.Add(1)))
	var all message.Options
	path, query, _ := strings.Cut(path, "?")
	for s := range strings.SplitSeq(path, "/") {
		all = all.Add(message.Option{ID: message.URIPath, Value: []byte(s)})
	}
	if query != "" {
		for q := range strings.SplitSeq(query, "&") {
			all = all.Add(message.Option{ID: message.URIQuery, Value: []byte(q)})
		}
	}
	for _, o := range opts {
		all = all.Add(o)
	}
	return message.Message{
		Type: message.Confirmable, Code: code, MessageID: mid, Token: fmt.Appendf(nil, "t%d", mid), Options: all, Payload: []byte(body),
	}
}

// passOver makes hear pass over repetitions of a message, which come when the machine is slow.
func (p *peer) passOver(m packet) { p.known = append(p.known, m) }

// hear waits for the next packet that is not passed over, whatever it is.
func (p *peer) hear(t testing.TB) packet {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case m, ok := <-p.in:
			if !ok {
				t.Fatal("the socket is closed")
			}
			if !slices.ContainsFunc(p.known, func(known packet) bool { return same(known, m) }) {
				return m
			}
		case <-late:
			t.Fatal("no packet came")
		}
	}
}

// ask sends a request and waits for its piggy-backed answer. Nothing else may come before that.
func (p *peer) ask(t testing.TB, m message.Message) packet {
	t.Helper()
	p.send(m)
	a := p.hear(t)
	if !bytes.Equal(a.Token, m.Token) || a.Type != message.Acknowledgement || a.MessageID != m.MessageID {
		t.Fatalf("the answer to mid=%d token=%x is %s", m.MessageID, []byte(m.Token), a)
	}
	return a
}

// observe registers with a token and waits until the server agrees.
func (p *peer) observe(t testing.TB, path, token string) packet {
	t.Helper()
	m := p.request(codes.GET, path, "", opt(message.Observe, 0))
	m.Token = []byte(token)
	a := p.ask(t, m)
	if a.number(message.Observe) < 0 {
		t.Fatalf("registering is answered %s", a)
	}
	return a
}
