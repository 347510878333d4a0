package action

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"callchain/nodes"
)

// SaveTimeSeries is ThingsBoard's "save time series", for the latest values.
var SaveTimeSeries = nodes.Define(nodes.Spec{
	Type: "save time series", Class: "org.thingsboard.rule.engine.telemetry.TbMsgTimeseriesNode", Category: nodes.Action,
	Summary: "Stores the data of a POST_TELEMETRY_REQUEST message as the latest time-series values of the originator.",
	Doc: "The data is `{\"key\": value}`, `{\"ts\": ms, \"values\": {…}}` or a list of them. Without a time of its own a value has that of " +
		"metadata `ts`, else that of the message. No history is kept, so a time to live has nothing to act on.",
	Relations: []string{nodes.Success, nodes.Failure}, Terminal: true, Version: 1,
	Example: `{"useServerTs": false}`,
}, func(c timeSeriesConfig) (nodes.Node, error) { return saveTimeSeries{c.UseServerTS}, nil })

type timeSeriesConfig struct {
	Processing  processing `json:"processingSettings" doc:"ThingsBoard's processing settings."`
	DefaultTTL  int64      `json:"defaultTTL" default:"0" min:"0" doc:"Accepted for ThingsBoard's sake: only the latest value is kept, and it does not expire."`
	UseServerTS bool       `json:"useServerTs" default:"false" doc:"Use the time at which the message was taken instead of the message's."`
}

type saveTimeSeries struct{ serverTS bool }

func (n saveTimeSeries) Process(m nodes.Msg) nodes.Out {
	if m.Type != nodes.PostTelemetry {
		return unsupported(m)
	}
	data, err := m.Data.Value()
	if err != nil {
		return nodes.Fail(m, err.Error())
	}
	latest := map[string]sample{}
	if err := collect(latest, data, n.time(m)); err != nil {
		return nodes.Fail(m, err.Error())
	}
	if len(latest) == 0 {
		return nodes.Fail(m, "Msg body is empty")
	}
	out := nodes.Emit(nodes.Success, m)
	for _, key := range slices.Sorted(maps.Keys(latest)) {
		text, err := nodes.AppendJSON(nil, latest[key].value)
		if err != nil {
			return nodes.Fail(m, err.Error())
		}
		out.Writes = append(out.Writes, nodes.Write{
			Key: nodes.Key{Entity: m.Originator, Name: key}, Value: nodes.Value{JSON: text, TS: latest[key].ts},
		})
	}
	return out
}

// time is when values were measured that carry no time: ms since 1970.
func (n saveTimeSeries) time(m nodes.Msg) int64 {
	if n.serverTS {
		return m.Now / 1000
	}
	if ts, err := strconv.ParseInt(m.Metadata["ts"], 10, 64); err == nil {
		return ts
	}
	return m.TS
}

type sample struct {
	value any
	ts    int64
}

var errNoTelemetry = errors.New(`message data is neither {"key": value} nor {"ts": …, "values": {…}} nor a list of them`)

// collect keeps the newest sample of each key; of equally old ones the last.
func collect(latest map[string]sample, data any, ts int64) error {
	if list, ok := data.([]any); ok {
		for i, item := range list {
			if _, nested := item.([]any); nested {
				return fmt.Errorf("item %d: %w", i, errNoTelemetry)
			}
			if err := collect(latest, item, ts); err != nil {
				return fmt.Errorf("item %d: %w", i, err)
			}
		}
		return nil
	}
	values, ok := data.(map[string]any)
	if !ok {
		return errNoTelemetry
	}
	if own, timed := values["ts"]; timed && values["values"] != nil {
		if ts, ok = own.(int64); !ok {
			return fmt.Errorf("ts is %v, but must be milliseconds since 1970", own)
		}
		if values, ok = values["values"].(map[string]any); !ok {
			return errNoTelemetry
		}
	}
	for key, v := range values {
		if was, known := latest[key]; v != nil && (!known || was.ts <= ts) {
			latest[key] = sample{v, ts}
		}
	}
	return nil
}
