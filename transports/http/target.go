package httpdevice

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Prefix begins the paths of the device API; a token follows.
const Prefix = "/api/v1/"

// resource is what a path of the device API names.
type resource uint8

const (
	unknown resource = iota
	calls
	answers // of server-side calls
	attributes
	updates
	telemetry
)

// target is what a request is about.
type target struct {
	token    string
	resource resource
	id       string // answers: the request id as the device wrote it
}

// parseTarget reads an escaped path. What is not a path of the device API is unknown.
func parseTarget(escaped string) target {
	rest, ok := strings.CutPrefix(escaped, Prefix)
	first, rest, more := strings.Cut(rest, "/")
	if !ok || !more {
		return target{}
	}
	token, err := url.PathUnescape(first)
	if err != nil || token == "" {
		return target{}
	}
	t := target{token: token}
	switch kind, tail, deeper := strings.Cut(rest, "/"); {
	case rest == "rpc":
		t.resource = calls
	case rest == "attributes":
		t.resource = attributes
	case rest == "attributes/updates":
		t.resource = updates
	case rest == "telemetry":
		t.resource = telemetry
	case deeper && kind == "rpc" && tail != "" && !strings.Contains(tail, "/"):
		if t.id, err = url.PathUnescape(tail); err != nil {
			return target{}
		}
		t.resource = answers
	default:
		return target{}
	}
	return t
}

// methods are what each resource can be asked, and by whom it is served.
func (s *Server) methods(r resource) map[string]handler {
	return s.table[r]
}

// Routes are the paths of the device API behind the token, each with its methods in the order of the alphabet; {requestId} stands for
// a request id.
func Routes() map[string][]string {
	out := map[string][]string{}
	for r, methods := range table() {
		if len(methods) > 0 {
			out[paths[r]] = slices.Sorted(maps.Keys(methods))
		}
	}
	return out
}

var paths = [telemetry + 1]string{
	calls: "/rpc", answers: "/rpc/{requestId}", attributes: "/attributes", updates: "/attributes/updates", telemetry: "/telemetry",
}

// handler serves a request whose path and method are known.
type handler func(*Server, http.ResponseWriter, *http.Request, target)

func table() [telemetry + 1]map[string]handler {
	return [...]map[string]handler{
		unknown:    nil,
		calls:      {http.MethodGet: (*Server).pollCalls, http.MethodPost: (*Server).call},
		answers:    {http.MethodPost: (*Server).reply},
		attributes: {http.MethodGet: (*Server).giveAttributes, http.MethodPost: (*Server).postAttributes},
		updates:    {http.MethodGet: (*Server).pollUpdates},
		telemetry:  {http.MethodPost: (*Server).postTelemetry},
	}
}
