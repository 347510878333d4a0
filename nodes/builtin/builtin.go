// Package builtin is the list of all kinds of nodes.
package builtin

import (
	"callchain/nodes"
	"callchain/nodes/action"
	"callchain/nodes/enrich"
	"callchain/nodes/filter"
	"callchain/nodes/flow"
	"callchain/nodes/rpc"
	"callchain/nodes/transform"
)

// Registry has all kinds of nodes that chains may use.
func Registry() nodes.Registry {
	return nodes.NewRegistry(
		action.Log,
		action.SaveAttributes,
		action.SaveTimeSeries,
		enrich.OriginatorAttributes,
		filter.Condition,
		filter.Switch,
		filter.TypeFilter,
		filter.TypeSwitch,
		flow.Ack,
		flow.Chain,
		flow.Delay,
		flow.Output,
		rpc.Reply,
		rpc.Request,
		transform.Transform,
	)
}
