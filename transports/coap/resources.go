package coap

import (
	"errors"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/message/pool"

	"callchain/transports"
	"callchain/transports/internal/devicejson"
)

// Values of the Observe option of a request (RFC 7641, section 2).
const (
	observeRegister   = 0
	observeDeregister = 1
)

// busy asks the peer to come again in a second.
func busy() response {
	a := reply(codes.ServiceUnavailable)
	a.maxAge = 1
	return a
}

// failure is the answer to what the engine did not take.
func failure(err error) response {
	switch {
	case errors.Is(err, transports.ErrUnauthorized):
		return reply(codes.Unauthorized)
	case errors.Is(err, transports.ErrRefused):
		return reply(codes.BadRequest)
	}
	return busy()
}

// handle answers a request, or has the engine answer it. The codes are those of ThingsBoard's CoapTransportResource.
func (r *request) handle(m *pool.Message) {
	t, known := parseTarget(m.Options())
	observe, observes, err := option(m.Options(), message.Observe)
	if err == nil {
		r.options, err = parseBlocks(m.Options())
	}
	get := r.code == codes.GET
	later := r.options.hasTwo && r.options.two.num > 0 // a further block of an answer
	switch {
	case !known:
		r.answer(reply(codes.NotFound))
		return
	case !get && r.code != codes.POST:
		r.answer(reply(codes.MethodNotAllowed))
		return
	case err != nil, t.feature == noFeature, get && t.feature == forTelemetry, get && t.feature == forCalls && !observes && !later:
		r.answer(reply(codes.BadRequest))
		return
	}
	id, ok := r.authenticate(t.token)
	switch {
	case !ok: // it is answered
	case later:
		r.ep.fetch(r)
	case get && observes && observe == observeRegister && t.feature == forCalls:
		r.ep.srv.observeCalls(r, id)
	case get && observes && observe == observeRegister:
		r.ep.srv.observeAttributes(r, id)
	case get && observes && observe == observeDeregister:
		r.ep.srv.deregister(r, id, t.feature)
	case get && observes:
		r.answer(reply(codes.BadRequest))
	case get:
		client, shared := attributeKeys(m.Options())
		if o, ok := r.session(id); ok {
			o.askAttributes(r, nil, client, shared)
		}
	default:
		r.post(m, t, id)
	}
}

// authenticate finds out whose token it is, or answers.
func (r *request) authenticate(token string) (transports.Identity, bool) {
	id, err := r.ep.srv.authenticate(token)
	if err != nil {
		if errors.Is(err, transports.ErrUnauthorized) {
			r.ep.srv.count.refused.Add(1)
		}
		r.answer(failure(err))
		return id, false
	}
	r.ep.mu.Lock()
	r.ep.known = true
	r.ep.mu.Unlock()
	return id, true
}

// session finds the session for what the device sends, or answers.
func (r *request) session(id transports.Identity) (*session, bool) {
	o, err := r.ep.srv.sessionOf(id, r.ep.key)
	if err != nil {
		r.answer(failure(err))
		return nil, false
	}
	return o, true
}

// post handles what a device sends.
func (r *request) post(m *pool.Message, t target, id transports.Identity) {
	body, err := m.ReadBody()
	switch {
	case err != nil, len(body) == 0:
		r.answer(reply(codes.BadRequest))
		return
	case len(body) > r.ep.srv.cfg.MaxPayload:
		a := reply(codes.RequestEntityTooLarge)
		a.size1 = uint32(r.ep.srv.cfg.MaxPayload)
		r.answer(a)
		return
	}
	if r.options.hasOne {
		whole, a, done := r.ep.gather(r, body)
		if !done {
			r.answer(a)
			return
		}
		body = whole
	}
	r.payload = append([]byte(nil), body...) // the body is go-coap's
	switch {
	case t.feature == forCalls && t.numbered:
		r.reply(t.id, id)
	case t.feature == forCalls:
		r.call(id)
	default:
		r.dataMessage(t.feature, id)
	}
}

// reply hands on the answer to a server-side call. ThingsBoard takes objects only, and calls all else an error of its own.
func (r *request) reply(wire int32, id transports.Identity) {
	if devicejson.Check(r.payload, false) != nil {
		r.answer(reply(codes.InternalServerError))
		return
	}
	if o, ok := r.session(id); ok {
		o.reply(wire, r.payload, r.settle(o, codes.Created))
	}
}

// call hands on a call of the device; it needs a method and params, and is an error of the server without, as in ThingsBoard.
func (r *request) call(id transports.Identity) {
	method, params, err := devicejson.ParseCall(r.payload)
	if err != nil || params == nil {
		r.answer(reply(codes.InternalServerError))
		return
	}
	o, ok := r.session(id)
	if !ok {
		return
	}
	request, ok := o.ask(&pending{r: r})
	if !ok {
		r.answer(busy())
		return
	}
	o.srv.in.Call(o.id, request, method, params, o.unless(request))
}

// dataMessage hands on telemetry or attributes, as many of a device at once as the engine is asked to bear.
func (r *request) dataMessage(f feature, id transports.Identity) {
	if devicejson.Check(r.payload, f == forTelemetry) != nil {
		r.answer(reply(codes.BadRequest))
		return
	}
	o, ok := r.session(id)
	if !ok {
		return
	}
	o.mu.Lock()
	o.data++
	full := o.data > o.srv.cfg.DataOutstanding
	o.mu.Unlock()
	settle := r.settle(o, codes.Created)
	done := func(err error) {
		o.mu.Lock()
		o.data--
		o.mu.Unlock()
		if err != nil {
			o.srv.count.dataUnanswered.Add(1)
		}
		settle(err)
	}
	switch {
	case full:
		done(transports.ErrBusy)
	case f == forTelemetry:
		o.srv.in.Telemetry(o.id, r.payload, done)
	default:
		o.srv.in.Attributes(o.id, r.payload, done)
	}
}

// settle answers when the engine has made up its mind.
func (r *request) settle(o *session, code codes.Code) func(error) {
	return func(err error) {
		if err == nil {
			r.answer(reply(code))
			return
		}
		if errors.Is(err, transports.ErrGone) {
			o.stop(err.Error())
		}
		r.answer(failure(err))
	}
}

// askAttributes asks the engine for attributes; with an observation, for the state that it begins with.
func (o *session) askAttributes(r *request, ob *observation, client, shared []string) {
	request, ok := o.ask(&pending{r: r, observe: ob})
	if !ok {
		r.answer(busy())
		return
	}
	o.srv.in.RequestAttributes(o.id, request, client, shared, o.unless(request))
}

// unless answers a request that the engine does not take; one that it takes is answered through the link.
func (o *session) unless(request int32) func(error) {
	return func(err error) {
		if err == nil {
			return
		}
		if p := o.answered(request); p != nil {
			p.r.answer(failure(err))
			if p.observe != nil {
				o.lose(p.observe, "the engine did not take the request")
			}
		}
		if errors.Is(err, transports.ErrGone) {
			o.stop(err.Error())
		}
	}
}
