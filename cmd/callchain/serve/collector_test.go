package serve

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	tracing "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector takes traces as a collector of OpenTelemetry does.
type collector struct {
	url string

	mu      sync.Mutex
	away    bool
	headers http.Header
	service map[string]string // attributes of the resource
	spans   []*tracing.Span
}

func newCollector(t *testing.T) *collector {
	c := &collector{}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

// ServeHTTP takes one request of OTLP over HTTP.
func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var data tracing.TracesData // the same on the wire as the request of the protocol
	if err == nil {
		err = proto.Unmarshal(body, &data)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf":
		http.Error(w, fmt.Sprint("not what a collector takes: ", r.URL, err), http.StatusBadRequest)
		return
	case c.away:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	c.headers = r.Header
	c.service = map[string]string{}
	for _, of := range data.ResourceSpans {
		for _, a := range of.Resource.Attributes {
			c.service[a.Key] = a.Value.GetStringValue()
		}
		for _, s := range of.ScopeSpans {
			c.spans = append(c.spans, s.Spans...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// trace are the spans of one trace.
func (c *collector) trace(id string) []*tracing.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*tracing.Span
	for _, s := range c.spans {
		if hex.EncodeToString(s.TraceId) == id {
			out = append(out, s)
		}
	}
	return out
}

// roots are the spans without a parent.
func (c *collector) roots() []*tracing.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*tracing.Span
	for _, s := range c.spans {
		if len(s.ParentSpanId) == 0 {
			out = append(out, s)
		}
	}
	return out
}

// await waits until a trace has a span of this name, which the test expects to be its last.
func (c *collector) await(t *testing.T, id, last string) []*tracing.Span {
	t.Helper()
	until(t, func() bool {
		return slices.ContainsFunc(c.trace(id), func(s *tracing.Span) bool { return s.Name == last })
	}, "the trace has no span "+last)
	return c.trace(id)
}

// tree shows the spans below a parent, one a line; those of one parent by their begin.
func tree(spans []*tracing.Span, parent, indent string) string {
	var b strings.Builder
	slices.SortStableFunc(spans, func(a, b *tracing.Span) int { return int(a.StartTimeUnixNano - b.StartTimeUnixNano) })
	for _, s := range spans {
		if hex.EncodeToString(s.ParentSpanId) != parent {
			continue
		}
		name := s.Name
		if s.Status.GetCode() == tracing.Status_STATUS_CODE_ERROR {
			name += " (" + s.Status.Message + ")"
		}
		b.WriteString(indent + name + "\n" + tree(spans, hex.EncodeToString(s.SpanId), indent+"  "))
	}
	return b.String()
}

func attribute(s *tracing.Span, key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.GetStringValue()
		}
	}
	return ""
}
