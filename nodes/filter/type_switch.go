package filter

import (
	"slices"
	"strings"

	"callchain/nodes"
)

// TypeSwitch is ThingsBoard's "message type switch".
var TypeSwitch = nodes.Define(nodes.Spec{
	Type: "message type switch", Class: "org.thingsboard.rule.engine.filter.TbMsgTypeSwitchNode", Category: nodes.Filter,
	Summary:   "Routes a message along the relation that is named after its type.",
	Doc:       "Types that have no relation of their own, custom ones among them, go along Other.",
	Relations: typeRelations(), Example: `{}`,
}, func(nodes.EmptyConfig) (nodes.Node, error) { return typeSwitch{}, nil })

type typeSwitch struct{}

func (typeSwitch) Process(m nodes.Msg) nodes.Out {
	relation, ok := typeLabels[m.Type]
	if !ok {
		relation = nodes.Other
	}
	return nodes.Emit(relation, m)
}

func typeRelations() []string {
	out := []string{nodes.Other, nodes.Failure}
	for _, label := range typeLabels {
		out = append(out, label)
	}
	slices.SortFunc(out, strings.Compare)
	return out
}

// typeLabels are the relations of ThingsBoard's message types (TbMsgType); types that it sends along Other are left out.
var typeLabels = map[string]string{
	nodes.PostAttributes:          "Post attributes",
	nodes.PostTelemetry:           "Post telemetry",
	nodes.CallFromDevice:          "RPC Request from Device",
	nodes.CallToDevice:            "RPC Request to Device",
	nodes.RPCQueued:               "RPC Queued",
	nodes.RPCSent:                 "RPC Sent",
	nodes.RPCDelivered:            "RPC Delivered",
	nodes.RPCSuccessful:           "RPC Successful",
	nodes.RPCTimeout:              "RPC Timeout",
	nodes.RPCExpired:              "RPC Expired",
	nodes.RPCFailed:               "RPC Failed",
	nodes.RPCDeleted:              "RPC Deleted",
	"ACTIVITY_EVENT":              "Activity Event",
	"INACTIVITY_EVENT":            "Inactivity Event",
	nodes.Connected:               "Connect Event",
	nodes.Disconnected:            "Disconnect Event",
	"ENTITY_CREATED":              "Entity Created",
	"ENTITY_UPDATED":              "Entity Updated",
	"ENTITY_DELETED":              "Entity Deleted",
	"ENTITY_ASSIGNED":             "Entity Assigned",
	"ENTITY_UNASSIGNED":           "Entity Unassigned",
	nodes.AttributesUpdate:        "Attributes Updated",
	"ATTRIBUTES_DELETED":          "Attributes Deleted",
	"ALARM":                       "Alarm",
	"ALARM_CREATED":               "Alarm Created",
	"ALARM_UPDATED":               "Alarm Updated",
	"ALARM_SEVERITY_UPDATED":      "Alarm Severity Updated",
	"ALARM_ACK":                   "Alarm Acknowledged",
	"ALARM_CLEAR":                 "Alarm Cleared",
	"ALARM_ASSIGNED":              "Alarm Assigned",
	"ALARM_UNASSIGNED":            "Alarm Unassigned",
	"COMMENT_CREATED":             "Comment Created",
	"COMMENT_UPDATED":             "Comment Updated",
	"ENTITY_ASSIGNED_FROM_TENANT": "Entity Assigned From Tenant",
	"ENTITY_ASSIGNED_TO_TENANT":   "Entity Assigned To Tenant",
	"TIMESERIES_UPDATED":          "Timeseries Updated",
	"TIMESERIES_DELETED":          "Timeseries Deleted",
	"RELATION_ADD_OR_UPDATE":      "Relation Added or Updated",
	"RELATION_DELETED":            "Relation Deleted",
	"RELATIONS_DELETED":           "All Relations Deleted",
	"REST_API_REQUEST":            "REST API request",
}
