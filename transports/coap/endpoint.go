package coap

import (
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/message/pool"
	coapnet "github.com/plgd-dev/go-coap/v3/net"
	netclient "github.com/plgd-dev/go-coap/v3/net/client"
	"github.com/plgd-dev/go-coap/v3/udp/client"
)

// endpoint is a peer: an address and a port. It outlives go-coap's connection, which ends with the first packet that cannot be
// decoded: whoever forges one must not end what a device observes.
type endpoint struct {
	srv  *Server
	addr *net.UDPAddr
	key  string

	mu        sync.Mutex // never held during a call to the engine or to the network
	cc        *client.Conn
	ended     bool
	known     bool // it has shown a good token
	heard     time.Time
	working   int // requests that wait for the engine
	held      int // observations
	mid       uint16
	seen      []*delivery // the last messages of the peer, a ring
	next      int         // place in it
	exchanges map[uint16]*exchange
	loose     []loose // the last messages that ask for no ACK, and can be answered with a RST all the same
	uploads   []*upload
	downloads []*download
}

// delivery is a message that the peer has sent, and how it was answered.
type delivery struct {
	mid    uint16
	at     time.Time
	packet []byte // sent again when the message comes again; nil while there is none
	from   *coapnet.ControlMessage
}

// loose is a non-confirmable message of the server.
type loose struct {
	mid  uint16
	over func(outcome, time.Time) // called once if a RST comes
}

// looseMost is how many of them are remembered.
const looseMost = 8

// sendLoose writes a non-confirmable message; over hears of a RST (RFC 7641, section 3.6).
func (ep *endpoint) sendLoose(from *coapnet.ControlMessage, mid uint16, packet []byte, over func(outcome, time.Time)) error {
	ep.mu.Lock()
	if len(ep.loose) == looseMost {
		ep.loose = slices.Delete(ep.loose, 0, 1)
	}
	ep.loose = append(ep.loose, loose{mid, over})
	ep.mu.Unlock()
	return ep.send(from, packet)
}

func newEndpoint(s *Server, cc *client.Conn, addr *net.UDPAddr, now time.Time) *endpoint {
	return &endpoint{srv: s, cc: cc, addr: addr, key: addr.String(), heard: now, mid: uint16(rand.Uint32())} //nolint:gosec // no secret: it has to differ from the last run's
}

// nextMID is the id of the next message to this peer. A random start keeps a restarted server from repeating ids that the peer
// still remembers.
func (ep *endpoint) nextMID() uint16 {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	for {
		ep.mid++
		if _, used := ep.exchanges[ep.mid]; !used {
			return ep.mid
		}
	}
}

// send writes a datagram. What does not leave is as lost as what is lost on the way.
func (ep *endpoint) send(from *coapnet.ControlMessage, packet []byte) error {
	err := ep.srv.socket.WriteWithOptions(packet, coapnet.WithRemoteAddr(ep.addr), coapnet.WithControlMessage(from))
	if err == nil {
		ep.srv.count.packetsOut.Add(1)
	}
	return err
}

// monitor sees each packet of the peer in the server's one reading loop and tells whether to drop it. It must not wait.
func (l *line) monitor(m *pool.Message) (drop bool) {
	ep := l.ep
	ep.srv.count.packetsIn.Add(1)
	now := time.Now()
	ep.mu.Lock()
	ep.heard = now
	ep.mu.Unlock()
	switch kind := m.Type(); {
	case m.IsPing(false):
		return false // go-coap answers it with a RST
	case kind == message.Acknowledgement:
		ep.settle(uint16(m.MessageID()), acked)
		return true
	case kind == message.Reset:
		ep.settle(uint16(m.MessageID()), reset)
		return true
	case l.queued.Add(1) > queueSize:
		l.queued.Add(-1)
		ep.srv.count.dropped.Add(1)
		return true
	}
	return false
}

// receive handles a confirmable or non-confirmable message, in the order in which the peer's came.
func (ep *endpoint) receive(m *pool.Message) {
	mid := uint16(m.MessageID())
	ep.mu.Lock()
	d, repeated := ep.remember(mid)
	var again []byte
	if repeated {
		again = d.packet
	}
	busy := !repeated && ep.working >= ep.srv.cfg.Requests
	if busy {
		ep.forget(d) // it may come again
	} else if !repeated {
		ep.working++
	}
	ep.mu.Unlock()
	switch {
	case repeated:
		ep.srv.count.duplicates.Add(1)
		if again != nil {
			_ = ep.send(d.from, again) // the peer asks again if this is lost, too
		}
	case busy:
		ep.srv.count.dropped.Add(1)
	default:
		ep.take(m, d)
	}
}

// take handles a message that came for the first time.
func (ep *endpoint) take(m *pool.Message, d *delivery) {
	r := newRequest(ep, m, d)
	switch {
	case m.Code() < codes.GET || m.Code() > lastMethod:
		r.reject() // a response that nobody waits for, or nonsense (RFC 7252, section 4.2)
		return
	case len(netclient.GetUnknownCriticalOptions(m.Options())) > 0:
		r.reject() // go-coap answers confirmable ones with 4.02; others are dropped (RFC 7252, section 5.4.1)
		return
	}
	r.waits()
	r.handle(m)
}

// lastMethod is the highest code of class 0, the requests.
const lastMethod = codes.Code(31)

// remember finds the message with this id or makes room for it.
func (ep *endpoint) remember(mid uint16) (d *delivery, repeated bool) {
	now := time.Now()
	for _, d := range ep.seen {
		if d.mid == mid && now.Sub(d.at) < exchangeLifetime {
			return d, true
		}
	}
	d = &delivery{mid: mid, at: now}
	if len(ep.seen) < ep.srv.cfg.Duplicates {
		ep.seen = append(ep.seen, d)
	} else {
		ep.seen[ep.next%len(ep.seen)] = d
		ep.next++
	}
	return d, false
}

// exchangeLifetime is EXCHANGE_LIFETIME of RFC 7252, section 4.8.2: no message id is used again before it.
const exchangeLifetime = 247 * time.Second

func (ep *endpoint) forget(d *delivery) {
	for i := range ep.seen {
		if ep.seen[i] == d {
			ep.seen[i] = &delivery{} // of the year 1: no message has this id
		}
	}
}

// source is the address of ours that the peer knows: answers and notifications have to come from it.
func source(m *pool.Message) *coapnet.ControlMessage {
	cm := m.ControlMessage()
	if cm == nil || len(cm.Dst) == 0 || cm.Dst.IsMulticast() || cm.Dst.IsLoopback() {
		return nil
	}
	return &coapnet.ControlMessage{Src: append(net.IP(nil), cm.Dst...), IfIndex: cm.IfIndex}
}
