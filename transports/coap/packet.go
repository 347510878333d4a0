package coap

import (
	"errors"
	"fmt"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/udp/coder"
)

// response is what a request is answered with, or a notification; the zero value of a field means that the option is absent.
type response struct {
	code    codes.Code
	payload []byte
	format  message.MediaType // of the payload, if there is one
	observe int64             // sequence number, noObserve if it is none
	maxAge  uint32            // in seconds; with 5.03 it says when to come again
	etag    []byte
	block1  uint32 // the request's Block1 option
	hasOne  bool
	block2  uint32
	hasTwo  bool
	size2   uint32 // of the whole payload, with its first block
	size1   uint32 // largest payload taken, with 4.13
}

const noObserve = -1

// reply is an answer without anything but its code.
func reply(code codes.Code) response { return response{code: code, observe: noObserve} }

// content is 2.05 with JSON.
func content(payload []byte) response {
	return response{code: codes.Content, payload: payload, format: message.AppJSON, observe: noObserve}
}

// options lists the options in the order of their numbers, as the codec wants them.
func (r *response) options() message.Options {
	var out message.Options
	add := func(id message.OptionID, value uint32) {
		var b [4]byte
		n, err := message.EncodeUint32(b[:], value)
		if err != nil {
			panic("coap: encoding an option failed: " + err.Error()) // cannot happen: four bytes are enough
		}
		out = append(out, message.Option{ID: id, Value: b[:n]})
	}
	if r.etag != nil {
		out = append(out, message.Option{ID: message.ETag, Value: r.etag})
	}
	if r.observe != noObserve {
		add(message.Observe, uint32(r.observe))
	}
	if len(r.payload) > 0 {
		add(message.ContentFormat, uint32(r.format))
	}
	if r.maxAge > 0 {
		add(message.MaxAge, r.maxAge)
	}
	if r.hasTwo {
		add(message.Block2, r.block2)
	}
	if r.hasOne {
		add(message.Block1, r.block1)
	}
	if r.size2 > 0 {
		add(message.Size2, r.size2)
	}
	if r.size1 > 0 {
		add(message.Size1, r.size1)
	}
	return out
}

// encode makes the datagram.
func encode(kind message.Type, mid uint16, token []byte, r *response) []byte {
	m := message.Message{Type: kind, MessageID: int32(mid), Token: token, Code: r.code, Options: r.options(), Payload: r.payload}
	buf := make([]byte, len(r.payload)+64)
	n, err := coder.DefaultCoder.Encode(m, buf)
	if err != nil {
		panic(fmt.Sprintf("coap: encoding a packet of %d bytes failed: %v", len(r.payload), err)) // cannot happen: 64 bytes hold all options
	}
	return buf[:n]
}

// bare makes a packet without code, token and payload: an ACK, a RST, a ping.
func bare(kind message.Type, mid uint16) []byte {
	return encode(kind, mid, nil, &response{code: codes.Empty, observe: noObserve})
}

// option reads an option with a number; ok is false if it is absent, an error says that it is too long.
func option(options message.Options, id message.OptionID) (value uint32, ok bool, err error) {
	value, err = options.GetUint32(id)
	switch {
	case err == nil:
		return value, true, nil
	case errors.Is(err, message.ErrOptionNotFound):
		return 0, false, nil
	}
	return 0, false, fmt.Errorf("reading option %d: %w", id, err)
}
