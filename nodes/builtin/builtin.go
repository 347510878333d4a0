// Package builtin is the list of all kinds of nodes.
package builtin

import (
	"callchain/nodes"
	"callchain/nodes/action"
	"callchain/nodes/enrich"
	"callchain/nodes/filter"
	"callchain/nodes/flow"
	"callchain/nodes/rpc"
	"callchain/nodes/script"
	"callchain/nodes/transform"
)

// Registry has the kinds of nodes that need no engine for scripts.
func Registry() nodes.Registry { return nodes.NewRegistry(plain(nil)...) }

// WithScripts has all kinds of nodes that chains may use; an engine runs their scripts.
func WithScripts(e script.Engine) nodes.Registry {
	return nodes.NewRegistry(append(plain(e),
		filter.Script.With(e),
		filter.ScriptSwitch.With(e),
		transform.Script.With(e),
	)...)
}

func plain(e script.Engine) []nodes.Kind {
	return []nodes.Kind{
		action.Log.With(e),
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
	}
}
