package e2e_test

import (
	"fmt"
	"strings"

	"callchain/cmd/callchain/client"
	"callchain/cmd/callchain/serve"
	"callchain/cmd/callchain/settings"
	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/eventstore"
)

// folded is a call as its events tell it.
type folded struct {
	stream    string
	state     rpc.Call
	body      rpc.Body
	terminals int
	version   int64
	ended     rpc.Instant // its first terminal fact
	late      bool        // an answer came after the end
}

// check compares what callers were told, what the API shows, and what is stored.
func (c *crashing) check() map[string]*folded {
	c.t.Helper()
	stored := c.foldAll()
	open := 0
	for id, f := range stored {
		if f.terminals > 1 {
			c.t.Errorf("call %s has %d terminal facts", id, f.terminals)
		}
		if !f.state.Phase.Terminal() {
			open++
		}
	}
	if open > 0 {
		c.t.Errorf("%d of %d calls have not ended", open, len(stored))
	}
	for id, p := range c.returned {
		f := stored[id]
		switch {
		case f == nil:
			c.t.Errorf("call %s was returned to its caller and is lost", id)
		case !p.persistent && (f.state.Phase != rpc.PhaseSucceeded || string(f.body.Response.Bytes) != p.answer):
			c.t.Errorf("the caller of %s got %s, stored is %s %s", id, p.answer, f.state.Phase, f.body.Response.Bytes)
		case p.persistent && !c.mayExpire && f.state.Phase != rpc.PhaseSucceeded:
			c.t.Errorf("persistent call %s ended %s (%s), but its device always answers", id, f.state.Phase, f.state.Reason)
		}
	}
	c.compareRows(stored)
	return stored
}

// openStore opens the store, to read it.
func (c *crashing) openStore() eventstore.Store {
	c.t.Helper()
	flags := map[string]string{"data.dir": c.place.data}
	if c.place.store != "" {
		flags["store.url"] = c.place.store
	}
	loaded, err := settings.Load(settings.Sources{Flags: flags})
	if err != nil {
		c.t.Fatal(err)
	}
	store, err := serve.OpenStore(c.t.Context(), loaded.Settings)
	if err != nil {
		c.t.Fatal(err)
	}
	return store
}

// foldAll folds every call from the events, read beside the running server.
func (c *crashing) foldAll() map[string]*folded {
	store := c.openStore()
	defer store.Close()
	checkpoints, err := store.Checkpoints(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	out := map[string]*folded{}
	for _, cp := range checkpoints {
		for after := int64(0); after < cp.Seq; {
			events, err := store.Partition(c.t.Context(), cp.Partition, after, 1000)
			if err != nil || len(events) == 0 {
				c.t.Fatalf("reading partition %d after %d: %d events, %v", cp.Partition, after, len(events), err)
			}
			for i := range events {
				c.fold(out, &events[i])
			}
			after = events[len(events)-1].Seq
		}
	}
	return out
}

func (c *crashing) fold(into map[string]*folded, e *eventstore.Event) {
	if !strings.HasPrefix(e.Stream, "rpc/") {
		return
	}
	fact, err := projection.DecodeCall(e)
	if err != nil {
		c.t.Fatalf("decoding %s/%d: %v", e.Stream, e.Version, err)
	}
	id := fact.Call.String()
	f := into[id]
	if f == nil {
		f = &folded{stream: e.Stream}
		into[id] = f
	}
	before := f.state.Phase
	f.state = rpc.EvolveCall(f.state, fact, rpc.Settings{})
	f.body = rpc.EvolveBody(f.body, fact.Fact)
	f.version = e.Version
	if _, late := fact.Fact.(rpc.AnsweredLate); late {
		f.late = true
	}
	if f.state.Phase.Terminal() && !before.Terminal() {
		f.terminals++
		f.ended = fact.At
	} else if f.state.Phase != before && before.Terminal() {
		f.terminals++ // one terminal state after another
	}
}

// facts is what is stored of a call, a line each, for the output of a failure.
func (c *crashing) facts(f *folded) string {
	if f == nil {
		return "nothing"
	}
	store := c.openStore()
	defer store.Close()
	events, err := store.Stream(c.t.Context(), f.stream, 0, 100)
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for i := range events {
		e := &events[i]
		fmt.Fprintf(&b, "%s %s partition %d seq %d by %s because of %s: %s\n", rpc.Instant(e.At).Time().Format("15:04:05.000000"), e.Type, e.Partition, e.Seq, e.Actor, e.Cause, e.Data)
	}
	return b.String()
}

// compareRows pages through the API's list of calls, which is read from the projection.
func (c *crashing) compareRows(stored map[string]*folded) {
	rows := 0
	filter := client.CallFilter{Size: 1000}
	for {
		page, err := c.rest.Calls(c.t.Context(), filter)
		if err != nil {
			c.t.Fatal(err)
		}
		for i := range page.Data {
			row := &page.Data[i]
			rows++
			f := stored[row.ID]
			if f == nil {
				c.t.Errorf("call %s is listed and has no events", row.ID)
				continue
			}
			if row.Phase != f.state.Phase.String() || row.Status != f.state.Status.String() || row.Version != f.version ||
				row.Response.String() != string(f.body.Response.Bytes) {
				c.t.Errorf("call %s: the row says %s %s version %d %s, the events %s %s version %d %s", row.ID, row.Phase, row.Status, row.Version,
					row.Response, f.state.Phase, f.state.Status, f.version, f.body.Response.Bytes)
			}
		}
		if page.Next == "" {
			break
		}
		filter.Before = page.Next
	}
	if rows != len(stored) {
		c.t.Errorf("the API lists %d calls, the log has %d", rows, len(stored))
	}
}
