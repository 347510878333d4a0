package httpdevice

import (
	"net/url"
	"strings"
	"testing"
)

// FuzzTarget: a path is read as ThingsBoard reads it or not at all: what was read can be written, and is read back as the same.
func FuzzTarget(f *testing.F) {
	for _, path := range []string{
		"/api/v1/t/rpc", "/api/v1/t/rpc/7", "/api/v1/a%2Fb%20c/attributes", "/api/v1/t/attributes/updates", "/api/v1/%zz/telemetry",
		"/api/v1//rpc", "/api/v1/t/rpc/", "/api/v1/t/rpc/1/2", "/api/v1/..", "/api/v1/t/telemetry/", "/api/v1/%00/rpc/%2e%2e",
	} {
		f.Add(path)
	}
	names := map[resource]string{calls: "rpc", attributes: "attributes", updates: "attributes/updates", telemetry: "telemetry"}
	f.Fuzz(func(t *testing.T, path string) {
		got := parseTarget(path)
		switch {
		case got.resource == unknown:
			if got != (target{}) {
				t.Fatalf("%q is unknown and gives %+v", path, got)
			}
			return
		case got.token == "" || !strings.HasPrefix(path, Prefix):
			t.Fatalf("%q gives %+v", path, got)
		}
		written := Prefix + url.PathEscape(got.token) + "/" + names[got.resource]
		if got.resource == answers {
			written += "rpc/" + url.PathEscape(got.id)
		}
		if again := parseTarget(written); again != got {
			t.Fatalf("%q gives %+v, which is written %q and gives %+v", path, got, written, again)
		}
	})
}

func TestTargets(t *testing.T) {
	for path, want := range map[string]target{
		"/api/v1/t/rpc":                  {token: "t", resource: calls},
		"/api/v1/a%2Fb%20c/rpc/-7":       {token: "a/b c", resource: answers, id: "-7"},
		"/api/v1/t/attributes":           {token: "t", resource: attributes},
		"/api/v1/t/attributes/updates":   {token: "t", resource: updates},
		"/api/v1/t/telemetry":            {token: "t", resource: telemetry},
		"/api/v1/t/telemetry/":           {},
		"/api/v1/t/rpc/":                 {},
		"/api/v1//rpc":                   {},
		"/api/v1/rpc":                    {},
		"/api/v2/t/rpc":                  {},
		"/api/v1/t/rpc/1/2":              {},
		"/api/v1/%zz/rpc":                {},
		"/api/v1/t/attributes/updates/x": {},
	} {
		if got := parseTarget(path); got != want {
			t.Errorf("%s gives %+v, want %+v", path, got, want)
		}
	}
}
