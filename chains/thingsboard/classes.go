package thingsboard

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"callchain/nodes"
)

// classPrefix is the package of all of ThingsBoard's own nodes.
const classPrefix = "org.thingsboard.rule.engine."

// The classes that lead into another chain and back.
const (
	inputClass  = classPrefix + "flow.TbRuleChainInputNode"
	outputClass = classPrefix + "flow.TbRuleChainOutputNode"
)

// mends say what to do about nodes of ThingsBoard that are not there, by class without the prefix. Which nodes are there, their
// specs say.
var mends = map[string]string{
	"profile.TbDeviceProfileNode":            "alarm rules are not there; lead what came to it to the nodes behind its Success",
	"debug.TbMsgGeneratorNode":               "messages come from devices and callers only",
	"deduplication.TbMsgDeduplicationNode":   "leave it out, or send the message on at once",
	"flow.TbCheckpointNode":                  "there are no queues to choose, so it has nothing to do; lead what came to it to the nodes behind it",
	"transaction.TbSynchronizationBeginNode": "it does nothing in ThingsBoard either; lead what came to it to the nodes behind it",
	"transaction.TbSynchronizationEndNode":   "it does nothing in ThingsBoard either; lead what came to it to the nodes behind it",
	"edge.TbMsgPushToEdgeNode":               "there are no edge servers",
	"edge.TbMsgPushToCloudNode":              "there are no edge servers",
}

// missingNode says that there is no such node, and the mend.
func missingNode(class string) string {
	if class == "" {
		return "it is missing"
	}
	name, own := strings.CutPrefix(class, classPrefix)
	if !own {
		return fmt.Sprintf("there is no node %q", class)
	}
	mend, ok := mends[name]
	if !ok {
		mend = "take it out, or put other nodes in its place"
	}
	return fmt.Sprintf("ThingsBoard's %s is not there: %s", short(class), mend)
}

// upgrades bring configurations of older versions to the one that the specs know, as the upgrade methods of ThingsBoard's
// classes do. The key is the class without the prefix; each takes the version that it finds.
var upgrades = map[string]func(version int, config map[string]any){
	"metadata.TbGetAttributesNode":  upgradeFetch,
	"telemetry.TbMsgAttributesNode": upgradeAttributes,
	"telemetry.TbMsgTimeseriesNode": upgradeTimeSeries,
	"filter.TbJsFilterNode":         upgradeScript,
	"filter.TbJsSwitchNode":         upgradeScript,
	"transform.TbTransformMsgNode":  upgradeScript,
	"action.TbLogNode":              upgradeScript,
}

func upgrade(class string, version int, config map[string]any) {
	if up, ok := upgrades[strings.TrimPrefix(class, classPrefix)]; ok {
		up(version, config)
	}
}

// upgradeFetch: until version 1 a flag said where values go.
func upgradeFetch(version int, config map[string]any) {
	if version >= 1 {
		return
	}
	toData, given := config["fetchToData"]
	if delete(config, "fetchToData"); !given || config["fetchTo"] != nil {
		return
	}
	config["fetchTo"] = "METADATA"
	if isTrue(toData) {
		config["fetchTo"] = "DATA"
	}
}

// upgradeAttributes: version 1 brought updateAttributesOnlyOnValueChange, version 2 made texts booleans.
func upgradeAttributes(version int, config map[string]any) {
	if _, given := config["updateAttributesOnlyOnValueChange"]; version < 1 && !given {
		config["updateAttributesOnlyOnValueChange"] = false
	}
	if version >= 2 {
		return
	}
	for _, key := range []string{"notifyDevice", "sendAttributesUpdatedNotification", "updateAttributesOnlyOnValueChange"} {
		switch v := config[key].(type) {
		case string:
			config[key] = isTrue(v)
		case nil:
			if key == "notifyDevice" {
				config[key] = true
			}
		}
	}
}

// upgradeTimeSeries: version 1 replaced skipLatestPersistence by processing settings.
func upgradeTimeSeries(version int, config map[string]any) {
	skip, given := config["skipLatestPersistence"]
	if version >= 1 || !given {
		return
	}
	delete(config, "skipLatestPersistence")
	if !isTrue(skip) || config["processingSettings"] != nil {
		return
	}
	each := map[string]any{"type": "ON_EVERY_MESSAGE"}
	config["processingSettings"] = map[string]any{
		"type": "ADVANCED", "timeseries": each, "latest": map[string]any{"type": "SKIP"}, "webSockets": each, "calculatedFields": each,
	}
}

// upgradeScript: a configuration from the time before TBEL names no language, and means JavaScript.
func upgradeScript(_ int, config map[string]any) {
	if config["scriptLang"] == nil && config["jsScript"] != nil {
		config["scriptLang"] = "JS"
	}
}

func isTrue(v any) bool { return v == true || v == "true" }

func sortedKeys[V any](o map[string]V) []string { return slices.Sorted(maps.Keys(o)) }

// ClassOf is the type of nodes of a kind in ThingsBoard's form: the class, or our own type where ThingsBoard has none.
func ClassOf(k nodes.Kind) string {
	if k.Class != "" {
		return k.Class
	}
	return k.Type
}

// KindOf is the kind of a node in ThingsBoard's form.
func KindOf(class string, kinds nodes.Registry) (nodes.Kind, bool) {
	if k, ok := kinds.LookupClass(class); ok {
		return k, true
	}
	return kinds.Lookup(class)
}

// EntersChain tells whether nodes of a kind lead into another chain.
func EntersChain(k nodes.Kind) bool { return k.Class == inputClass }

// ScriptClass is the class of the nodes whose scripts have a type, in the words of ThingsBoard's API for trying scripts.
func ScriptClass(scriptType string) (string, bool) {
	class, ok := map[string]string{
		"filter": "filter.TbJsFilterNode", "switch": "filter.TbJsSwitchNode", "update": "transform.TbTransformMsgNode", "string": "action.TbLogNode",
	}[scriptType]
	return classPrefix + class, ok
}
