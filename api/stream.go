package api

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"callchain/engine/projection"
	"callchain/eventstore"
	"callchain/registry/auth"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
)

// openWait is how long a stream waits for its source to refuse (a wrong cursor) before it sends its header.
const openWait = 100 * time.Millisecond

// streamEvents serves GET /api/events/stream: the tenant's committed events from a cursor on, each with the cursor behind it as
// its id. Last-Event-ID wins over ?after, because a browser that reconnects repeats its first address.
func streamEvents(s *server, c *gin.Context, who *auth.Principal) error {
	wanted, err := wantedEvents(c, who)
	if err != nil {
		return err
	}
	after := first(c.Request.Header[headerLastEvent])
	if after == "" {
		after = c.Query("after")
	}
	ctx, cancel := context.WithCancel(c.Request.Context())
	defer cancel()
	source, ended := s.follow(ctx, after, wanted)
	opening := time.NewTimer(openWait)
	defer opening.Stop()
	var early *followed
	select {
	case err := <-ended:
		return err
	case f := <-source:
		early = &f
	case <-opening.C:
	}
	s.metrics.streams.Inc()
	defer s.metrics.streams.Dec()
	e := s.openEvents(c)
	s.closing(e, s.pump(ctx, e, early, source, ended))
	return nil
}

// pump moves events to the reader until one of the two ends.
func (s *server) pump(ctx context.Context, e *events, early *followed, source <-chan followed, ended <-chan error) error {
	beat := time.NewTicker(s.config.Heartbeat)
	defer beat.Stop()
	cursor := ""
	take := func(f *followed) error {
		cursor = f.cursor
		if f.event == nil {
			return nil
		}
		return e.sendValue(f.cursor, f.event.Type, projection.EventOf(f.event))
	}
	if early != nil {
		if err := take(early); err != nil {
			return err
		}
	}
	for {
		var err error
		select {
		case f := <-source:
			err = take(&f)
		case <-beat.C:
			err = e.beat(cursor)
		case why := <-ended:
			return why
		case <-ctx.Done():
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// wantedEvents reads the filters type (one or several, with commas) and deviceId.
func wantedEvents(c *gin.Context, who *auth.Principal) (func(*eventstore.Event) bool, error) {
	device, err := optionalUUID(c, "deviceId")
	if err != nil {
		return nil, err
	}
	types := map[string]bool{}
	for _, list := range c.QueryArray("type") {
		for name := range strings.SplitSeq(list, ",") {
			if name = strings.TrimSpace(name); name != "" {
				types[name] = true
			}
		}
	}
	tenant := who.Tenant
	return func(ev *eventstore.Event) bool {
		return ev.Tenant == tenant && (device == uuid.Nil || ev.Device == device) && (len(types) == 0 || types[ev.Type])
	}, nil
}

// watchCall serves GET /api/rpc/calls/{callId}/watch: the call's events from the first one on (or behind Last-Event-ID, a
// version), then its state as event "state" when it has ended.
func watchCall(s *server, c *gin.Context, who *auth.Principal) error {
	id, err := pathUUID(c, "callId")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(c.Request.Context())
	defer cancel()
	stream := projection.CallStream(who.Tenant, id)
	source, ended := s.follow(ctx, "", func(ev *eventstore.Event) bool { return ev.Stream == stream })
	_, events, err := s.readHistory(c, who) // after following began, so that nothing falls between the two
	if err != nil {
		return err
	}
	s.metrics.streams.Inc()
	defer s.metrics.streams.Dec()
	w := &watch{server: s, who: who, id: id, events: s.openEvents(c)}
	if v, err := strconv.ParseInt(first(c.Request.Header[headerLastEvent]), 10, 64); err == nil {
		w.seen = v
	}
	s.closing(w.events, w.run(ctx, events, source, ended))
	return nil
}

// watch follows one call.
type watch struct {
	server *server
	who    *auth.Principal
	events *events
	id     uuid.UUID
	call   projection.Call
	seen   int64 // the reader has the events up to this version
}

// errWatched ends a watch: the call has ended and the reader knows.
var errWatched = errors.New("the call has ended")

func (w *watch) run(ctx context.Context, events []eventstore.Event, source <-chan followed, ended <-chan error) error {
	beat := time.NewTicker(w.server.config.Heartbeat)
	defer beat.Stop()
	err := w.show(events)
	for err == nil {
		select {
		case f := <-source:
			if f.event != nil {
				err = w.more(ctx)
			}
		case <-beat.C:
			if err = w.events.beat(""); err == nil {
				err = w.more(ctx)
			}
		case why := <-ended:
			return why
		case <-ctx.Done():
			return nil
		}
	}
	if errors.Is(err, errWatched) {
		return nil
	}
	return err
}

// more reads what was added to the call's stream. The events that were followed only say that there is something to read.
func (w *watch) more(ctx context.Context) error {
	events, err := w.server.history(ctx, w.who, w.id, w.call.Version)
	if err != nil {
		return err
	}
	return w.show(events)
}

func (w *watch) show(events []eventstore.Event) error {
	for i := range events {
		if err := foldOne(&w.call, &events[i]); err != nil {
			return err
		}
		if events[i].Version <= w.seen {
			continue
		}
		if err := w.events.sendValue(strconv.FormatInt(events[i].Version, 10), events[i].Type, projection.EventOf(&events[i])); err != nil {
			return err
		}
	}
	if !w.call.State.Phase.Terminal() {
		return nil
	}
	if err := w.events.sendValue("", "state", viewOf(&w.call, w.call.State.QueuedAt != 0)); err != nil {
		return err
	}
	return errWatched
}
