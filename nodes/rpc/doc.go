// Package rpc has the nodes that send a call to a device and that answer a call of a device. Names, configs, relations, texts
// and metadata keys are ThingsBoard's.
package rpc

import (
	"strings"

	"callchain/nodes"
)

const errNoDevice = "Message originator is not a device entity!"

// text is a metadata value; blank ones count as absent.
func text(m nodes.Msg, key string) string {
	v := m.Metadata[key]
	if strings.TrimSpace(v) == "" {
		return ""
	}
	return v
}
