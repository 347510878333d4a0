package command

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"callchain/cmd/callchain/client"
)

// detailMax keeps a timeline's lines on a screen.
const detailMax = 60

// printTimeline writes what happened to a call: fact, time since the first one, who, through what, what it says, hash.
func printTimeline(out io.Writer, c *client.Call, events []client.Event) error {
	way, kind := "to", "light"
	if c.Direction == "from_device" {
		way = "from"
	}
	if c.Persistent {
		kind = "persistent"
	}
	if c.Oneway {
		kind += " one-way"
	} else if c.Direction == "to_device" {
		kind += " two-way"
	}
	fmt.Fprintf(out, "call %s: %s %s %s device %s\n", c.ID, kind, c.Method, way, c.Device)
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "  TIME\tFACT\tBY\tTHROUGH\tDETAIL\tHASH")
	for i := range events {
		printFact(w, &events[i], events[0].Occurred)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("printing the timeline: %w", err)
	}
	if c.Terminal() {
		fmt.Fprintf(out, "ended %s (%s) after %s%s\n", c.Phase, c.Status, milliseconds(events[len(events)-1].Occurred.Sub(events[0].Occurred)), reason(c))
	} else {
		fmt.Fprintf(out, "open: %s (%s), ends at %s at the latest\n", c.Phase, c.Status, c.Expires.Format(time.RFC3339))
	}
	return nil
}

func reason(c *client.Call) string {
	text := ""
	if c.Code != "" {
		text = ": " + c.Code
	}
	if c.Detail != "" {
		text += ", " + c.Detail
	}
	if answer := c.Response.String(); answer != "" {
		text += ", answer " + clip(answer, detailMax)
	}
	return text
}

func printFact(w io.Writer, e *client.Event, first time.Time) {
	hash := e.Hash
	if len(hash) > 8 {
		hash = hash[:8]
	}
	fmt.Fprintf(w, "  +%s\t%s\t%s\t%s\t%s\t%s\n", milliseconds(e.Occurred.Sub(first)), e.Type, shortActor(e.Actor), shortCause(e.Cause), detail(e), hash)
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.3f ms", float64(d.Microseconds())/1000)
}

// shortActor keeps the kind of the actor and the last digits of its id; the first ones are a time, alike for all that is made together.
func shortActor(actor string) string {
	kind, id, found := strings.Cut(actor, ":")
	if !found || len(id) < 8 {
		return actor
	}
	return kind + " …" + id[len(id)-8:]
}

// shortCause keeps the node's name of "node:<chain>/<node>".
func shortCause(cause string) string {
	if rest, isNode := strings.CutPrefix(cause, "node:"); isNode {
		_, name, _ := strings.Cut(rest, "/")
		return "node " + name
	}
	return cause
}

// detail says what is particular to a fact.
func detail(e *client.Event) string {
	var d struct {
		Method   string          `json:"method"`
		Params   json.RawMessage `json:"params"`
		Wire     *int32          `json:"wire"`
		Attempt  int             `json:"attempt"`
		Evidence string          `json:"evidence"`
		Reason   string          `json:"reason"`
		Code     string          `json:"code"`
		Detail   string          `json:"detail"`
		Offline  bool            `json:"offline"`
		Response *client.Payload `json:"response"`
	}
	if json.Unmarshal(e.Data, &d) != nil {
		return clip(string(e.Data), detailMax)
	}
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if d.Method != "" {
		add("%s %s", d.Method, d.Params)
	}
	if d.Wire != nil {
		add("wire id %d", *d.Wire)
	}
	if d.Attempt > 0 {
		add("attempt %d", d.Attempt)
	}
	if d.Evidence != "" {
		add("evidence %s", d.Evidence)
	}
	for _, text := range []string{d.Reason, d.Code, d.Detail, d.Response.String()} {
		if text != "" {
			add("%s", text)
		}
	}
	if d.Offline {
		add("the device was offline")
	}
	return clip(strings.Join(parts, ", "), detailMax)
}

func clip(text string, most int) string {
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	return string(runes[:most-1]) + "…"
}
