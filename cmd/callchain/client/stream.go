package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// lineMax bounds a line of an event stream, in bytes: an event with the largest payload, and room.
const lineMax = 32 << 20

// Notice is one server-sent event (WHATWG HTML, section 9.2).
type Notice struct {
	ID   string // cursor behind it
	Name string // an event's type; "state" when a watched call has ended; "error"
	Data []byte // JSON
}

// ErrStop, returned by the function that a stream is handed to, ends the stream without an error.
var ErrStop = errors.New("enough")

// ErrCut says that the server ended a stream before it was at its end: it shuts down, for example.
var ErrCut = errors.New("the server ended the stream before the call ended: watch it again")

// Watch hands over a call's facts from the first one on, then its state when it has ended, and returns.
func (c *Client) Watch(ctx context.Context, id string, each func(Notice) error) error {
	ended := false
	err := c.stream(ctx, "/api/rpc/calls/"+url.PathEscape(id)+"/watch", func(n Notice) error {
		err := each(n)
		ended = ended || n.Name == "state" || errors.Is(err, ErrStop)
		return err
	})
	if err == nil && !ended {
		return ErrCut
	}
	return err
}

// StreamFilter selects events of the stream of all; zero fields select all, from now on.
type StreamFilter struct {
	After  string // cursor
	Types  []string
	Device string
}

// Follow hands over the tenant's committed events until ctx ends or each fails.
func (c *Client) Follow(ctx context.Context, f StreamFilter, each func(Notice) error) error {
	q := url.Values{}
	if f.After != "" {
		q.Set("after", f.After)
	}
	if f.Device != "" {
		q.Set("deviceId", f.Device)
	}
	if len(f.Types) > 0 {
		q.Set("type", strings.Join(f.Types, ","))
	}
	return c.stream(ctx, "/api/events/stream?"+q.Encode(), each)
}

func (c *Client) stream(ctx context.Context, path string, each func(Notice) error) error {
	resp, err := c.open(ctx, http.MethodGet, path, "", nil, http.Header{"Accept": {"text/event-stream"}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	err = readNotices(resp.Body, func(n Notice) error {
		if n.Name == "error" {
			e := &Error{}
			if err := json.Unmarshal(n.Data, e); err != nil {
				return fmt.Errorf("reading the reason why the stream ended: %w", err)
			}
			return e
		}
		return each(n)
	})
	switch {
	case errors.Is(err, ErrStop):
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return err
}

// readNotices takes a stream apart; comments and events without data are not handed over.
func readNotices(r io.Reader, each func(Notice) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), lineMax)
	var n Notice
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case lines.Text() == "":
			if n.Data != nil {
				if err := each(n); err != nil {
					return err
				}
			}
			n = Notice{ID: n.ID}
		case field == "id":
			n.ID = value
		case field == "event":
			n.Name = value
		case field == "data":
			n.Data = append(n.Data, value...)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("reading the stream of events: %w", err)
	}
	return nil
}
