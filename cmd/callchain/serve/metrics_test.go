package serve

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// scrape is what /metrics shows.
func scrape(t *testing.T, server *Server) string {
	t.Helper()
	status, text := get(t, server, "/metrics")
	if status != http.StatusOK {
		t.Fatalf("/metrics: status %d, %s", status, text)
	}
	return text
}

// get asks the server without a login.
func get(t *testing.T, server *Server, path string) (status int, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+server.HTTPAddr().String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return answer.StatusCode, string(body)
}

// measured is the value of a series, its labels in the order of their names; 0 if there is none.
func measured(t *testing.T, server *Server, series string) float64 {
	t.Helper()
	for line := range strings.Lines(scrape(t, server)) {
		value, ok := strings.CutPrefix(line, series+" ")
		if !ok {
			continue
		}
		f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	return 0
}
