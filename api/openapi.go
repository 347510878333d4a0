package api

import (
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"callchain/api/openapi"
	"callchain/chains/thingsboard"
	"callchain/engine/projection"
	"callchain/engine/rpc"
	"callchain/nodes"
	"callchain/registry"
	"callchain/registry/auth"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// operations are what callers must know of routes beyond their line in the table, by method and path. A test holds them against the table.
type operations map[string]openapi.Operation

// described is all there is to say, by subject.
func described() map[string]operations {
	return map[string]operations{
		"Health": healthOperations(), "Users": userOperations(), "Calls": callOperations(), "Devices": deviceOperations(),
		"Device profiles": profileOperations(), "Attributes and telemetry": telemetryOperations(), "Rule chains": chainOperations(),
		"Rule chains as in ThingsBoard": ruleChainOperations(), "Traces": traceOperations(),
	}
}

// Document is the OpenAPI document (JSON) of every server, as GET /api/openapi.json gives it.
func Document() ([]byte, error) {
	return document(append((&server{}).routes(prometheus.NewRegistry()), ownRoute))
}

// document is the OpenAPI document of routes.
func document(all []route) ([]byte, error) {
	d := openapi.Document{
		Title: "Callchain", Version: "1", Doc: "Remote procedure calls to devices and from them, rule chains, and the history of every call. " +
			"Where ThingsBoard has the call, paths, bodies and statuses are its own.",
		Types: bodyTypes(), Paths: pathParts(), Problem: problemView{}, Retry: []int{http.StatusTooManyRequests, http.StatusServiceUnavailable},
		Security: map[string]openapi.Schema{
			"token":  {"type": "apiKey", "in": "header", "name": "X-Authorization", "description": "`Bearer <token>`, as ThingsBoard's clients send it."},
			"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
		},
	}
	var routes []openapi.Route
	for tag, list := range described() {
		for _, r := range all {
			if o, ok := list[r.method+" "+r.path]; ok {
				o.Codes = codesOf(&r, &o)
				routes = append(routes, openapi.Route{Method: r.method, Path: r.path, Tag: tag, Roles: r.roles.names(), Operation: o})
			}
		}
	}
	return marshal(d.Build(append(routes, deviceAPI()...)))
}

// names are ThingsBoard's names of the roles; nil for anybody.
func (r roles) names() []string {
	var out []string
	for _, a := range []registry.Authority{registry.SysAdmin, registry.TenantAdmin, registry.CustomerUser} {
		if r.admits(a) {
			out = append(out, string(a))
		}
	}
	return out
}

// codesOf adds the statuses that follow from the form of a route to those that its description names.
func codesOf(r *route, o *openapi.Operation) []int {
	codes := append([]int{http.StatusInternalServerError, http.StatusServiceUnavailable}, o.Codes...)
	part := strings.Contains(r.path, "/:")
	if r.lane != probing { // a query may always be wrong
		codes = append(codes, http.StatusBadRequest)
	}
	if part {
		codes = append(codes, http.StatusNotFound)
	}
	if o.Body != nil {
		codes = append(codes, http.StatusRequestEntityTooLarge)
	}
	if r.roles&anybody == 0 {
		codes = append(codes, http.StatusUnauthorized)
		if part || r.roles != members {
			codes = append(codes, http.StatusForbidden)
		}
	}
	slices.Sort(codes)
	return slices.Compact(codes)
}

// ownRoute is the document's own; documented gives it its handler.
var ownRoute = route{"GET", "/api/openapi.json", anybody, nil, ordinary}

// documented adds the route of the document of all routes, itself included.
func (s *server) documented(all []route) []route {
	all = append(all, ownRoute)
	doc, err := document(all)
	if err != nil {
		panic("api: " + err.Error()) // made of constants
	}
	all[len(all)-1].handle = openAPI(doc)
	return all
}

// openAPI serves GET /api/openapi.json.
func openAPI(text []byte) handler {
	return func(_ *server, c *gin.Context, _ *auth.Principal) error {
		writeJSON(c, http.StatusOK, text)
		return nil
	}
}

// problemView is every answer that is no success (appendError writes it).
type problemView struct {
	Status    int       `json:"status"`
	Message   string    `json:"message"`
	ErrorCode int       `json:"errorCode"` // ThingsboardErrorCode
	Timestamp int64     `json:"timestamp"` // ms
	Code      string    `json:"code"`      // stable, snake_case
	Detail    string    `json:"detail"`
	Call      uuid.UUID `json:"rpcId,omitzero"`
	Errors    []fault   `json:"errors,omitempty"`
}

// pageOf is ThingsBoard's PageData (appendPage writes it).
type pageOf[T any] struct {
	Data     []T   `json:"data"`
	Pages    int64 `json:"totalPages"`
	Elements int64 `json:"totalElements"`
	More     bool  `json:"hasNext"`
}

// The schemas that parameters and bodies made by hand have in common.
var (
	text    = openapi.Schema{"type": "string"}
	flag    = openapi.Schema{"type": "boolean"}
	count   = openapi.Schema{"type": "integer", "minimum": 0, "maximum": 1<<31 - 1}
	atLeast = openapi.Schema{"type": "integer", "minimum": 1, "maximum": 1<<31 - 1}
	id      = openapi.Schema{"type": "string", "format": "uuid"}
	maybeID = openapi.Schema{"anyOf": []any{id, openapi.Schema{"type": "string", "maxLength": 0}}} // empty is as left out
	moment  = openapi.Schema{"type": "string", "format": "date-time"}
	object  = openapi.Schema{"type": "object"}
)

func enum(names ...string) openapi.Schema {
	list := make([]any, len(names))
	for i, n := range names {
		list[i] = n
	}
	return openapi.Schema{"type": "string", "enum": list}
}

// ask is a parameter that may be left out, need one that may not.
func ask(name, doc string, s openapi.Schema) openapi.Parameter {
	return openapi.Parameter{Name: name, Doc: doc, Schema: s}
}

func need(name, doc string, s openapi.Schema) openapi.Parameter {
	return openapi.Parameter{Name: name, Doc: doc, Schema: s, Required: true}
}

// paging are the parameters that askedPage reads, and those of the list itself.
func paging(more ...openapi.Parameter) []openapi.Parameter {
	return append([]openapi.Parameter{
		need("pageSize", "How many of the list one answer holds.", atLeast), need("page", "Which of these parts, from 0.", count),
		ask("textSearch", "A part of the name, in any case of letters.", text), ask("sortProperty", "Name of the field to sort by.", text),
		ask("sortOrder", "ASC or DESC, if sortProperty is given.", text),
	}, more...)
}

// pathParts says what the names in paths are.
func pathParts() map[string]openapi.Parameter {
	part := func(doc string, s openapi.Schema) openapi.Parameter { return openapi.Parameter{Doc: doc, Schema: s} }
	return map[string]openapi.Parameter{
		"deviceId": part("The device.", id), "profileId": part("The device profile.", id), "rpcId": part("The persistent call.", id),
		"callId": part("The call.", id), "chainId": part("The rule chain.", id), "ruleChainId": part("The rule chain.", id), "id": part("The dead letter.", id),
		"entityType": part("RULE_NODE; of others there are no events.", text), "entityId": part("The rule node.", id), "ruleNodeId": part("The rule node.", id),
		"eventType": part("DEBUG_RULE_NODE; of others there are no events.", text),
		"userId":    part("The user.", id), "tenantId": part("The tenant.", id),
		"deviceToken": part("The device's access token.", text), "requestId": part("The id that the call came with, 32 bits.", text),
		"scope":          part("CLIENT_SCOPE, SHARED_SCOPE or SERVER_SCOPE. Users write the last two; for time series it means nothing.", text),
		"ttl":            part("Seconds; only the latest values are kept, so that it has nothing to act on.", openapi.Schema{"type": "integer", "minimum": 0}),
		"componentType":  part("FILTER, ENRICHMENT, TRANSFORMATION, ACTION, EXTERNAL or FLOW.", text),
		"componentClass": part("ThingsBoard's class name of the node.", text),
	}
}

// bodyTypes knows the Go types whose JSON their fields do not tell.
func bodyTypes() *openapi.Types {
	return &openapi.Types{
		Fixed: map[reflect.Type]openapi.Schema{
			reflect.TypeFor[uuid.UUID]():       id,
			reflect.TypeFor[json.RawMessage](): {},
			reflect.TypeFor[projection.Time](): moment,
			reflect.TypeFor[idBody](): {
				"type": []any{"object", "null"}, "properties": openapi.Schema{"id": openapi.Schema{"type": []any{"string", "null"}, "format": "uuid"}},
			},
			reflect.TypeFor[rpc.Payload](): {"type": "object", "description": "One of the three.", "properties": openapi.Schema{
				"json": openapi.Schema{}, "text": text, "base64": text,
			}},
			reflect.TypeFor[registry.Authority]():       enum(string(registry.SysAdmin), string(registry.TenantAdmin), string(registry.CustomerUser)),
			reflect.TypeFor[registry.CredentialsKind](): enum(string(registry.AccessToken), string(registry.MQTTBasic)),
			reflect.TypeFor[nodes.Category]():           text,
			reflect.TypeFor[[]thingsboard.ChainConnection](): { // null in what newer versions write
				"type": []any{"array", "null"}, "items": object,
			},
		},
		Names: map[reflect.Type]string{
			reflect.TypeFor[entity]():                      "EntityId",
			reflect.TypeFor[entityID]():                    "CredentialsId",
			reflect.TypeFor[profileView]():                 "DeviceProfile",
			reflect.TypeFor[profileInfoView]():             "DeviceProfileInfo",
			reflect.TypeFor[credentialsView]():             "DeviceCredentials",
			reflect.TypeFor[subtypeView]():                 "EntitySubtype",
			reflect.TypeFor[namedView]():                   "EntityInfo",
			reflect.TypeFor[projection.Event]():            "Event",
			reflect.TypeFor[thingsboard.EntityID]():        "RuleEntityId",
			reflect.TypeFor[thingsboard.Metadata]():        "RuleChainMetaData",
			reflect.TypeFor[thingsboard.Node]():            "RuleNode",
			reflect.TypeFor[thingsboard.Connection]():      "NodeConnection",
			reflect.TypeFor[thingsboard.ChainConnection](): "RuleChainConnection",
		},
	}
}
