package api

import (
	"net/http"

	"callchain/api/openapi"
)

// deviceAPI describes the device API, which another package serves beside this one (transports/http); a test compares the two. Its answers are
// as bare as ThingsBoard's: what is no success has no body, but for 400.
func deviceAPI() []openapi.Route {
	polling := []openapi.Parameter{ask("timeout", "How long to wait, in ms; 0 or left out: 60000, at most 300000.", count)}
	values := openapi.Schema{"type": []any{"object", "array"}}
	all := []openapi.Route{
		{Method: "GET", Path: "/rpc", Operation: openapi.Operation{
			Summary: "Waits for the next call to the device; 408 when there was none.", Query: polling, Answer: commandView{}, Codes: []int{http.StatusRequestTimeout},
		}},
		{Method: "POST", Path: "/rpc", Operation: openapi.Operation{
			Summary: "Makes a call of the device, and waits for the answer of the rule chain.", Body: clientCallBody{}, Needs: []string{"method", "params"},
			Answer: openapi.Schema{}, Gives: []string{"text/plain", "application/json"}, Codes: []int{http.StatusRequestTimeout},
		}},
		{Method: "POST", Path: "/rpc/:requestId", Operation: openapi.Operation{Summary: "Answers a call to the device.", Body: openapi.Schema{}}},
		{Method: "GET", Path: "/attributes", Operation: openapi.Operation{
			Summary: "Attributes of the device; without keys, all.", Answer: deviceAttributes{}, Query: []openapi.Parameter{
				ask("clientKeys", "Names of client attributes, with commas between them.", text), ask("sharedKeys", "Names of shared attributes.", text),
			}, Codes: []int{http.StatusRequestTimeout},
		}},
		{Method: "POST", Path: "/attributes", Operation: openapi.Operation{Summary: "Stores client attributes.", Body: object}},
		{Method: "GET", Path: "/attributes/updates", Operation: openapi.Operation{
			Summary: "Waits for the next change of shared attributes; 408 when there was none.", Query: polling, Answer: object,
			Codes: []int{http.StatusRequestTimeout},
		}},
		{Method: "POST", Path: "/telemetry", Operation: openapi.Operation{
			Summary: "Stores telemetry: values, or {ts, values}, or a list of these.", Body: values,
		}},
	}
	for i := range all {
		r := &all[i]
		r.Path, r.Tag, r.Bare = "/api/v1/:deviceToken"+r.Path, "Device API", true
		r.Others = map[int]any{http.StatusBadRequest: frameworkProblem{}}
		r.Codes = append(r.Codes, http.StatusBadRequest, http.StatusUnauthorized, http.StatusNotFound, http.StatusInternalServerError, http.StatusServiceUnavailable)
		if r.Body != nil {
			r.Codes = append(r.Codes, http.StatusRequestEntityTooLarge)
		}
	}
	return all
}

// commandView is a call as a device fetches it.
type commandView struct {
	ID     int    `json:"id"`
	Method string `json:"method"`
	Params any    `json:"params"`
}

// clientCallBody is a call that a device makes.
type clientCallBody struct {
	Method any `json:"method"`
	Params any `json:"params"`
}

// deviceAttributes are the scopes that a device sees; one without values is left out.
type deviceAttributes struct {
	Client map[string]any `json:"client,omitempty"`
	Shared map[string]any `json:"shared,omitempty"`
}

// frameworkProblem is how ThingsBoard's web framework says what it cannot read.
type frameworkProblem struct {
	Message   string `json:"message"`
	ErrorCode int    `json:"errorCode"`
	Status    int    `json:"status"`
	Timestamp int64  `json:"timestamp"` // ms
}
