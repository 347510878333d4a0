package rpc

import (
	"fmt"
	"strconv"
	"time"

	"callchain/nodes"

	"github.com/google/uuid"
)

// Request is ThingsBoard's "rpc call request" (TbSendRPCRequestNode).
var Request = nodes.Define(nodes.Spec{
	Type: "rpc call request", Class: "org.thingsboard.rule.engine.rpc.TbSendRPCRequestNode", Category: nodes.Action,
	Summary: "Sends a call to the originator, a device, and goes on with its answer.",
	Doc: "The data holds `method`, `params` and, if you like, `additionalInfo`. Metadata `oneway`, `persistent`, `requestUUID`, `expirationTime` " +
		"(milliseconds), `retries` and `originServiceId` are honoured. Success carries the device's answer, `{}` if it is empty, or at once " +
		"`{\"rpcId\": …}` for a persistent call; Failure carries `{\"error\": \"TIMEOUT\"}` or another of ThingsBoard's errors. The wait is stored: it " +
		"goes on after a restart.",
	Relations: []string{nodes.Success, nodes.Failure}, Terminal: true,
	Example: `{"timeoutInSeconds": 60}`,
}, func(c requestConfig) (nodes.Node, error) { return request{time.Duration(c.Timeout) * time.Second}, nil })

type requestConfig struct {
	Timeout int64 `json:"timeoutInSeconds" default:"60" min:"0" max:"31536000" doc:"Seconds until the call ends with TIMEOUT, if metadata expirationTime is absent."`
}

type request struct{ timeout time.Duration }

func (n request) Process(m nodes.Msg) nodes.Out {
	if m.Originator.Type != nodes.Device {
		return nodes.Fail(m, errNoDevice)
	}
	data, err := m.Data.Object()
	if err != nil {
		return nodes.Fail(m, err.Error())
	}
	method, ok := data["method"]
	if !ok {
		return nodes.Fail(m, "Method is not present in the message!")
	}
	params, ok := data["params"]
	if !ok {
		return nodes.Fail(m, "Params are not present in the message!")
	}
	ask := nodes.CallDevice{Timeout: n.timeout, FromREST: m.Type == nodes.CallToDevice && text(m, "originServiceId") != ""}
	if ask.Method, ok = method.(string); !ok {
		return nodes.Fail(m, fmt.Sprintf("Method is %v, but must be text!", method))
	}
	if ask.Params, err = paramsJSON(params); err != nil {
		return nodes.Fail(m, "params: "+err.Error())
	}
	if ask.Info, err = infoJSON(data["additionalInfo"]); err != nil {
		return nodes.Fail(m, "additionalInfo: "+err.Error())
	}
	if err := fromMetadata(&ask, m); err != nil {
		return nodes.Fail(m, err.Error())
	}
	return nodes.Out{Ask: ask}
}

// paramsJSON is what the device gets. A text that is JSON is that JSON, as the message of an application's call holds it; any
// other text is a JSON string (ThingsBoard sends the text to a lenient parser, with the same outcome).
func paramsJSON(v any) ([]byte, error) {
	if s, ok := v.(string); ok {
		if _, err := nodes.ParseJSON([]byte(s)); err == nil {
			return []byte(s), nil
		}
	}
	return nodes.AppendJSON(nil, v)
}

func infoJSON(v any) ([]byte, error) {
	if v == nil || v == "" {
		return nil, nil
	}
	return paramsJSON(v)
}

func fromMetadata(ask *nodes.CallDevice, m nodes.Msg) error {
	ask.Oneway = text(m, "oneway") == "true"
	ask.Persistent = text(m, "persistent") == "true"
	if id := text(m, "requestUUID"); id != "" {
		parsed, err := uuid.Parse(id)
		if err != nil {
			return fmt.Errorf("metadata requestUUID is no UUID: %q", id)
		}
		ask.ID = parsed
	}
	if at := text(m, "expirationTime"); at != "" {
		ms, err := strconv.ParseInt(at, 10, 64)
		if err != nil || ms > expiresMax {
			return fmt.Errorf("metadata expirationTime is no time in milliseconds: %q", at)
		}
		ask.Expires = ms * 1000
	}
	if r := text(m, "retries"); r != "" {
		n, err := strconv.Atoi(r)
		if err != nil {
			return fmt.Errorf("metadata retries is no number: %q", r)
		}
		ask.Retries = &n
	}
	return nil
}

// expiresMax is the last millisecond whose microseconds fit 63 bits.
const expiresMax = (1<<63 - 1) / 1000

// Resume makes the device's answer the data of the message.
func (n request) Resume(m nodes.Msg, a nodes.Answer) nodes.Out {
	ended, ok := a.(nodes.CallEnded)
	if !ok {
		return nodes.Fail(m, fmt.Sprintf("the answer to a call is a %T", a))
	}
	if ended.Error != "" {
		return nodes.Fail(m.WithData(nodes.Parsed(map[string]any{"error": ended.Error})), ended.Error)
	}
	body := ended.Body
	if len(body) == 0 {
		body = []byte("{}")
	}
	return nodes.Emit(nodes.Success, m.WithData(nodes.Raw(body)))
}
