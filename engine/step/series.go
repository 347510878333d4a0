package step

import (
	"encoding/json"
	"slices"

	"callchain/nodes"

	"github.com/google/uuid"
)

// ChangeSeries stores or deletes latest values of time series from outside. Of several points of a key the newest is stored.
type ChangeSeries struct {
	Points []Point  `json:"points,omitempty"`
	Delete []string `json:"delete,omitempty"`
}

// Point is one value of a time series.
type Point struct {
	TS    int64           `json:"ts"` // ms since 1970
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value"`
}

func (ChangeSeries) isAction() {}

// seriesUpdated is ThingsBoard's TIMESERIES_UPDATED: values that somebody other than the device wrote.
const seriesUpdated = "TIMESERIES_UPDATED"

// changeSeries stores a change from outside, and lets TIMESERIES_UPDATED run through the chain (ThingsBoard's
// EntityActionService: {"timeseries":[{"ts":…,"values":{…}}]}).
func (t *turn) changeSeries(a ChangeSeries) {
	device := nodes.Entity{Type: nodes.Device, ID: t.cmd.Device}
	points := slices.Clone(a.Points)
	slices.SortStableFunc(points, func(x, y Point) int { return int(min(max(x.TS-y.TS, -1), 1)) })
	newest := map[string]int{}
	for i, p := range points {
		newest[p.Key] = i
	}
	for i, p := range points {
		if newest[p.Key] == i {
			key := nodes.Key{Entity: device, Name: p.Key}
			t.out.Writes = append(t.out.Writes, nodes.Write{Key: key, Value: nodes.Value{JSON: p.Value, TS: p.TS}})
		}
	}
	for _, name := range a.Delete {
		t.out.Writes = append(t.out.Writes, nodes.Write{Key: nodes.Key{Entity: device, Name: name}, Delete: true})
	}
	if len(points) == 0 || t.env.Info.Chain == nil {
		return
	}
	t.run(t.env.Info.Chain, nodes.Msg{
		ID: t.env.NewID(), TS: t.cmd.Now.Millis(), Now: int64(t.cmd.Now), Type: seriesUpdated, Originator: device,
		Metadata: nodes.Metadata{"deviceName": t.env.Info.Name, "deviceType": t.env.Info.Type},
		Data:     nodes.Parsed(map[string]any{"timeseries": byTime(points)}),
	}, uuid.Nil)
}

// byTime puts the values of one time together; the points are in order of time.
func byTime(points []Point) []any {
	var out []any
	var values map[string]any
	for i, p := range points {
		if i == 0 || p.TS != points[i-1].TS {
			values = map[string]any{}
			out = append(out, map[string]any{"ts": p.TS, "values": values})
		}
		if v, err := nodes.Raw(p.Value).Value(); err == nil {
			values[p.Key] = v
		}
	}
	return out
}
