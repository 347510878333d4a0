// Package mqttwire frames MQTT packets and codes the few that carry traffic: PUBLISH and its acknowledgement. The server and
// the bare client share it. It knows no session and no topic; packets that come once a session are left to the codec
// github.com/mochi-mqtt/server/v2/packets.
package mqttwire

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

var (
	// ErrMalformed: the bytes are no MQTT packet; the connection has to end ([MQTT-4.8.0-1] in 3.1.1, section 4.13 in 5).
	ErrMalformed = errors.New("malformed packet")
	// ErrTooLarge: the packet is larger than the reader's limit.
	ErrTooLarge = errors.New("packet too large")
)

// Sizes of the read buffer in bytes. A connection rests with the small one; the medium one is lent while reads fill the small
// one; above it the buffer doubles with what has really arrived, so that an announced length alone costs nothing.
const (
	smallBuffer  = 256
	mediumBuffer = 4096
)

var mediumBuffers = sync.Pool{New: func() any { return new([mediumBuffer]byte) }}

// Reader cuts a byte stream into packets. Its zero value needs Reset.
type Reader struct {
	src   io.Reader
	buf   []byte // where bytes are read to; small, lent or own
	lent  *[mediumBuffer]byte
	r, w  int // unread bytes are buf[r:w]
	last  int // bytes of the last read
	max   int
	small [smallBuffer]byte
}

// Reset makes the reader read from src and refuse packets whose remaining length is over max bytes.
func (d *Reader) Reset(src io.Reader, max int) {
	d.release()
	d.src, d.max, d.r, d.w, d.last = src, max, 0, 0, 0
}

// Next returns the first byte and the body of the next packet. The body is valid until the next call. It fails with
// ErrMalformed, ErrTooLarge or the error of the source; io.ErrUnexpectedEOF is a stream that ends inside a packet.
func (d *Reader) Next() (header byte, body []byte, err error) {
	for {
		need := 2
		if d.w-d.r >= 2 {
			length, n, err := decodeLength(d.buf[d.r+1 : d.w])
			if err != nil {
				return 0, nil, err
			}
			if length > d.max {
				return 0, nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, length, d.max)
			}
			if n == 0 {
				need = d.w - d.r + 1
			} else if need = 1 + n + length; d.w-d.r >= need {
				header, body = d.buf[d.r], d.buf[d.r+1+n:d.r+need:d.r+need]
				d.r += need
				return header, body, nil
			}
		}
		if err := d.fill(need); err != nil {
			return 0, nil, err
		}
	}
}

// Whole says whether another packet, or the error that takes its place, is there without reading.
func (d *Reader) Whole() bool {
	if d.w-d.r < 2 {
		return false
	}
	length, n, err := decodeLength(d.buf[d.r+1 : d.w])
	return err != nil || length > d.max || (n > 0 && d.w-d.r >= 1+n+length)
}

// fill reads once. need is how many bytes the packet at the front has, as far as known.
func (d *Reader) fill(need int) error {
	d.makeRoom(need)
	n, err := d.src.Read(d.buf[d.w:])
	d.w += n
	d.last = n
	switch {
	case n > 0:
		return nil // an error comes again with the next read
	case err == io.EOF && d.w > d.r:
		return io.ErrUnexpectedEOF
	case err == nil:
		return io.ErrNoProgress
	}
	return err
}

// makeRoom leaves at least one free byte behind w.
func (d *Reader) makeRoom(need int) {
	have := d.buf[d.r:d.w]
	switch {
	case len(have) == 0:
		d.rest()
	case d.r+need <= len(d.buf) && d.w < len(d.buf):
		return
	case need <= len(d.buf):
		copy(d.buf, have)
	default:
		d.grow(have, need)
	}
	d.r, d.w = 0, len(have)
}

// rest picks the buffer for an empty reader: small unless the last read came near filling it.
func (d *Reader) rest() {
	if d.last < smallBuffer {
		d.release()
		return
	}
	if d.lent == nil {
		d.lent = mediumBuffers.Get().(*[mediumBuffer]byte)
	}
	d.buf = d.lent[:]
}

// grow finds a larger buffer for have, at most twice its size, so that memory follows what has arrived.
func (d *Reader) grow(have []byte, need int) {
	size := min(need, max(2*len(have), mediumBuffer))
	switch {
	case size <= len(d.buf): // the announced length is far off: there is room for more of it already
		copy(d.buf, have)
	case size <= mediumBuffer:
		d.lent = mediumBuffers.Get().(*[mediumBuffer]byte)
		d.buf = d.lent[:]
		copy(d.buf, have)
	default:
		buf := make([]byte, size)
		copy(buf, have)
		d.release()
		d.buf = buf
	}
}

func (d *Reader) release() {
	if d.lent != nil {
		mediumBuffers.Put(d.lent)
		d.lent = nil
	}
	d.buf = d.small[:]
}

// Close gives back what the reader borrowed; it must not be used afterwards without Reset.
func (d *Reader) Close() { d.release(); d.r, d.w = 0, 0 }

// decodeLength reads a variable byte integer; n is 0 if more bytes are needed. Over four bytes it is malformed ([MQTT-1.5.5-1]).
func decodeLength(b []byte) (length, n int, err error) {
	for i, c := range b {
		if i == 4 {
			return 0, 0, fmt.Errorf("%w: the remaining length has more than four bytes", ErrMalformed)
		}
		length |= int(c&0x7f) << (7 * i)
		if c&0x80 == 0 {
			return length, i + 1, nil
		}
	}
	if len(b) >= 4 {
		return 0, 0, fmt.Errorf("%w: the remaining length has more than four bytes", ErrMalformed)
	}
	return 0, 0, nil
}
