package coap_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"callchain/transports"
	"callchain/transports/coap"
	"callchain/transports/transporttest"
)

// double is a device that observes its attributes from the beginning, so that it has a session, and its calls once it subscribes.
type double struct {
	*peer
	path     string
	commands chan transporttest.Received
	answers  chan transporttest.Answer
	updates  chan []byte
	ctx      context.Context // ends with the connection
	over     context.CancelFunc
	tasks    sync.WaitGroup

	mu      sync.Mutex
	waiting map[string]chan packet // by token, of requests
	state   map[int32]bool         // by id of confirmable messages: whether the double has acknowledged it
}

// The tokens of the two observations.
const (
	callsToken = "calls"
	attrsToken = "attrs"
)

// errClosed: the server has nothing more to say to the device.
var errClosed = errors.New("the double was told that it is an observer no longer")

func newDouble(t testing.TB, addr, token string) *double {
	d := &double{
		peer: newPeer(t, addr), path: "api/v1/" + token, commands: make(chan transporttest.Received, 64),
		answers: make(chan transporttest.Answer, 64), updates: make(chan []byte, 64), waiting: map[string]chan packet{}, state: map[int32]bool{},
	}
	d.ctx, d.over = context.WithCancel(context.Background())
	d.tasks.Go(func() {
		for p := range d.in {
			d.take(p)
		}
		d.over()
	})
	t.Cleanup(func() {
		d.over()
		d.close()
		d.tasks.Wait()
	})
	return d
}

// take handles a packet of the server.
func (d *double) take(p packet) {
	if p.Code == codes.Empty {
		if p.Type == message.Confirmable {
			d.rst(p.MessageID) // a ping
		}
		return
	}
	confirmable := p.Type == message.Confirmable
	if confirmable && d.known(p.MessageID) {
		return
	}
	token := string(p.Token)
	observes := p.number(message.Observe) >= 0
	d.mu.Lock()
	waiting := d.waiting[token]
	delete(d.waiting, token)
	d.mu.Unlock()
	switch {
	case waiting != nil:
		waiting <- p
	case token == callsToken && observes:
		d.tasks.Go(func() { d.command(p) })
		return // not acknowledged before Ack
	case token == attrsToken && observes:
		d.updates <- p.Payload
	case token == callsToken, token == attrsToken:
		d.over()
	}
	if confirmable {
		d.confirm(p.MessageID)
	}
}

// known answers a message again that came before, as it was answered before.
func (d *double) known(mid int32) bool {
	d.mu.Lock()
	acked, known := d.state[mid]
	if !known {
		d.state[mid] = false
	}
	d.mu.Unlock()
	if acked {
		d.ack(mid)
	}
	return known
}

func (d *double) confirm(mid int32) {
	d.mu.Lock()
	d.state[mid] = true
	d.mu.Unlock()
	d.ack(mid)
}

// command fetches the rest of a call and hands it on.
func (d *double) command(p packet) {
	body, err := d.whole(d.path+"/rpc", p)
	if err != nil {
		return // the device is gone
	}
	r, err := transporttest.Numbered(body)
	if err != nil {
		panic("the server sent " + err.Error())
	}
	r.Handle = p
	d.commands <- r
}

// whole is the payload that p begins.
func (d *double) whole(path string, p packet) ([]byte, error) {
	body := slices.Clone(p.Payload)
	for num := 1; p.number(message.Block2) >= 0 && p.number(message.Block2)&8 != 0; num++ {
		var err error
		if p, err = d.do(d.request(codes.GET, path, "", blockOpt(message.Block2, num, false, 6))); err != nil {
			return nil, err
		}
		if p.Code != codes.Content {
			return nil, fmt.Errorf("fetching block %d: %s", num, p)
		}
		body = append(body, p.Payload...)
	}
	return body, nil
}

// do sends a request, again and again, until it is answered.
func (d *double) do(m message.Message) (packet, error) {
	answer := make(chan packet, 1)
	d.mu.Lock()
	d.waiting[string(m.Token)] = answer
	d.mu.Unlock()
	again := time.NewTicker(time.Second)
	defer again.Stop()
	for {
		d.send(m)
		select {
		case p := <-answer:
			return p, nil
		case <-d.ctx.Done():
			return packet{}, errClosed
		case <-again.C:
		}
	}
}

// register observes, and fails with what else the server answers.
func (d *double) register(resource, token string) error {
	m := d.request(codes.GET, d.path+resource, "", opt(message.Observe, 0))
	m.Token = []byte(token)
	p, err := d.do(m)
	if err == nil && p.number(message.Observe) < 0 {
		err = fmt.Errorf("the server answers %s", p)
	}
	return err
}

func (d *double) Subscribe() error                        { return d.register("/rpc", callsToken) }
func (d *double) Commands() <-chan transporttest.Received { return d.commands }
func (d *double) Ack(r transporttest.Received)            { d.confirm(r.Handle.(packet).MessageID) }
func (d *double) Answers() <-chan transporttest.Answer    { return d.answers }
func (d *double) Updates() <-chan []byte                  { return d.updates }
func (d *double) Gone() <-chan struct{}                   { return d.ctx.Done() }
func (d *double) Drop()                                   { d.close() }
func (d *double) Stall()                                  {}
func (d *double) Resume()                                 {}

// tell sends a request in the background; another answer than want is an error, and the payload of that goes to then.
func (d *double) tell(m message.Message, want codes.Code, then func([]byte)) <-chan error {
	acked := make(chan error, 1)
	d.tasks.Go(func() {
		p, err := d.do(m)
		if err == nil && p.Code != want {
			err = fmt.Errorf("the server answers %s", p)
		}
		if err == nil && then != nil {
			then(p.Payload)
		}
		acked <- err
	})
	return acked
}

func (d *double) Reply(wire int32, payload []byte) <-chan error {
	return d.tell(d.request(codes.POST, fmt.Sprint(d.path, "/rpc/", wire), string(payload)), codes.Created, nil)
}

// Telemetry posts in blocks if the payload is long.
func (d *double) Telemetry(payload []byte) <-chan error {
	const size = 1024
	if len(payload) <= size {
		return d.tell(d.request(codes.POST, d.path+"/telemetry", string(payload)), codes.Created, nil)
	}
	acked := make(chan error, 1)
	d.tasks.Go(func() {
		for num := 0; ; num++ {
			part := payload[num*size : min((num+1)*size, len(payload))]
			more := (num+1)*size < len(payload)
			p, err := d.do(d.request(codes.POST, d.path+"/telemetry", string(part), blockOpt(message.Block1, num, more, 6)))
			if err == nil && more && p.Code == codes.Continue {
				continue
			}
			if err == nil && p.Code != codes.Created {
				err = fmt.Errorf("the server answers %s", p)
			}
			acked <- err
			return
		}
	})
	return acked
}

func (d *double) answer(body []byte) { d.answers <- transporttest.Answer{Payload: body} }

func (d *double) Call(_ int32, method, params string) <-chan error {
	m := d.request(codes.POST, d.path+"/rpc", fmt.Sprintf(`{"method":%q,"params":%s}`, method, params))
	return d.tell(m, codes.Content, d.answer)
}

func (d *double) AskAttributes(_ int32, client, shared string) <-chan error {
	return d.tell(d.request(codes.GET, d.path+"/attributes?clientKeys="+client+"&sharedKeys="+shared, ""), codes.Content, d.answer)
}

// Foreign posts to paths that no device has.
func (d *double) Foreign() bool {
	for _, path := range []string{d.path + "/claim", d.path, "api/v2/x/rpc", "api/v1/x/rpc/1/2", "", ".well-known/core"} {
		<-d.tell(d.request(codes.POST, path, "{}"), codes.Created, nil)
	}
	return true
}

// stated answers what the suite knows nothing of: a device that observes attributes is told their state first.
type stated struct {
	transports.Inbound
	mu    sync.Mutex
	links map[uuid.UUID]transports.Link
}

func (s *stated) Connect(one transports.Session, done func(error)) {
	s.mu.Lock()
	s.links[one.ID] = one.Link
	s.mu.Unlock()
	s.Inbound.Connect(one, done)
}

func (s *stated) RequestAttributes(session uuid.UUID, request int32, client, shared []string, done func(error)) {
	if client == nil || len(client) > 0 || !slices.Equal(shared, []string{""}) {
		s.Inbound.RequestAttributes(session, request, client, shared, done)
		return
	}
	s.mu.Lock()
	l := s.links[session]
	s.mu.Unlock()
	done(nil)
	l.AnswerAttributes(transports.AttributesAnswer{Request: request})
}

// cutOff are the cases in which a device is gone without a word.
var cutOff = regexp.MustCompile(`lost_while|ends_once`)

func TestTransport(t *testing.T) {
	transporttest.Run(t, transporttest.Fixture{
		Start: func(t testing.TB, auth transports.Authenticator, in transports.Inbound) transporttest.Dial {
			all := &stated{Inbound: in, links: map[uuid.UUID]transports.Link{}}
			_, addr, _ := start(t, auth, all, func(c *coap.Config) {
				if cutOff.MatchString(t.Name()) { // is missed within seconds; in the other cases the machine may be slow
					c.ProbeAfter, c.AckTimeout, c.MaxRetransmit = time.Second, 250*time.Millisecond, 2
				}
			})
			return func(token string) (transporttest.Device, error) {
				d := newDouble(t, addr, token)
				return d, d.register("/attributes", attrsToken)
			}
		},
		Features: transporttest.Features{
			Evidence: transports.EvidenceCoAPAck, Confirms: true, Connections: true, AnswersData: true, ClientCalls: true, AsksForData: true,
			UpdatesData: true, ReplyObjects: true, PayloadMax: coap.Default().MaxPayload, ForeignPaths: true,
		},
	})
}
