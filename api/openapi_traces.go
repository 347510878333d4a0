package api

import "callchain/api/openapi"

func traceOperations() operations {
	since := func(from, to string) []openapi.Parameter {
		return []openapi.Parameter{
			ask(from, "Only what happened at this time or later: RFC 3339, or ms since 1970.", text), ask(to, "Only what happened at this time or before.", text),
		}
	}
	events := paging(append(since("startTime", "endTime"), ask("tenantId", "Ignored: it is the own tenant.", text))...)
	return operations{
		"GET /api/traces": {
			Summary: "What rule nodes got and sent on, the newest first.", Answer: pageOf[traceView]{}, Query: append(since("from", "to"),
				ask("messageId", "Only this message.", maybeID), ask("callId", "Only messages of this call.", maybeID), ask("nodeId", "Only this rule node.", maybeID),
				ask("pageSize", "At most 1000; 100 if left out.", atLeast), ask("page", "Which part of the list, from 0.", count)),
		},
		"GET /api/events/:entityType/:entityId": {
			Summary: "Debug events of a rule node, as in ThingsBoard.", Answer: pageOf[ruleEventView]{}, Query: events,
		},
		"GET /api/events/:entityType/:entityId/:eventType": {
			Summary: "Debug events of a rule node; of other types there are none.", Answer: pageOf[ruleEventView]{}, Query: events,
		},
		"POST /api/events/:entityType/:entityId": {
			Summary: "Debug events of a rule node that a filter takes.", Body: ruleEventFilter{}, Answer: pageOf[ruleEventView]{}, Query: events,
		},
		"GET /api/ruleNode/:ruleNodeId/debugIn": {
			Summary: "The newest message that a rule node got; null if there is none.", Answer: openapi.AnyOf{ruleEventBody{}, openapi.Schema{"type": "null"}},
		},
	}
}
