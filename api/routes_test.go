package api

import (
	"net/http"
	"strings"
	"testing"

	"callchain/registry"

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
	s := &server{}
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

// TestEveryRouteAsksForTheOwner walks the routes with ids of what the caller may not see: a customer's user gets 403 for a device of
// somebody else, and another tenant's things are as unknown as what does not exist.
func TestEveryRouteAsksForTheOwner(t *testing.T) {
	const right = `{"method":"m","name":"n","a":1}` // is right for every route that takes a body
	looked := map[string]int{}
	for _, r := range allRoutes(t) {
		h := newHouse(t)
		fillStore(t, h.store)
		close(h.engine.feed)
		chain, err := h.dir.SaveChain(t.Context(), registry.Chain{Tenant: tenantID, Name: "c", Definition: []byte("{}"), Format: "json"})
		if err != nil {
			t.Fatal(err)
		}
		ask := func(token, part, id string) int {
			path := strings.NewReplacer(":"+part, id, ":scope", "SERVER_SCOPE", ":ttl", "1").Replace(r.path)
			return h.do(r.method, path+"?pageSize=1&page=0&keys=a", token, right).Code
		}
		for _, c := range []struct {
			part, id, token string
			role            roles
			want            int
		}{
			{"deviceId", loneID.String(), "customer", customerUsers, http.StatusForbidden},
			{"deviceId", foreignID.String(), "tenant", tenantAdmins, http.StatusNotFound},
			{"deviceId", deviceID.String(), "other", tenantAdmins, http.StatusNotFound},
			{"callId", loneCallID.String(), "customer", customerUsers, http.StatusForbidden},
			{"callId", openID.String(), "other", tenantAdmins, http.StatusNotFound},
			{"rpcId", loneCallID.String(), "customer", customerUsers, http.StatusForbidden},
			{"rpcId", openID.String(), "other", tenantAdmins, http.StatusNotFound},
			{"profileId", profileID.String(), "other", tenantAdmins, http.StatusNotFound},
			{"chainId", chain.ID.String(), "other", tenantAdmins, http.StatusNotFound},
			{"ruleChainId", chain.ID.String(), "other", tenantAdmins, http.StatusNotFound},
			{"id", profileID.String(), "other", tenantAdmins, http.StatusNotFound},
			{"userId", adminID.String(), "other", tenantAdmins, http.StatusNotFound},
			{"tenantId", tenantID.String(), "other", tenantAdmins, http.StatusForbidden},
		} {
			if !strings.Contains(r.path, "/:"+c.part) || r.roles&c.role == 0 {
				continue
			}
			looked[c.part+" "+c.token]++
			if got := ask(c.token, c.part, c.id); got != c.want {
				t.Errorf("%s %s as %s: %d, want %d", r.method, r.path, c.token, got, c.want)
			}
		}
	}
	if len(looked) != 13 {
		t.Errorf("only looked at %v", looked)
	}
}
