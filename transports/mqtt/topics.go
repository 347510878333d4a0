package mqtt

import (
	"strconv"
)

// family is one spelling of a purpose's topics: the long ones, the short ones, the short ones with the payload format in them.
// All carry JSON here.
type family uint8

const (
	long family = iota
	short
	shortJSON
	families
)

// purpose is what a filter subscribes to or a topic is for.
type purpose uint8

const (
	forCommands          purpose = iota // server-side calls: subscribe; the device's own calls: publish
	forAnswers                          // answers to the device's calls: subscribe; replies to server-side calls: publish
	forAttributes                       // updates of shared attributes: subscribe; client attributes: publish
	forAttributesAnswers                // values asked for: subscribe only
	forAttributesRequest                // publish only
	forTelemetry                        // publish only
	forGateway                          // subscribe only: granted without effect
	purposes
)

// prefixes are the topics of ThingsBoard's MqttTopics; those that end with a slash are followed by a request id.
var prefixes = [purposes][families]string{
	forCommands:          {"v1/devices/me/rpc/request/", "v2/r/req/", "v2/r/req/j/"},
	forAnswers:           {"v1/devices/me/rpc/response/", "v2/r/res/", "v2/r/res/j/"},
	forAttributes:        {"v1/devices/me/attributes", "v2/a", "v2/a/j"},
	forAttributesAnswers: {"v1/devices/me/attributes/response/", "v2/a/res/", "v2/a/res/j/"},
	forAttributesRequest: {"v1/devices/me/attributes/request/", "v2/a/req/", "v2/a/req/j/"},
	forTelemetry:         {"v1/devices/me/telemetry", "v2/t", "v2/t/j"},
	forGateway:           {"v1/gateway/rpc", "v1/gateway/attributes", "v1/gateway/attributes/response"},
}

// filters are the topic filters a device may subscribe to, compared as whole strings: "#" or a concrete request id is refused.
var filters = func() map[string]topic {
	out := map[string]topic{}
	for _, p := range []purpose{forCommands, forAnswers, forAttributes, forAttributesAnswers, forGateway} {
		for f, prefix := range prefixes[p] {
			if prefix[len(prefix)-1] == '/' {
				prefix += "+"
			}
			out[prefix] = topic{p, family(f)}
		}
	}
	return out
}()

// plain are the topics without a request id that a device may publish to.
var plain = func() map[string]topic {
	out := map[string]topic{}
	for _, p := range []purpose{forAttributes, forTelemetry} {
		for f, name := range prefixes[p] {
			out[name] = topic{p, family(f)}
		}
	}
	return out
}()

// topic is a known topic or filter.
type topic struct {
	purpose purpose
	family  family
}

// numbered are the purposes whose topics a device publishes to with a request id, the most frequent first.
var numbered = [...]purpose{forAnswers, forCommands, forAttributesRequest}

// parseTopic finds the topic a device publishes to; id is what follows the prefix of a numbered one, unjudged.
func parseTopic(name []byte) (t topic, id []byte, ok bool) {
	if t, ok := plain[string(name)]; ok {
		return t, nil, true
	}
	for _, p := range numbered {
		for f := families; f > 0; f-- { // the longest prefix first: v2/r/req/j/ before v2/r/req/
			prefix := prefixes[p][f-1]
			if len(name) >= len(prefix) && string(name[:len(prefix)]) == prefix {
				return topic{p, f - 1}, name[len(prefix):], true
			}
		}
	}
	return topic{}, nil, false
}

// parseID reads a request id as Java's Integer.parseInt does, which ThingsBoard uses: decimal, 32 bits, sign allowed.
func parseID(text []byte) (int32, bool) {
	n, err := strconv.ParseInt(string(text), 10, 32)
	return int32(n), err == nil
}

// appendTopic writes the topic of a message to a device.
func appendTopic(dst []byte, t topic, id int32) []byte {
	prefix := prefixes[t.purpose][t.family]
	dst = append(dst, prefix...)
	if prefix[len(prefix)-1] == '/' {
		dst = strconv.AppendInt(dst, int64(id), 10)
	}
	return dst
}
