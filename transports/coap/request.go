package coap

import (
	"bytes"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/message/pool"
	coapnet "github.com/plgd-dev/go-coap/v3/net"
)

// request is a request of a peer until it is answered. Its answer travels with the ACK if it comes soon; else the ACK goes alone and
// the answer is a message of its own (RFC 7252, section 5.2).
type request struct {
	ep          *endpoint
	delivery    *delivery
	confirmable bool
	mid         uint16
	token       []byte
	code        codes.Code
	key         string // of its block-wise transfer
	from        *coapnet.ControlMessage
	format      message.MediaType // that it asks for
	options     blockOptions
	payload     []byte

	// The endpoint's mu guards these.
	answered bool
	acked    bool // the ACK went alone
	timer    *time.Timer
}

// newRequest copies what is needed of m, which is go-coap's and goes back into its pool.
func newRequest(ep *endpoint, m *pool.Message, d *delivery) *request {
	r := &request{
		ep: ep, delivery: d, confirmable: m.Type() == message.Confirmable, mid: uint16(m.MessageID()), token: bytes.Clone(m.Token()),
		code: m.Code(), from: source(m), format: message.AppJSON, key: transferKey(uint8(m.Code()), m.Options()),
	}
	d.from = r.from
	if wanted, ok, err := option(m.Options(), message.Accept); ok && err == nil {
		r.format = message.MediaType(wanted)
	}
	return r
}

// waits gives the answer its time; then the ACK goes alone. The time begins before the request is looked at, which may take long, too.
func (r *request) waits() {
	r.ep.mu.Lock()
	defer r.ep.mu.Unlock()
	if r.confirmable {
		r.timer = time.AfterFunc(r.ep.srv.cfg.Piggyback, r.acknowledge)
	}
}

func (r *request) acknowledge() {
	packet := bare(message.Acknowledgement, r.mid)
	r.ep.mu.Lock()
	late := r.answered
	if !late {
		r.acked, r.delivery.packet = true, packet
	}
	r.ep.mu.Unlock()
	if !late {
		_ = r.ep.send(r.from, packet) // the peer asks again if it is lost
	}
}

// claim makes the caller the one who answers; false: somebody has answered.
func (r *request) claim() (separate, ok bool) {
	r.ep.mu.Lock()
	defer r.ep.mu.Unlock()
	if r.answered {
		return false, false
	}
	r.answered = true
	if !r.acked {
		r.ep.working-- // else the answer is a message of its own, and the request is worked on until that has arrived
	}
	if r.timer != nil {
		r.timer.Stop()
	}
	return r.acked, true
}

// answer ends the request. A second answer is ignored.
func (r *request) answer(a response) {
	separate, ok := r.claim()
	if !ok {
		return
	}
	if a.code >= codes.BadRequest && a.code != codes.ServiceUnavailable {
		r.ep.srv.count.payloadsRefused.Add(1)
	}
	if r.options.hasOne && !a.hasOne && a.code != codes.RequestEntityIncomplete {
		a.block1, a.hasOne = r.options.one.encode(false), true
	}
	r.ep.split(&a, r.key, r.options.size(), nil)
	switch {
	case !r.confirmable:
		packet := encode(message.NonConfirmable, r.ep.nextMID(), r.token, &a)
		r.keep(packet)
		_ = r.ep.send(r.from, packet) // non-confirmable: it may be lost
	case separate:
		mid := r.ep.nextMID()
		x := &exchange{ep: r.ep, mid: mid, packet: encode(message.Confirmable, mid, r.token, &a), from: r.from, over: r.arrived}
		if !x.begin() {
			r.arrived(silent, time.Now())
		}
	default:
		packet := encode(message.Acknowledgement, r.mid, r.token, &a)
		r.keep(packet)
		_ = r.ep.send(r.from, packet) // the peer asks again if it is lost
	}
}

// arrived ends the work on a request whose answer was a message of its own. A peer that acknowledges none of them is worked for no
// more than Config.Requests says.
func (r *request) arrived(outcome, time.Time) {
	r.ep.mu.Lock()
	r.ep.working--
	r.ep.mu.Unlock()
}

// keep notes what to send if the request comes again.
func (r *request) keep(packet []byte) {
	r.ep.mu.Lock()
	r.delivery.packet = packet
	r.ep.mu.Unlock()
}

// reject answers a confirmable message that has no place here with a RST, and a non-confirmable one with nothing.
func (r *request) reject() {
	if _, ok := r.claim(); !ok || !r.confirmable {
		return
	}
	packet := bare(message.Reset, r.mid)
	r.keep(packet)
	_ = r.ep.send(r.from, packet) // the peer asks again if it is lost
}
