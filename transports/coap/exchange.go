package coap

import (
	"math/rand/v2"
	"slices"
	"time"

	coapnet "github.com/plgd-dev/go-coap/v3/net"
)

// outcome is how an exchange ended.
type outcome uint8

const (
	acked  outcome = iota // the peer has the message
	reset                 // the peer has no use for it
	silent                // all retransmissions went unanswered
	late                  // its deadline passed unanswered
)

// exchange is a confirmable message of the server and what becomes of it (RFC 7252, section 4.2). The message is sent again until an
// ACK or a RST comes. The endpoint's mu guards it.
type exchange struct {
	ep       *endpoint
	mid      uint16
	packet   []byte
	from     *coapnet.ControlMessage
	deadline time.Time // zero: none; a packet does not leave after it
	tries    int
	wait     time.Duration
	timer    *time.Timer
	dropped  bool                     // abandoned: it is not sent any more, nor for the first time
	rest     *download                // of which the message has the first block, or nil
	over     func(outcome, time.Time) // called once, without locks
}

// exchangesMost is how many messages to one peer may wait for their ACKs; many devices may share its address.
const exchangesMost = 4096

// begin sends the message. over may be called before begin returns. False: nothing was sent, as the peer is forgotten or leaves too many
// messages unanswered, or as the exchange was abandoned, and over is not called.
func (x *exchange) begin() bool {
	ep := x.ep
	base := ep.srv.cfg.AckTimeout
	x.wait = base + rand.N(base/2+1) //nolint:gosec // no secret: ACK_RANDOM_FACTOR 1.5
	ep.mu.Lock()
	if x.dropped || ep.ended || len(ep.exchanges) >= exchangesMost {
		ep.mu.Unlock()
		return false
	}
	if ep.exchanges == nil {
		ep.exchanges = map[uint16]*exchange{}
	}
	ep.exchanges[x.mid] = x
	if x.rest != nil {
		x.rest.first = true
	}
	x.timer = time.AfterFunc(x.pause(), x.again)
	ep.mu.Unlock()
	_ = ep.send(x.from, x.packet) // lost here or on the way: it is sent again
	return true
}

// pause is the time to the next retransmission, or to the deadline if that is earlier.
func (x *exchange) pause() time.Duration {
	if !x.deadline.IsZero() {
		return max(0, min(x.wait, time.Until(x.deadline)))
	}
	return x.wait
}

// again sends the message once more or gives it up.
func (x *exchange) again() {
	ep, now := x.ep, time.Now()
	passed := !x.deadline.IsZero() && !now.Before(x.deadline)
	ep.mu.Lock()
	if ep.exchanges[x.mid] != x {
		ep.mu.Unlock()
		return // it ended meanwhile
	}
	if passed || x.tries >= ep.srv.cfg.MaxRetransmit {
		x.forget(now)
		ep.mu.Unlock()
		ep.srv.count.unacknowledged.Add(1)
		if passed {
			x.over(late, now)
		} else {
			x.over(silent, now)
		}
		return
	}
	x.tries++
	x.wait *= 2
	x.timer = time.AfterFunc(x.pause(), x.again)
	ep.mu.Unlock()
	ep.srv.count.retransmissions.Add(1)
	_ = ep.send(x.from, x.packet) // lost here or on the way: it is sent again
}

// settle ends the exchange with this message id, if there is one.
func (ep *endpoint) settle(mid uint16, how outcome) {
	now := time.Now()
	ep.mu.Lock()
	var over func(outcome, time.Time)
	if x := ep.exchanges[mid]; x != nil {
		x.forget(now)
		over = x.over
	} else if how == reset {
		over = ep.takeLoose(mid)
	}
	ep.mu.Unlock()
	if over == nil {
		return
	}
	if how == reset {
		ep.srv.count.resets.Add(1)
	}
	over(how, now)
}

// takeLoose is who hears of a RST to the non-confirmable message with this id; mu is held.
func (ep *endpoint) takeLoose(mid uint16) func(outcome, time.Time) {
	i := slices.IndexFunc(ep.loose, func(l loose) bool { return l.mid == mid })
	if i < 0 {
		return nil
	}
	over := ep.loose[i].over
	ep.loose = slices.Delete(ep.loose, i, i+1)
	return over
}

// abandon ends an exchange whose outcome nobody waits for any more, also before it began; over is not called. False: it is not open.
func (x *exchange) abandon() bool {
	ep := x.ep
	ep.mu.Lock()
	defer ep.mu.Unlock()
	x.dropped = true
	open := ep.exchanges[x.mid] == x
	if open {
		x.forget(time.Now())
	}
	return open
}

// forget takes the exchange out of those that wait; mu is held.
func (x *exchange) forget(now time.Time) {
	delete(x.ep.exchanges, x.mid)
	x.timer.Stop()
	if x.rest != nil {
		x.rest.first, x.rest.at = false, now
	}
}
