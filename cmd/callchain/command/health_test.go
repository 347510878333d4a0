package command

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHealth(t *testing.T) {
	answer := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/readyz" {
				status = http.StatusNotFound
			}
			w.WriteHeader(status)
			if _, err := w.Write([]byte(body)); err != nil {
				t.Error(err)
			}
		}
	}
	for name, test := range map[string]struct {
		server  http.HandlerFunc
		args    string
		status  int
		out     string
		instead string // on standard error
	}{
		"ready":           {answer(200, `{"ready":true,"reasons":[]}`), "", 0, " is ready\n", ""},
		"ready, in JSON":  {answer(200, `{"ready":true,"reasons":[]}`), "--json", 0, `"ready":true`, ""},
		"not ready":       {answer(503, `{"ready":false,"reasons":["the brokers are away","loading"]}`), "", 1, "", "503: the brokers are away, loading"},
		"not ready, JSON": {answer(503, `{"ready":false,"reasons":["loading"]}`), "--json", 1, "", `{"error":"the server answered 503: loading"}`},
		"silent":          {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "--timeout 50ms", 1, "", "deadline"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(test.server)
			defer server.Close()
			status, out, errs := line(t, []string{"CALLCHAIN_URL=" + server.URL}, append([]string{"health"}, strings.Fields(test.args)...)...)
			if status != test.status || !strings.Contains(out, test.out) || !strings.Contains(errs, test.instead) || (out == "") != (test.out == "") {
				t.Errorf("status %d, want %d:\n%s%s", status, test.status, out, errs)
			}
		})
	}
	if status, _, errs := line(t, nil, "health", "--url", "http://127.0.0.1:1"); status != 1 || !strings.Contains(errs, "reaching http://127.0.0.1:1") {
		t.Errorf("nobody there: status %d, %s", status, errs)
	}
}
