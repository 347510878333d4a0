package api

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"callchain/api/jackson"
	"callchain/engine"
	"callchain/engine/projection"
	"callchain/eventstore"
	"callchain/nodes"
	"callchain/registry/auth"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
)

// The bounds of attributes in one request or answer.
const (
	valuesMax   = 10_000
	keyBytesMax = 255
)

// attributeView is ThingsBoard's AttributeData.
type attributeView struct {
	Updated int64           `json:"lastUpdateTs"` // ms
	Key     string          `json:"key"`
	Value   json.RawMessage `json:"value"`
}

// getAttributes serves GET …/values/attributes[/{scope}]?keys=a,b (TelemetryController.getAttributes).
func getAttributes(s *server, c *gin.Context, who *auth.Principal) error {
	rows, err := s.attributeRows(c, who)
	if err != nil {
		return err
	}
	wanted := askedKeys(c)
	views := []attributeView{}
	for _, r := range rows {
		if key, _ := r[2].(string); len(wanted) == 0 || wanted[key] {
			value, _ := r[3].([]byte)
			ts, _ := r[4].(int64)
			views = append(views, attributeView{ts, key, orNull(value)})
		}
	}
	return writeValue(c, views)
}

// getAttributeKeys serves GET …/keys/attributes[/{scope}].
func getAttributeKeys(s *server, c *gin.Context, who *auth.Principal) error {
	rows, err := s.attributeRows(c, who)
	if err != nil {
		return err
	}
	return writeValue(c, keysOf(rows, 2))
}

func keysOf(rows [][]any, column int) []string {
	keys := make([]string, len(rows))
	for i, r := range rows {
		keys[i], _ = r[column].(string)
	}
	return keys
}

func (s *server) attributeRows(c *gin.Context, who *auth.Principal) ([][]any, error) {
	device, err := s.pathDevice(c, who)
	if err != nil {
		return nil, err
	}
	where := []eventstore.Cond{{Column: "entity", Op: eventstore.Eq, Value: device}}
	if scope := c.Param("scope"); scope != "" {
		if err := checkScope(scope, nodes.ClientScope, nodes.SharedScope, nodes.ServerScope); err != nil {
			return nil, err
		}
		where = append(where, eventstore.Cond{Column: "scope", Op: eventstore.Eq, Value: scope})
	}
	return s.store.Rows(c.Request.Context(), eventstore.Query{
		Table: projection.Attributes, Where: where, Limit: valuesMax, Order: []eventstore.Order{{Column: "scope"}, {Column: "key"}},
	})
}

// pathDevice is the device in the path, which the caller must be allowed to use.
func (s *server) pathDevice(c *gin.Context, who *auth.Principal) (uuid.UUID, error) {
	id, err := pathUUID(c, "deviceId")
	if err != nil {
		return id, err
	}
	_, err = s.deviceOf(c.Request.Context(), who, id)
	return id, err
}

func checkScope(scope string, allowed ...string) error {
	for _, a := range allowed {
		if scope == a {
			return nil
		}
	}
	return badQuery("scope", "must be %s, is '%s'", strings.Join(allowed, " or "), clip(scope, 40))
}

// askedKeys reads keys=a,b, and key=a&key=b for keys with commas in them.
func askedKeys(c *gin.Context) map[string]bool {
	wanted := map[string]bool{}
	for _, key := range c.QueryArray("key") {
		wanted[key] = true
	}
	for _, list := range c.QueryArray("keys") {
		for key := range strings.SplitSeq(list, ",") {
			if key != "" {
				wanted[key] = true
			}
		}
	}
	return wanted
}

// pointView is one value of a time series.
type pointView struct {
	TS    int64           `json:"ts"` // ms
	Value json.RawMessage `json:"value"`
}

// getLatest serves GET …/values/timeseries?keys=a,b: the latest value of each key, as text unless useStrictDataTypes is true, null for
// a key without values (TelemetryController.getLatestTimeseries). History is not kept: startTs and endTs are refused.
func getLatest(s *server, c *gin.Context, who *auth.Principal) error {
	if c.Query("startTs") != "" || c.Query("endTs") != "" {
		return badQuery("startTs", "only the latest values are kept; leave startTs and endTs out")
	}
	strict, err := optionalBool(c, "useStrictDataTypes")
	if err != nil {
		return err
	}
	rows, err := s.latestRows(c, who)
	if err != nil {
		return err
	}
	wanted := askedKeys(c)
	out := map[string][]pointView{}
	for key := range wanted {
		out[key] = []pointView{{s.now().UnixMilli(), json.RawMessage("null")}}
	}
	for _, r := range rows {
		key, _ := r[1].(string)
		value, _ := r[2].([]byte)
		ts, _ := r[3].(int64)
		if len(wanted) > 0 && !wanted[key] {
			continue
		}
		if strict == nil || !*strict {
			if value, err = asTextValue(value); err != nil {
				return err
			}
		}
		out[key] = []pointView{{ts, orNull(value)}}
	}
	return writeValue(c, out)
}

// asTextValue puts a JSON value into a string, as ThingsBoard does unless asked for strict types.
func asTextValue(value []byte) ([]byte, error) {
	if len(value) > 0 && value[0] == '"' || string(value) == "null" {
		return value, nil
	}
	return marshal(string(value))
}

// getLatestKeys serves GET …/keys/timeseries.
func getLatestKeys(s *server, c *gin.Context, who *auth.Principal) error {
	rows, err := s.latestRows(c, who)
	if err != nil {
		return err
	}
	return writeValue(c, keysOf(rows, 1))
}

func (s *server) latestRows(c *gin.Context, who *auth.Principal) ([][]any, error) {
	device, err := s.pathDevice(c, who)
	if err != nil {
		return nil, err
	}
	return s.store.Rows(c.Request.Context(), eventstore.Query{
		Table: projection.Latest, Limit: valuesMax, Order: []eventstore.Order{{Column: "key"}},
		Where: []eventstore.Cond{{Column: "entity", Op: eventstore.Eq, Value: device}},
	})
}

// saveAttributes serves POST …/attributes/{scope}, and its older forms without "attributes". Users set the server's and the shared
// attributes; the client's are the device's own.
func saveAttributes(s *server, c *gin.Context, who *auth.Principal) error {
	device, err := pathUUID(c, "deviceId")
	if err != nil {
		return err
	}
	scope := c.Param("scope")
	if err := checkScope(scope, nodes.ServerScope, nodes.SharedScope); err != nil {
		return err
	}
	set, err := s.askedAttributes(c)
	if err != nil {
		return err
	}
	if _, err := s.deviceOf(c.Request.Context(), who, device); err != nil {
		return err
	}
	return s.changeAttributes(c, engine.AttributeChange{Tenant: who.Tenant, Device: device, Scope: scope, Set: set, Actor: who.Actor})
}

func (s *server) askedAttributes(c *gin.Context) (map[string][]byte, error) {
	b, err := s.readBody(c, s.config.Body)
	if err != nil {
		return nil, err
	}
	defer b.release()
	set := map[string][]byte{}
	err = jackson.Members(b.bytes, func(key string, v jackson.Value) error {
		set[key] = v
		if len(set) > valuesMax {
			return fmt.Errorf("more than %d attributes", valuesMax)
		}
		return checkKey(key)
	})
	if err == nil && len(set) == 0 {
		err = fmt.Errorf("no attributes data found in request body")
	}
	if err != nil {
		return nil, badBody(err)
	}
	return set, nil
}

func checkKey(key string) error {
	if key == "" || len(key) > keyBytesMax || strings.ContainsRune(key, 0) {
		return fmt.Errorf("key %q: it must have 1 to %d bytes and no NUL", clip(key, 40), keyBytesMax)
	}
	return nil
}

func (s *server) changeAttributes(c *gin.Context, change engine.AttributeChange) error {
	if err := s.engine.ChangeAttributes(c.Request.Context(), change); err != nil {
		return err
	}
	writeEmpty(c, http.StatusOK)
	return nil
}

// deleteAttributes serves DELETE …/{scope}?keys=a,b.
func deleteAttributes(s *server, c *gin.Context, who *auth.Principal) error {
	device, err := pathUUID(c, "deviceId")
	if err != nil {
		return err
	}
	scope := c.Param("scope")
	if err := checkScope(scope, nodes.ClientScope, nodes.SharedScope, nodes.ServerScope); err != nil {
		return err
	}
	keys, err := keysToDelete(c)
	if err != nil {
		return err
	}
	if _, err := s.deviceOf(c.Request.Context(), who, device); err != nil {
		return err
	}
	return s.changeAttributes(c, engine.AttributeChange{Tenant: who.Tenant, Device: device, Scope: scope, Delete: keys, Actor: who.Actor})
}

func keysToDelete(c *gin.Context) ([]string, error) {
	keys := slices.Sorted(maps.Keys(askedKeys(c)))
	if len(keys) == 0 || len(keys) > valuesMax {
		return nil, badQuery("keys", "name 1 to %d keys, with commas between them", valuesMax)
	}
	for _, key := range keys {
		if err := checkKey(key); err != nil {
			return nil, badQuery("keys", "%v", err)
		}
	}
	return keys, nil
}

// deviceActive tells whether the device is connected, by the row that the engine writes behind.
func (s *server) deviceActive(ctx context.Context, id uuid.UUID) (bool, error) {
	rows, err := s.store.Rows(ctx, eventstore.Query{Table: projection.Devices, Limit: 1, Where: []eventstore.Cond{{Column: "device", Op: eventstore.Eq, Value: id}}})
	if err != nil || len(rows) == 0 {
		return false, err
	}
	up, _ := rows[0][projection.Devices.Index("last_connect")].(int64)
	down, _ := rows[0][projection.Devices.Index("last_disconnect")].(int64)
	return up > down, nil
}
