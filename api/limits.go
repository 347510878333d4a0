package api

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
)

// limits bound what all requests together may use up.
type limits struct {
	gates  [3]gate      // by lane
	held   gate         // refusals that are held back
	bodies atomic.Int64 // bytes left for bodies
}

// probes is how many requests for health and metrics are served at a time.
const probes = 64

func newLimits(c Config) *limits {
	l := &limits{held: make(gate, holdMost), gates: [3]gate{ordinary: make(gate, max(1, c.Requests)), streaming: make(gate, max(1, c.Streams)), probing: make(gate, probes)}}
	l.bodies.Store(c.Bodies)
	return l
}

// gate admits a number of requests at a time; nobody waits before it.
type gate chan struct{}

func (g gate) enter() bool {
	select {
	case g <- struct{}{}:
		return true
	default:
		return false
	}
}

func (g gate) leave() { <-g }

// The refusals that are held back: a caller that is refused at once comes back at once, and refusing takes the time that those who are served need.
// While its answer is held, nothing more is read from its connection.
const (
	holdFor  = 500 * time.Millisecond
	holdMost = 4096 // at a time; those beyond are answered at once
)

// hold waits a moment before a call is refused because there are too many.
func (s *server) hold(c *gin.Context) {
	if !s.limits.held.enter() {
		return
	}
	defer s.limits.held.leave()
	moment := time.NewTimer(holdFor)
	defer moment.Stop()
	select {
	case <-moment.C:
	case <-c.Request.Context().Done():
	}
}

// body is the whole body of a request, and what it took from the bytes that all bodies share. It must be released.
type body struct {
	bytes []byte
	taken int64
	pool  *atomic.Int64
}

func (b *body) release() { b.pool.Add(b.taken) }

// grow takes bytes from the shared pool before they are allocated.
func (b *body) grow(n int64) bool {
	if b.pool.Add(-n) < 0 {
		b.pool.Add(n)
		return false
	}
	b.taken += n
	return true
}

// bodyStep is the first size of the buffer of a body whose length is not told, or not to be believed yet.
const bodyStep = 64 << 10

// readBody reads a body of at most limit bytes. ThingsBoard looks at Content-Length only; here chunked bodies are counted, too.
// A body that is too large is read and thrown away up to twice the limit, so that most clients see the answer.
func (s *server) readBody(c *gin.Context, limit int64) (body, error) {
	b := body{pool: &s.limits.bodies}
	told := c.Request.ContentLength
	if told == 0 {
		return b, nil
	}
	bodyDeadline(c, time.Now().Add(s.config.ReadBody))
	defer bodyDeadline(c, time.Time{})
	if told > limit {
		discard(c.Request.Body, 2*limit)
		return b, tooLarge(limit)
	}
	size := int64(bodyStep)
	if told > 0 {
		size = min(told, size)
	}
	if err := b.fill(c.Request.Body, size+1, limit); err != nil {
		b.release()
		return body{pool: b.pool}, err
	}
	return b, nil
}

// fill reads until the end of the body, doubling the buffer as the bytes arrive: nobody gets memory for bytes only promised.
func (b *body) fill(r io.Reader, size, limit int64) error {
	for {
		if len(b.bytes) == cap(b.bytes) {
			more := max(int64(cap(b.bytes)), size)
			if !b.grow(more) {
				return errTooManyIn.because("the bodies being read take all the memory set aside for them; nothing happened, try again")
			}
			b.bytes = append(make([]byte, 0, int64(len(b.bytes))+more), b.bytes...)
		}
		n, err := r.Read(b.bytes[len(b.bytes):cap(b.bytes)])
		b.bytes = b.bytes[:len(b.bytes)+n]
		switch {
		case int64(len(b.bytes)) > limit:
			discard(r, limit)
			return tooLarge(limit)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return badBody(fmt.Errorf("reading the body: %w", err))
		}
	}
}

// discard lets a client finish sending what is not wanted, so that it reads the answer before it sees the connection closed.
func discard(r io.Reader, most int64) {
	_, _ = io.CopyN(io.Discard, r, most) // whatever comes of it, the answer is the same
}

// bodyDeadline bounds the time for reading the body only: a limit on the whole request would end calls that wait. The zero time
// lifts it. Writers that know no deadlines (tests) go without.
func bodyDeadline(c *gin.Context, at time.Time) {
	_ = http.NewResponseController(c.Writer).SetReadDeadline(at) // not every writer can
}
