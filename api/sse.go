package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"callchain/eventstore"

	"github.com/gin-gonic/gin"
)

// events writes server-sent events (WHATWG HTML, section 9.2) to one reader. A reader that takes nothing for the stall time is cut off.
type events struct {
	w     gin.ResponseWriter
	rc    *http.ResponseController
	stall time.Duration
	buf   []byte
}

// openEvents sends the header of a stream.
func (s *server) openEvents(c *gin.Context) *events {
	h := c.Writer.Header()
	h["Content-Type"] = streamType
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // proxies that buffer would hold events back
	c.Writer.WriteHeader(http.StatusOK)
	c.Writer.WriteHeaderNow()
	c.Writer.Flush()
	return &events{w: c.Writer, rc: http.NewResponseController(c.Writer), stall: s.config.WriteStall}
}

// send writes one event. The data are one line of JSON.
func (e *events) send(id, name string, data []byte) error {
	e.buf = e.buf[:0]
	if id != "" {
		e.buf = append(append(append(e.buf, "id: "...), id...), '\n')
	}
	if name != "" {
		e.buf = append(append(append(e.buf, "event: "...), name...), '\n')
	}
	if data != nil {
		e.buf = append(append(append(e.buf, "data: "...), data...), '\n')
	}
	return e.write(append(e.buf, '\n'))
}

// beat writes a comment, so that both sides see that the connection lives. The id, if any, moves the reader's cursor on past
// events that were not for it.
func (e *events) beat(id string) error {
	if id == "" {
		return e.write(append(e.buf[:0], ":\n\n"...))
	}
	return e.write(append(append(append(e.buf[:0], ":\nid: "...), id...), "\n\n"...))
}

func (e *events) write(buf []byte) error {
	e.buf = buf
	_ = e.rc.SetWriteDeadline(time.Now().Add(e.stall)) // not every writer can; then the connection's own fate decides
	if _, err := e.w.Write(buf); err != nil {
		return err
	}
	return e.rc.Flush()
}

// sendValue is send of a value that marshals itself.
func (e *events) sendValue(id, name string, v any) error {
	data, err := marshal(v)
	if err != nil {
		return err
	}
	return e.send(id, name, data)
}

// followed is a committed event with the cursor behind it.
type followed struct {
	cursor string
	event  *eventstore.Event
}

// errFollowing ends a stream whose source has ended.
var errFollowing = errors.New("the events cannot be followed any more")

// follow runs Engine.Follow beside the caller. Every event that wanted picks comes out of the first channel; the second gives
// the reason when following ends. The source waits for the reader: it reads from the store, so nothing piles up.
func (s *server) follow(ctx context.Context, after string, wanted func(*eventstore.Event) bool) (<-chan followed, <-chan error) {
	out, ended := make(chan followed), make(chan error, 1)
	go func() {
		err := s.engine.Follow(ctx, after, func(cursor string, ev *eventstore.Event) error {
			f := followed{cursor: cursor}
			if wanted(ev) {
				f.event = ev
			}
			select {
			case out <- f:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		if err == nil {
			err = errFollowing
		}
		ended <- err
	}()
	return out, ended
}

// closing tells the reader why a stream ends: the server goes down or cannot read, and it is to come back with its last id.
func (s *server) closing(e *events, err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	a := answerTo(err)
	data := appendError(nil, a, s.now().UnixMilli())
	_ = e.send("", "error", data) // the stream ends either way
}
