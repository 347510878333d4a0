package rpc

import (
	"encoding/json"
	"strconv"

	"github.com/google/uuid"
)

// Body is the payload of a call: request and response. It is read from the call's stream.
type Body struct {
	Method   string          `json:"method"`
	Params   json.RawMessage `json:"params,omitempty"`
	Retries  *int            `json:"retries,omitempty"`
	Info     json.RawMessage `json:"info,omitempty"`
	Response Payload         `json:"response"`
	Error    string          `json:"error,omitempty"` // why it failed, for people
	Sent     struct {        // what went to the device, where the chain changed it
		Method *string         `json:"method,omitempty"`
		Params json.RawMessage `json:"params,omitempty"`
	} `json:"sent"`
}

// Command is the method and the params that the device is to get; absent params are JSON null, as ThingsBoard sends them.
func (b *Body) Command() (method string, params json.RawMessage) {
	method, params = b.Method, b.Params
	if b.Sent.Method != nil {
		method = *b.Sent.Method
	}
	if b.Sent.Params != nil {
		params = b.Sent.Params
	}
	if len(params) == 0 {
		params = json.RawMessage("null")
	}
	return method, params
}

// EvolveBody applies a fact to the body of its call.
func EvolveBody(b Body, f Fact) Body {
	switch f := f.(type) {
	case Requested:
		b.Method, b.Params, b.Retries, b.Info = f.Method, f.Params, f.Retries, f.Info
	case Queued:
		if !f.Again {
			b.Sent.Method, b.Sent.Params = f.Method, f.Params
		}
	case Succeeded:
		b.Response = f.Response
	case Failed:
		b.Error = f.Detail
	case Rejected:
		b.Error = f.Detail
	}
	return b
}

// Shown is the response as the compatible record shows it: the JSON of the device, {"error":"<text>"} for an answer that is not JSON
// or a failure, null until then (DeviceActorMessageProcessor.processRpcResponses).
func (b *Body) Shown(c *Call) json.RawMessage {
	switch {
	case b.Response.Form == JSON:
		return b.Response.Bytes
	case b.Response.Form == Text || b.Response.Form == Binary:
		return append(AppendString([]byte(`{"error":`), string(b.Response.Bytes)), '}')
	case b.Error != "":
		return append(AppendString([]byte(`{"error":`), b.Error), '}')
	case c.Phase == PhaseFailed || c.Phase == PhaseRejected:
		return append(AppendString([]byte(`{"error":`), string(c.Reason)), '}')
	}
	return nil
}

// AppendRecord appends ThingsBoard's JSON of a stored call (class Rpc), with its field order.
func AppendRecord(dst []byte, tenant, device uuid.UUID, c *Call, b *Body) []byte {
	dst = appendEntity(append(dst, `{"id":`...), "RPC", c.ID)
	dst = strconv.AppendInt(append(dst, `,"createdTime":`...), c.Created.Millis(), 10)
	dst = appendEntity(append(dst, `,"tenantId":`...), "TENANT", tenant)
	dst = appendEntity(append(dst, `,"deviceId":`...), "DEVICE", device)
	dst = strconv.AppendInt(append(dst, `,"expirationTime":`...), c.Expires.Millis(), 10)
	dst = appendUUID(append(dst, `,"request":{"id":`...), c.ID)
	dst = appendEntity(append(dst, `,"tenantId":`...), "TENANT", tenant)
	dst = appendEntity(append(dst, `,"deviceId":`...), "DEVICE", device)
	dst = strconv.AppendBool(append(dst, `,"oneway":`...), c.Oneway)
	dst = strconv.AppendInt(append(dst, `,"expirationTime":`...), c.Expires.Millis(), 10)
	method, params := b.Command()
	dst = AppendString(append(dst, `,"body":{"method":`...), method)
	dst = AppendString(append(dst, `,"params":`...), string(params))
	dst = strconv.AppendBool(append(dst, `},"persisted":`...), c.Persistent)
	dst = append(dst, `,"retries":`...)
	if b.Retries != nil {
		dst = strconv.AppendInt(dst, int64(*b.Retries), 10)
	} else {
		dst = append(dst, "null"...)
	}
	dst = appendOrNull(append(dst, `},"response":`...), b.Shown(c))
	dst = append(append(append(dst, `,"status":"`...), c.Status.String()...), '"')
	dst = appendOrNull(append(dst, `,"additionalInfo":`...), b.Info)
	return append(dst, '}')
}

func appendEntity(dst []byte, kind string, id uuid.UUID) []byte {
	dst = append(append(dst, `{"entityType":"`...), kind...)
	dst = appendUUID(append(dst, `","id":`...), id)
	return append(dst, '}')
}

func appendOrNull(dst, raw []byte) []byte {
	if len(raw) == 0 {
		return append(dst, "null"...)
	}
	return appendCompact(dst, raw)
}
