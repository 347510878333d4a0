package step

import (
	"strconv"

	"callchain/engine/rpc"
	"callchain/nodes"

	"github.com/google/uuid"
)

// call begins an application's call and lets its message run through the device's chain
// (ThingsBoard: DefaultTbCoreDeviceRpcService; thingsboard metadata keys and data as there).
func (t *turn) call(a Call) {
	if known := t.device.Find(a.ID); known != nil && known.Content == a.Content {
		t.again(known)
		return
	}
	if err := t.decide(a.Request); err != nil {
		t.refused(err)
		return
	}
	c := t.device.Find(a.ID)
	if c == nil {
		return // it had expired on arrival
	}
	if t.env.Info.Chain == nil {
		t.refused(t.decide(rpc.Reject{Call: a.ID, Code: rpc.CodeNotDispatched, Detail: "the device has no rule chain"}))
		return
	}
	t.run(t.env.Info.Chain, t.callMessage(a), a.ID)
}

// again answers a repeated open call: a persistent one is queued, the end of a light one goes to all callers.
func (t *turn) again(known *rpc.Call) {
	if known.Persistent {
		t.effect(NotifyCallers{Call: known.ID, Phase: rpc.PhaseQueued})
	}
}

func (t *turn) callMessage(a Call) nodes.Msg {
	md := nodes.Metadata{
		"requestUUID": a.ID.String(), "originServiceId": "callchain", "expirationTime": strconv.FormatInt(a.Expires.Millis(), 10),
		"oneway": strconv.FormatBool(a.Oneway), "persistent": strconv.FormatBool(a.Persistent),
		"deviceName": t.env.Info.Name, "deviceType": t.env.Info.Type,
	}
	if a.Retries != nil {
		md["retries"] = strconv.Itoa(*a.Retries)
	}
	params := "null"
	if len(a.Params) > 0 {
		params = string(a.Params)
	}
	data := map[string]any{"method": a.Method, "params": params, "additionalInfo": nil}
	if len(a.Info) > 0 {
		data["additionalInfo"] = string(a.Info)
	}
	return nodes.Msg{
		ID: t.env.NewID(), TS: t.cmd.Now.Millis(), Now: int64(t.cmd.Now), Type: nodes.CallToDevice,
		Originator: nodes.Entity{Type: nodes.Device, ID: t.cmd.Device}, Customer: a.Customer, Metadata: md, Data: nodes.Parsed(data),
	}
}

// deviceCall begins a device's call and lets its message run through the chain; any run may answer it until its deadline
// (ThingsBoard: DefaultTransportService.process(ToServerRpcRequestMsg)).
func (t *turn) deviceCall(a DeviceCall) {
	if err := t.decide(a.Request); err != nil {
		t.refused(err)
		return
	}
	if t.env.Info.Chain == nil || t.device.Find(a.ID) == nil {
		return
	}
	md := nodes.Metadata{
		"deviceName": t.env.Info.Name, "deviceType": t.env.Info.Type, "requestId": strconv.Itoa(int(a.Request.Request)),
		"serviceId": a.Service, "sessionId": a.Session.String(),
	}
	t.run(t.env.Info.Chain, nodes.Msg{
		ID: t.env.NewID(), TS: t.cmd.Now.Millis(), Now: int64(t.cmd.Now), Type: nodes.CallFromDevice,
		Originator: nodes.Entity{Type: nodes.Device, ID: t.cmd.Device}, Metadata: md, Data: nodes.Raw(deviceCallData(a)),
	}, uuid.Nil)
}

// deviceCallData is {"method":…,"params":…}; params that the device left out are null.
func deviceCallData(a DeviceCall) []byte {
	buf := append(make([]byte, 0, len(a.Method)+len(a.Params)+32), `{"method":`...)
	buf = append(rpc.AppendString(buf, a.Method), `,"params":`...)
	if len(a.Params) == 0 {
		buf = append(buf, "null"...)
	} else {
		buf = append(buf, a.Params...)
	}
	return append(buf, '}')
}
