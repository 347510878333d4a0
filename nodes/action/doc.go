// Package action has the nodes that store values and write logs. What they store goes out as Out.Writes and is performed in
// the transaction that commits the whole command.
package action

import (
	"fmt"

	"callchain/nodes"
)

// processing is ThingsBoard's processingSettings: which parts of storing happen for which message. Only the one that stores
// every message is known here, so that nobody loses values by a setting that is not honoured.
type processing struct {
	Type string `json:"type" default:"ON_EVERY_MESSAGE" enum:"ON_EVERY_MESSAGE" doc:"Every message is stored; ThingsBoard's other strategies do not exist here."`
}

func unsupported(m nodes.Msg) nodes.Out {
	return nodes.Fail(m, fmt.Sprintf("Unsupported msg type: %s", m.Type))
}
