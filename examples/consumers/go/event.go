package main

import (
	"encoding/json"
	"strings"
)

// event is what this program needs of an event's value. docs/events.schema.json has all of it.
type event struct {
	Stream    string          `json:"stream"`
	Partition int32           `json:"partition"`
	Seq       int64           `json:"seq"`
	Type      string          `json:"type"`
	Occurred  string          `json:"occurred"`
	Actor     string          `json:"actor"`
	Cause     string          `json:"cause"`
	Data      json.RawMessage `json:"data"`
}

// call is the id of the call that the event is of, empty if it is of no call: the stream of a call is rpc/<tenant>/<call>.
func (e *event) call() string {
	parts := strings.Split(e.Stream, "/")
	if len(parts) != 3 || parts[0] != "rpc" {
		return ""
	}
	return parts[2]
}

// terminal tells whether the call ends with this event. An answer that comes late may still follow.
func (e *event) terminal() bool {
	switch e.Type {
	case "Succeeded", "Failed", "Expired", "Cancelled", "Rejected":
		return true
	}
	return false
}

// line is the event for people.
func (e *event) line() string {
	return strings.Join([]string{e.Occurred, e.call(), e.Type, e.Actor, e.Cause, string(e.Data)}, "  ")
}
