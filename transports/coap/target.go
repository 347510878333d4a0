package coap

import (
	"strconv"
	"strings"

	"github.com/plgd-dev/go-coap/v3/message"

	"callchain/transports/internal/devicejson"
)

// feature is what a path is for (ThingsBoard's FeatureType).
type feature uint8

const (
	noFeature feature = iota
	forCalls
	forAttributes
	forTelemetry
)

// target is a path of the device API: api/v1/{token}/{feature}[/{id}].
type target struct {
	token    string
	feature  feature
	id       int32
	numbered bool // there is an id, and it is a number
}

// segmentsMost bounds the segments of a path that are looked at.
const segmentsMost = 5

// parseTarget reads a path; ok is false if it is none of the device API. A path without a known feature is one of noFeature. An
// id that is no number counts as none, as in ThingsBoard.
func parseTarget(options message.Options) (t target, ok bool) {
	var segments [segmentsMost]string
	n := 0
	for _, o := range options {
		if o.ID != message.URIPath {
			continue
		}
		if n == segmentsMost {
			return target{}, false
		}
		segments[n] = string(o.Value)
		n++
	}
	if n < 2 || segments[0] != "api" || segments[1] != "v1" {
		return target{}, false
	}
	t.token = segments[2]
	switch {
	case strings.EqualFold(segments[3], "rpc"):
		t.feature = forCalls
		if id, err := strconv.ParseInt(segments[4], 10, 32); err == nil {
			t.id, t.numbered = int32(id), true
		}
	case n > 4: // only calls have ids
	case strings.EqualFold(segments[3], "attributes"):
		t.feature = forAttributes
	case strings.EqualFold(segments[3], "telemetry"):
		t.feature = forTelemetry
	}
	return t, true
}

// attributeKeys are the names in the queries clientKeys and sharedKeys; a list that is absent is nil.
func attributeKeys(options message.Options) (client, shared []string) {
	for _, o := range options {
		if o.ID != message.URIQuery {
			continue
		}
		name, list, _ := strings.Cut(string(o.Value), "=")
		switch name {
		case "clientKeys":
			client = devicejson.Keys(list)
		case "sharedKeys":
			shared = devicejson.Keys(list)
		}
	}
	return client, shared
}

// transferKey names what a block-wise transfer belongs to (RFC 7959, section 2.2: the resource and the options of its cache key).
func transferKey(code uint8, options message.Options) string {
	var b strings.Builder
	b.WriteByte(code)
	for _, o := range options {
		if o.ID == message.URIPath || o.ID == message.URIQuery {
			b.WriteByte(byte(o.ID))
			b.WriteByte(byte(len(o.Value)))
			b.Write(o.Value)
		}
	}
	return b.String()
}
