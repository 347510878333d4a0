package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// open lists the routes that ask for no token; one more is a decision, not a slip.
var open = map[string]bool{
	"GET /livez": true, "GET /readyz": true, "GET /metrics": true, "POST /api/auth/login": true, "POST /api/auth/token": true,
	"GET /api/noauth/userPasswordPolicy": true, "GET /api/openapi.json": true,
}

func TestEveryRouteAsksForATokenAndARole(t *testing.T) {
	h := newHouse(t)
	close(h.engine.feed) // streams end at once
	s := &server{dead: h.dir}
	all := s.documented(s.routes(prometheus.NewRegistry()))
	if len(all) < 50 {
		t.Fatalf("only %d routes", len(all))
	}
	for _, r := range all {
		name := r.method + " " + r.path
		path := strings.NewReplacer(":deviceId", "x", ":rpcId", "x", ":callId", "x", ":chainId", "x", ":profileId", "x", ":scope", "x", ":id", "x", ":ruleChainId", "x", ":userId", "x", ":tenantId", "x", ":ttl", "x",
			":componentType", "x", ":componentClass", "x",
			":entityType", "x", ":entityId", "x", ":eventType", "x", ":ruleNodeId", "x").Replace(r.path)
		if strings.Contains(path, ":") {
			t.Fatalf("%s: the test does not know a part of the path", name)
		}
		if open[name] != (r.roles&anybody != 0) {
			t.Errorf("%s: open is %v", name, !open[name])
		}
		if open[name] {
			continue
		}
		if w := h.do(r.method, path, "", ""); w.Code != http.StatusUnauthorized {
			t.Errorf("%s without a token: %d", name, w.Code)
		}
		for token, role := range map[string]roles{"sysadmin": sysAdmins, "tenant": tenantAdmins, "customer": customerUsers} {
			w := h.do(r.method, path, token, "")
			if refused := w.Code == http.StatusForbidden; r.roles&role == 0 && !refused {
				t.Errorf("%s as %s: %d, want 403", name, token, w.Code)
			} else if w.Code == http.StatusUnauthorized {
				t.Errorf("%s as %s: 401", name, token)
			}
		}
	}
}
