package step

import (
	"maps"
	"slices"
	"strconv"

	"callchain/nodes"

	"github.com/google/uuid"
)

// data lets telemetry or client attributes run through the chain. A payload with times becomes a message a time, as
// ThingsBoard's transport does it (DefaultTransportService.process(PostTelemetryMsg)).
func (t *turn) data(a Data) {
	if t.env.Info.Chain == nil {
		return
	}
	md := nodes.Metadata{"deviceName": t.env.Info.Name, "deviceType": t.env.Info.Type}
	m := nodes.Msg{
		TS: t.cmd.Occurred.Millis(), Now: int64(t.cmd.Now), Type: a.Type,
		Originator: nodes.Entity{Type: nodes.Device, ID: t.cmd.Device}, Metadata: md, Data: nodes.Raw(a.Payload),
	}
	for _, part := range split(m) {
		if a.Type == nodes.PostTelemetry {
			part.Metadata = md.With("ts", strconv.FormatInt(part.TS, 10))
		}
		part.ID = t.env.NewID()
		t.run(t.env.Info.Chain, part, uuid.Nil)
		if !t.out.Needs.None() {
			return
		}
	}
}

// split takes {"ts":…,"values":{…}} and arrays of it or of plain objects apart.
func split(m nodes.Msg) []nodes.Msg {
	raw, err := m.Data.Bytes()
	if err != nil || m.Type != nodes.PostTelemetry || !mayHaveTimes(raw) {
		return []nodes.Msg{m}
	}
	v, err := m.Data.Value()
	if err != nil {
		return []nodes.Msg{m}
	}
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	out := make([]nodes.Msg, 0, len(list))
	for _, item := range list {
		part := m.WithData(nodes.Parsed(item))
		if o, ok := item.(map[string]any); ok {
			ts, timed := o["ts"].(int64)
			if values, ok := o["values"].(map[string]any); ok && timed {
				part.TS, part.Data = ts, nodes.Parsed(values)
			}
		}
		out = append(out, part)
	}
	return out
}

// mayHaveTimes spares plain objects the parsing.
func mayHaveTimes(raw []byte) bool {
	if len(raw) > 0 && raw[0] == '[' {
		return true
	}
	for i := 0; i+4 <= len(raw); i++ {
		if string(raw[i:i+4]) == `"ts"` {
			return true
		}
	}
	return false
}

// askAttributes answers a device's request; what is asked for without names is all there is (an empty Name reads a scope).
func (t *turn) askAttributes(a AskAttributes) {
	var keys []nodes.Key
	device := nodes.Entity{Type: nodes.Device, ID: t.cmd.Device}
	add := func(scope string, names []string) {
		for _, n := range names {
			keys = append(keys, nodes.Key{Entity: device, Scope: scope, Name: n})
		}
	}
	client, shared := a.Client, a.Shared
	if client == nil && shared == nil {
		client, shared = []string{""}, []string{""}
	}
	add(nodes.ClientScope, client)
	add(nodes.SharedScope, shared)
	values, ok := t.env.Values(keys)
	if !ok {
		t.out.Needs.Values = keys
		return
	}
	give := GiveAttributes{Session: a.Session, Request: a.Request, Client: map[string][]byte{}, Shared: map[string][]byte{}}
	for k, v := range values {
		switch {
		case v.JSON == nil || k.Name == "":
		case k.Scope == nodes.ClientScope:
			give.Client[k.Name] = v.JSON
		case k.Scope == nodes.SharedScope:
			give.Shared[k.Name] = v.JSON
		}
	}
	t.effect(give)
}

// changeAttributes stores a change from outside, pushes shared attributes to the device, and lets ATTRIBUTES_UPDATED run through
// the chain.
func (t *turn) changeAttributes(a ChangeAttributes) {
	device := nodes.Entity{Type: nodes.Device, ID: t.cmd.Device}
	data := make(map[string]any, len(a.Set))
	var writes []nodes.Write
	for _, name := range slices.Sorted(maps.Keys(a.Set)) {
		key := nodes.Key{Entity: device, Scope: a.Scope, Name: name}
		writes = append(writes, nodes.Write{Key: key, Value: nodes.Value{JSON: a.Set[name], TS: t.cmd.Now.Millis()}, Notify: true})
		if v, err := nodes.Raw(a.Set[name]).Value(); err == nil {
			data[name] = v
		}
	}
	for _, name := range a.Delete {
		writes = append(writes, nodes.Write{Key: nodes.Key{Entity: device, Scope: a.Scope, Name: name}, Delete: true, Notify: true})
	}
	t.out.Writes = append(t.out.Writes, writes...)
	t.push(writes)
	if len(a.Set) == 0 || t.env.Info.Chain == nil {
		return
	}
	t.run(t.env.Info.Chain, nodes.Msg{
		ID: t.env.NewID(), TS: t.cmd.Now.Millis(), Now: int64(t.cmd.Now), Type: nodes.AttributesUpdate, Originator: device,
		Metadata: nodes.Metadata{"scope": a.Scope, "deviceName": t.env.Info.Name, "deviceType": t.env.Info.Type}, Data: nodes.Parsed(data),
	}, uuid.Nil)
}

// push sends changed shared attributes to a connected device.
func (t *turn) push(writes []nodes.Write) {
	session := t.device.Session.ID
	if session == uuid.Nil {
		return
	}
	p := PushAttributes{Session: session, Changed: map[string][]byte{}}
	for _, w := range writes {
		switch {
		case !w.Notify || w.Key.Scope != nodes.SharedScope || w.Key.Entity.ID != t.cmd.Device:
		case w.Delete:
			p.Deleted = append(p.Deleted, w.Key.Name)
		default:
			p.Changed[w.Key.Name] = w.Value.JSON
		}
	}
	if len(p.Changed)+len(p.Deleted) > 0 {
		t.effect(p)
	}
}
