package docs_test

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"callchain/api"
	httpdevice "callchain/transports/http"
)

// TestDeviceAPIIsDescribed: the OpenAPI document has the device API as the transport serves it.
func TestDeviceAPIIsDescribed(t *testing.T) {
	text, err := api.Document()
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for path, methods := range doc.Paths {
		below, ok := strings.CutPrefix(path, httpdevice.Prefix+"{deviceToken}")
		if !ok {
			continue
		}
		for _, m := range slices.Sorted(maps.Keys(methods)) {
			got[below] = append(got[below], strings.ToUpper(m))
		}
	}
	if want := httpdevice.Routes(); !reflect.DeepEqual(got, want) {
		t.Errorf("the document has %v, the transport serves %v", got, want)
	}
}
