package api

import (
	"net/http"

	"callchain/api/openapi"
	"callchain/chains/thingsboard"
)

func chainOperations() operations {
	forms := []string{"application/json", "application/yaml"}
	definition := openapi.Schema{
		"type": "object", "required": []any{"name", "nodes"}, "description": "GET /api/chains/schema gives all of it.",
		"properties": openapi.Schema{"name": text, "nodes": openapi.Schema{"type": "array", "items": object}},
	}
	activate := ask("activate", "It runs at once.", flag)
	version := func(doc string) []openapi.Parameter { return []openapi.Parameter{ask("version", doc, atLeast)} }
	codes := []int{http.StatusConflict, http.StatusUnsupportedMediaType}
	return operations{
		"GET /api/nodes":         {Summary: "Every kind of node, with JSON Schema, relations and an example.", Answer: []nodeView{}},
		"GET /api/chains/schema": {Summary: "JSON Schema of chains.", Answer: object},
		"GET /api/chains": {Summary: "Rule chains.", Answer: pageOf[chainView]{}, Query: []openapi.Parameter{
			ask("pageSize", "At most 1000; 100 if left out.", atLeast), ask("page", "Which part of the list, from 0.", count),
			ask("textSearch", "A part of the name.", text), ask("sortProperty", "Name of the field to sort by.", text), ask("sortOrder", "ASC or DESC.", text),
		}},
		"POST /api/chains": {
			Summary: "Makes a rule chain.", Body: definition, Takes: forms, Answer: chainView{}, Query: []openapi.Parameter{activate}, Codes: codes,
		},
		"GET /api/chains/:chainId": {Summary: "A rule chain.", Answer: chainView{}, Gives: forms, Query: version("This version instead of the one that runs.")},
		"PUT /api/chains/:chainId": {
			Summary: "Makes a new version of a rule chain.", Body: definition, Takes: forms, Answer: chainView{}, Codes: codes,
			Query: append(version("The version that was edited; 409 if there is a later one."), activate),
		},
		"DELETE /api/chains/:chainId":       {Summary: "Removes a rule chain that nothing uses."},
		"GET /api/chains/:chainId/versions": {Summary: "Versions of a rule chain, the newest first.", Answer: []chainView{}},
		"POST /api/chains/:chainId/activate": {
			Summary: "Lets a version run.", Answer: chainView{}, Query: version("The version; the latest if left out."),
		},
		"POST /api/chains/:chainId/rollback": {
			Summary: "Goes back to a version before the one that runs.", Answer: chainView{}, Query: version("The version; the one before if left out."),
		},
		"POST /api/chains/:chainId/root": {Summary: "Makes a chain that of devices whose profile names none.", Answer: chainView{}},
	}
}

func ruleChainOperations() operations {
	conflict := []int{http.StatusNotFound, http.StatusConflict}
	kinds := ask("ruleChainType", "CORE or EDGE; of EDGE there are none.", text)
	return operations{
		"POST /api/ruleChain": {
			Summary: "Makes a rule chain without nodes, or changes what is said of one.", Body: ruleChainBody{}, Needs: []string{"name"}, Answer: ruleChainView{}, Codes: conflict,
		},
		"GET /api/ruleChain/:ruleChainId":       {Summary: "What is said of a rule chain.", Answer: ruleChainView{}},
		"DELETE /api/ruleChain/:ruleChainId":    {Summary: "Removes a rule chain that nothing uses."},
		"POST /api/ruleChain/:ruleChainId/root": {Summary: "Makes a chain that of devices whose profile names none.", Answer: ruleChainView{}},
		"POST /api/ruleChain/device/default": {
			Summary: "Makes a chain that does what the standard root chain does.", Body: openapi.Schema{
				"type": "object", "required": []any{"name"}, "properties": openapi.Schema{"name": text},
			}, Answer: ruleChainView{},
		},
		"GET /api/ruleChain/tbelEnabled": {Summary: "Says whether there are nodes with scripts.", Answer: flag},
		"POST /api/ruleChain/testScript": {
			Summary: "Tries a script on a message; what went wrong is in the answer.", Body: scriptBody{}, Answer: triedView{},
			Query: []openapi.Parameter{ask("scriptLang", "JS or TBEL, in any case of letters; JS if left out.", text)},
		},
		"GET /api/ruleChain/:ruleChainId/metadata": {Summary: "The nodes of a chain and how they are connected.", Answer: thingsboard.Metadata{}},
		"POST /api/ruleChain/metadata": {
			Summary: "Replaces the nodes of a chain.", Body: thingsboard.Metadata{}, Needs: []string{"ruleChainId"}, Answer: thingsboard.Metadata{}, Codes: conflict,
			Query: []openapi.Parameter{ask("updateRelated", "false: the connections of other chains do not follow when an output node is renamed.", flag)},
		},
		"GET /api/ruleChain/:ruleChainId/output/labels":       {Summary: "Relations along which a chain goes back to the one that entered it.", Answer: []string{}},
		"GET /api/ruleChain/:ruleChainId/output/labels/usage": {Summary: "Nodes of other chains that enter this one.", Answer: []labelUsageView{}},
		"GET /api/ruleChains": {
			Summary: "Rule chains.", Answer: pageOf[ruleChainView]{}, Query: paging(ask("type", "CORE or EDGE; of EDGE there are none.", text)),
		},
		"GET /api/ruleChains/list": {
			Summary: "Rule chains by their ids; what is not there is left out.", Answer: []ruleChainView{},
			Query: []openapi.Parameter{need("ruleChainIds", "Ids with commas between them.", text)},
		},
		"GET /api/ruleChains/export": {
			Summary: "Rule chains with their nodes.", Answer: ruleChainsView{}, Query: []openapi.Parameter{need("limit", "How many at most.", atLeast)},
		},
		"POST /api/ruleChains/import": {
			Summary: "Takes what ThingsBoard exported: one chain, or many.", Body: object, Answer: []importedView{}, Codes: []int{http.StatusConflict},
			Query: []openapi.Parameter{ask("overwrite", "A chain takes the place of one with its name.", flag)},
		},
		"GET /api/components": {
			Summary: "Kinds of nodes.", Answer: []componentView{}, Query: []openapi.Parameter{ask("componentTypes", "Only these, with commas between them.", text), kinds},
		},
		"GET /api/components/:componentType": {Summary: "Kinds of nodes of a type.", Answer: []componentView{}, Query: []openapi.Parameter{kinds}},
		"GET /api/component/:componentClass": {Summary: "The kind of node with a class name.", Answer: componentView{}},
	}
}
