package api

import (
	"net/http"

	"callchain/api/openapi"
	"callchain/engine/projection"
)

func healthOperations() operations {
	return operations{
		"GET /livez":            {Summary: "Says that the process works.", Answer: liveView{}},
		"GET /readyz":           {Summary: "Says whether everything is up: 503 with the reasons until then.", Answer: readyView{}, Others: map[int]any{http.StatusServiceUnavailable: readyView{}}},
		"GET /metrics":          {Summary: "Measurements in Prometheus' text format.", Answer: text, Gives: []string{"text/plain"}},
		"GET /api/openapi.json": {Summary: "This document.", Answer: object},
	}
}

func userOperations() operations {
	return operations{
		"POST /api/auth/login": {
			Summary: "Tokens for an e-mail and a password.", Body: loginBody{}, Answer: tokensView{}, Codes: []int{http.StatusUnauthorized, http.StatusTooManyRequests},
		},
		"POST /api/auth/token":  {Summary: "New tokens for a refresh token.", Body: refreshBody{}, Answer: tokensView{}, Codes: []int{http.StatusUnauthorized}},
		"POST /api/auth/logout": {Summary: "The tokens of the session are void."},
		"GET /api/auth/user":    {Summary: "Who the caller is.", Answer: userView{}, Codes: []int{http.StatusNotFound}},
		"POST /api/auth/changePassword": {
			Summary: "Replaces the caller's password; all tokens but the new ones are void.", Body: passwordsBody{}, Answer: tokensView{},
			Codes: []int{http.StatusTooManyRequests},
		},
		"GET /api/noauth/userPasswordPolicy": {Summary: "What passwords must look like.", Answer: passwordPolicyView{}},
		"GET /api/user/:userId":              {Summary: "A user of the own tenant.", Answer: userView{}},
		"GET /api/tenant/:tenantId":          {Summary: "The own tenant.", Answer: tenantView{}},
		"GET /api/tenant/info/:tenantId":     {Summary: "The own tenant.", Answer: tenantView{}},
	}
}

// asking is the schema of a call's body. ThingsBoard turns values of other types into these where it can (callBody), so types are given,
// but not demanded.
var asking = openapi.Schema{
	"type": "object", "required": []any{"method"}, "properties": openapi.Schema{
		"method":         openapi.Schema{"description": "Name of what the device is to do; a text."},
		"params":         openapi.Schema{"description": "Any JSON."},
		"timeout":        openapi.Schema{"description": "ms until the call ends without an answer; at least rpc.min_timeout."},
		"expirationTime": openapi.Schema{"description": "ms since 1970 at which the call ends without an answer; wins over timeout."},
		"persistent":     openapi.Schema{"description": "true: the call is stored, and its id is the answer."},
		"retries":        openapi.Schema{"description": "How often the delivery is tried again; a number."},
		"additionalInfo": openapi.Schema{"description": "Kept with a persistent call; any JSON."},
		"requestUUID":    openapi.Schema{"description": "The call's id, chosen by the caller; a UUID."},
		"onOffline":      openapi.Schema{"description": "fail: answer at once if the device takes no calls now; wait, the default: wait for it."},
		"submitOrder":    openapi.Schema{"description": "burst, on_ack or on_response: what this call waits for before it is sent."},
	},
}

func callOperations() operations {
	call := func(summary string, codes ...int) openapi.Operation {
		return openapi.Operation{
			Summary: summary, Body: asking, Answer: openapi.Schema{"description": "What the device answered, any JSON; of a persistent call {\"rpcId\":…}."},
			Headers: []openapi.Parameter{
				ask(headerIdempotency, "Makes the id of the call, so that it can be repeated after a lost answer.", openapi.Schema{"type": "string", "maxLength": 255}),
				ask("traceparent", "W3C trace context; the trace id stands in every event of the call.", text),
			},
			Codes: append(codes, http.StatusNotAcceptable, http.StatusConflict, http.StatusTooManyRequests),
		}
	}
	oneway := func(o openapi.Operation) openapi.Operation {
		o.Answer = openapi.Schema{"description": "Of a persistent call {\"rpcId\":…}; else the answer is empty."}
		return o
	}
	out := operations{
		"POST /api/plugins/rpc/oneway/:deviceId": oneway(call("Sends a command and waits until it left (older form).", http.StatusRequestTimeout)),
		"POST /api/plugins/rpc/twoway/:deviceId": call("Sends a command and waits for the device's answer (older form).", http.StatusRequestTimeout),
		"POST /api/rpc/oneway/:deviceId":         oneway(call("Sends a command and waits until it left.", http.StatusGatewayTimeout)),
		"POST /api/rpc/twoway/:deviceId":         call("Sends a command and waits for the device's answer.", http.StatusGatewayTimeout),
	}
	storedOperations(out)
	historyOperations(out)
	return out
}

func storedOperations(out operations) {
	out["GET /api/rpc/persistent/:rpcId"] = openapi.Operation{Summary: "A persistent call.", Answer: recordView{}}
	out["DELETE /api/rpc/persistent/:rpcId"] = openapi.Operation{
		Summary: "Ends a persistent call if it is open, and hides it here. Its history stays.", Codes: []int{http.StatusConflict},
	}
	out["GET /api/rpc/persistent/device/:deviceId"] = openapi.Operation{
		Summary: "Persistent calls of a device. textSearch is ignored, as in ThingsBoard.", Answer: pageOf[recordView]{},
		Query: paging(ask("rpcStatus", "Only calls in this status.", enum("QUEUED", "SENT", "DELIVERED", "SUCCESSFUL", "TIMEOUT", "EXPIRED", "FAILED"))),
	}
}

// recordView is ThingsBoard's Rpc (rpc.AppendRecord writes it).
type recordView struct {
	ID         entity      `json:"id"`
	Created    int64       `json:"createdTime"` // ms
	Tenant     entity      `json:"tenantId"`
	Device     entity      `json:"deviceId"`
	Expires    int64       `json:"expirationTime"` // ms
	Request    requestView `json:"request"`
	Response   any         `json:"response"`
	Status     string      `json:"status"`
	Additional any         `json:"additionalInfo"`
}

// requestView is ThingsBoard's ToDeviceRpcRequest.
type requestView struct {
	ID      string  `json:"id"`
	Tenant  entity  `json:"tenantId"`
	Device  entity  `json:"deviceId"`
	Oneway  bool    `json:"oneway"`
	Expires int64   `json:"expirationTime"`
	Body    rpcBody `json:"body"`
	Stored  bool    `json:"persisted"`
	Retries *int    `json:"retries"`
}

// rpcBody is ThingsBoard's ToDeviceRpcRequestBody; params is JSON in a text.
type rpcBody struct {
	Method string `json:"method"`
	Params string `json:"params"`
}

func historyOperations(out operations) {
	events := []string{"text/event-stream"}
	out["GET /api/rpc/calls"] = openapi.Operation{
		Summary: "Calls of any kind, the newest first. Users of a customer must name one of their devices.", Answer: callsView{},
		Query: []openapi.Parameter{
			ask("deviceId", "Only calls of this device.", maybeID), ask("method", "Only calls of this method.", text),
			ask("status", "Only calls with this status (SUCCESSFUL) or in this phase (succeeded).", text),
			ask("from", "Only calls made at this time or later: RFC 3339, or ms since 1970.", text),
			ask("to", "Only calls made before this time.", text), ask("persistent", "Only persistent calls, or only light ones.", flag),
			ask("pageSize", "At most 1000; 100 if left out.", openapi.Schema{"type": "integer", "minimum": 1, "maximum": callsPageMax}),
			ask("page", "Which part of the list, from 0.", count), ask("before", `The "next" of the page before: neither skips nor repeats.`, text),
		},
	}
	out["GET /api/rpc/calls/:callId"] = openapi.Operation{
		Summary: "A call now, or as it was.", Answer: callView{}, Query: []openapi.Parameter{
			ask("at", "As it was at this time: RFC 3339, or ms since 1970.", text), ask("version", "As it was after this event.", atLeast),
		},
	}
	out["GET /api/rpc/calls/:callId/events"] = openapi.Operation{Summary: "What happened to a call, in order.", Answer: []projection.Event{}}
	out["GET /api/rpc/calls/:callId/watch"] = openapi.Operation{
		Summary: "Server-sent events of a call until it has ended.", Answer: text, Gives: events,
		Headers: []openapi.Parameter{ask("Last-Event-ID", "Version of the last event that was received.", text)},
	}
	out["POST /api/rpc/calls/:callId/cancel"] = openapi.Operation{Summary: "Ends a call.", Answer: callView{}, Codes: []int{http.StatusConflict}}
	out["GET /api/events/stream"] = openapi.Operation{
		Summary: "Server-sent events of all committed events of the tenant.", Answer: text, Gives: events,
		Query: []openapi.Parameter{
			ask("after", "The id of the last event that was received.", text), ask("type", "Only events of these types, with commas between them.", text),
			ask("deviceId", "Only events of this device.", maybeID),
		},
		Headers: []openapi.Parameter{ask("Last-Event-ID", "As after, which it wins over.", text)},
	}
	out["GET /api/dead-letters"] = openapi.Operation{
		Summary: "What could not be processed, the newest first.", Answer: pageOf[deadLetterView]{}, Query: []openapi.Parameter{
			ask("pageSize", "At most 1000; 100 if left out.", atLeast), ask("page", "Which part of the list, from 0.", count),
		},
	}
	out["POST /api/dead-letters/:id/rerun"] = openapi.Operation{
		Summary: "Runs the command of a dead letter again; the letter goes if it is accepted.", Answer: rerunView{}, Codes: []int{http.StatusConflict},
	}
	out["DELETE /api/dead-letters/:id"] = openapi.Operation{Summary: "Drops a dead letter that somebody has looked at."}
}
