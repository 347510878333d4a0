package coap

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
)

// Block-wise transfer is done here and not by go-coap, which finds the blocks of a transfer by the token of the request. RFC 7959
// (section 2.2) goes by the resource, and clients that take a fresh token for each block (aiocoap, for one) would have their last block
// taken for the whole payload.

// block is a Block1 or Block2 option (RFC 7959, section 2.2).
type block struct {
	num  int
	more bool
	szx  uint8 // the block has 16<<szx bytes
}

// szxMost is the exponent of the largest block: 1024 bytes, which fit into one packet with their options.
const szxMost = 6

func (b block) bytes() int { return 16 << b.szx }

// encode is the option's value; more says that further blocks follow.
func (b block) encode(more bool) uint32 {
	v := uint32(b.num)<<4 | uint32(b.szx)
	if more {
		v |= 8
	}
	return v
}

var errBlock = errors.New("bad block option")

func parseBlock(value uint32) (block, error) {
	b := block{num: int(value >> 4), more: value&8 != 0, szx: uint8(value & 7)}
	if value > 0xffffff || b.szx > szxMost {
		return block{}, fmt.Errorf("%w: %#x", errBlock, value)
	}
	return b, nil
}

// blockOptions are those of a request.
type blockOptions struct {
	one, two       block
	hasOne, hasTwo bool
}

func parseBlocks(options message.Options) (b blockOptions, err error) {
	for _, o := range []struct {
		id  message.OptionID
		to  *block
		has *bool
	}{{message.Block1, &b.one, &b.hasOne}, {message.Block2, &b.two, &b.hasTwo}} {
		value, ok, err := option(options, o.id)
		if err != nil {
			return b, err
		}
		if !ok {
			continue
		}
		if *o.to, err = parseBlock(value); err != nil {
			return b, err
		}
		*o.has = true
	}
	return b, nil
}

// size is the exponent of the blocks that the peer wants to be answered in.
func (b blockOptions) size() uint8 {
	if b.hasTwo {
		return b.two.szx
	}
	return szxMost
}

// transfersMost is how many transfers of one direction a peer may have open; a further one ends the oldest.
const transfersMost = 4

// upload is a payload that comes in blocks.
type upload struct {
	key     string
	payload []byte
	at      time.Time
}

// download is a payload that the peer fetches in blocks.
type download struct {
	key     string
	payload []byte
	etag    []byte
	at      time.Time
	first   bool             // the peer has not acknowledged the first block yet: the transfer does not pause
	asked   int              // bytes from the beginning that were asked for in order, the first block with them
	over    func(whole bool) // nil, or called once when all blocks were asked for, or not whole when the transfer was given up
}

// gather adds a block of the request. done: the payload is whole; else a is the answer.
func (ep *endpoint) gather(r *request, part []byte) (payload []byte, a response, done bool) {
	b, limit := r.options.one, ep.srv.cfg.MaxPayload
	if b.num == 0 && !b.more {
		return part, a, true
	}
	if b.more && len(part) != b.bytes() {
		return nil, reply(codes.BadRequest), false
	}
	ep.mu.Lock()
	defer ep.mu.Unlock()
	i := slices.IndexFunc(ep.uploads, func(u *upload) bool { return u.key == r.key })
	if b.num == 0 {
		if i >= 0 {
			ep.dropUpload(i)
		}
		if len(ep.uploads) >= transfersMost {
			ep.dropUpload(0)
		}
		ep.uploads = append(ep.uploads, &upload{key: r.key})
		i = len(ep.uploads) - 1
	}
	if i < 0 || len(ep.uploads[i].payload) != b.num*b.bytes() {
		return nil, reply(codes.RequestEntityIncomplete), false // 4.08: the peer begins again
	}
	u := ep.uploads[i]
	if len(u.payload)+len(part) > limit {
		ep.dropUpload(i)
		a = reply(codes.RequestEntityTooLarge)
		a.size1 = uint32(limit)
		return nil, a, false
	}
	if !ep.srv.reserve(len(part)) {
		ep.dropUpload(i)
		return nil, busy(), false
	}
	u.payload, u.at = append(u.payload, part...), time.Now()
	if !b.more {
		ep.dropUpload(i)
		return u.payload, a, true
	}
	a = reply(codes.Continue)
	a.block1, a.hasOne = b.encode(true), true
	return nil, a, false
}

// dropUpload forgets an upload; mu is held.
func (ep *endpoint) dropUpload(i int) {
	ep.srv.release(len(ep.uploads[i].payload))
	ep.uploads = slices.Delete(ep.uploads, i, i+1)
}

// split cuts a payload that does not fit into one packet down to its first block, and keeps it for the peer to fetch the rest. over is
// told when that is done, or nil. It answers with the rest, or nil if there is none.
func (ep *endpoint) split(a *response, key string, szx uint8, over func(whole bool)) *download {
	first := block{szx: szx}
	if a.hasTwo || len(a.payload) <= first.bytes() {
		return nil
	}
	sum := sha256.Sum256(a.payload)
	d := &download{key: key, payload: a.payload, etag: sum[:8], at: time.Now(), asked: first.bytes(), over: over}
	if !ep.srv.reserve(len(d.payload)) {
		*a = busy()
		return nil
	}
	var ended []*download
	ep.mu.Lock()
	ended = ep.takeDownloads(func(old *download) bool { return old.key == key })
	if len(ep.downloads) >= transfersMost {
		oldest := ep.downloads[0]
		ended = append(ended, ep.takeDownloads(func(old *download) bool { return old == oldest })...)
	}
	ep.downloads = append(ep.downloads, d)
	ep.mu.Unlock()
	ep.srv.finish(ended)
	a.size2 = uint32(len(d.payload))
	d.cut(a, first)
	return d
}

// cut makes a the answer with one block; false if there is no such block.
func (d *download) cut(a *response, b block) bool {
	from := b.num * b.bytes()
	if from >= len(d.payload) {
		return false
	}
	to := min(from+b.bytes(), len(d.payload))
	a.payload, a.etag = d.payload[from:to], d.etag
	a.block2, a.hasTwo = b.encode(to < len(d.payload)), true
	if from <= d.asked { // what was left out has to be asked for first, else the end would stand for the whole
		d.asked = max(d.asked, to)
	}
	return true
}

// fetch answers a request for a later block.
func (ep *endpoint) fetch(r *request) {
	var over func(whole bool)
	a := content(nil)
	ep.mu.Lock()
	i := slices.IndexFunc(ep.downloads, func(d *download) bool { return d.key == r.key })
	ok := false
	if i >= 0 {
		d := ep.downloads[i]
		d.at = time.Now()
		if ok = d.cut(&a, r.options.two); d.asked == len(d.payload) {
			over, d.over = d.over, nil // the payload stays: the last answer may be lost
		}
	}
	ep.mu.Unlock()
	if !ok {
		a = reply(codes.RequestEntityIncomplete)
	}
	r.answer(a)
	if over != nil {
		over(true) // once the last block has left
	}
}

// takeDownloads removes those that fit; mu is held. The caller passes them to finish without it.
func (ep *endpoint) takeDownloads(fits func(*download) bool) (taken []*download) {
	ep.downloads = slices.DeleteFunc(ep.downloads, func(d *download) bool {
		if fits(d) {
			taken = append(taken, d)
			return true
		}
		return false
	})
	return taken
}

// expire forgets the transfers that paused for too long, or all of them.
func (ep *endpoint) expire(now time.Time, all bool) {
	idle := ep.srv.cfg.TransferIdle
	ep.mu.Lock()
	for i := len(ep.uploads) - 1; i >= 0; i-- {
		if all || now.Sub(ep.uploads[i].at) > idle {
			ep.dropUpload(i)
		}
	}
	ended := ep.takeDownloads(func(d *download) bool { return all || !d.first && now.Sub(d.at) > idle })
	ep.mu.Unlock()
	ep.srv.finish(ended)
}

// reserve takes memory for transfers; false: there is none.
func (s *Server) reserve(n int) bool {
	if s.transfers.Add(int64(n)) > int64(s.cfg.TransferBytes) {
		s.transfers.Add(-int64(n))
		return false
	}
	return true
}

func (s *Server) release(n int) { s.transfers.Add(-int64(n)) }

// finish tells who waits for transfers that were given up.
func (s *Server) finish(ended []*download) {
	for _, d := range ended {
		s.release(len(d.payload))
		if d.over != nil {
			d.over(false)
		}
	}
}
