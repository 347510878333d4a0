package thingsboard

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"callchain/chains"

	"github.com/google/uuid"
)

// exportsMax bounds how many chains a file may hold.
const exportsMax = 200

// exported has the members of all forms in which ThingsBoard gives chains away.
type exported struct {
	RuleChain  *Head           `json:"ruleChain"`  // the web interface: one chain
	Metadata   json.RawMessage `json:"metadata"`   // the web interface: an object; GET /api/ruleChains/export: a list
	RuleChains []Head          `json:"ruleChains"` // GET /api/ruleChains/export
	EntityType string          `json:"entityType"` // version control
	Entity     *Head           `json:"entity"`
	MetaData   *Metadata       `json:"metaData"` // the case of the letter is all that tells it from "metadata"
}

// ReadExport reads the chains of a file in any form that ThingsBoard writes: the web interface's export of one chain, the
// export of many by REST, and a file of version control. The error is chains.Problems.
func ReadExport(file string, data []byte) ([]Chain, error) {
	wrong := func(format string, args ...any) ([]Chain, error) {
		return nil, chains.Problems{{File: file, Text: fmt.Sprintf(format, args...)}}
	}
	var members map[string]json.RawMessage
	if !utf8.Valid(data) {
		return wrong("the file is not UTF-8")
	}
	if err := json.Unmarshal(data, &members); err != nil {
		return wrong("it is no JSON object: %v", explain(err))
	}
	in, err := readMembers(members)
	if err != nil {
		return wrong("%v", err)
	}
	switch {
	case in.RuleChain != nil:
		var m Metadata
		if err := json.Unmarshal(in.Metadata, &m); err != nil {
			return wrong(`"metadata": %v`, explain(err))
		}
		return []Chain{{*in.RuleChain, m}}, nil
	case in.RuleChains != nil:
		out, err := readMany(in)
		if err != nil {
			return wrong("%v", err)
		}
		return out, nil
	case in.Entity != nil && in.MetaData != nil && in.EntityType == chainEntity:
		return []Chain{{*in.Entity, *in.MetaData}}, nil
	}
	return wrong(`this is no rule chain of ThingsBoard: it has neither "ruleChain" and "metadata", nor "ruleChains", nor "entity" and "metaData"`)
}

// readMembers looks at each member by its exact name; encoding/json takes "metaData" for "metadata".
func readMembers(members map[string]json.RawMessage) (exported, error) {
	in := exported{Metadata: members["metadata"]}
	for _, m := range []struct {
		name string
		into any
	}{
		{"ruleChain", &in.RuleChain}, {"ruleChains", &in.RuleChains}, {"entityType", &in.EntityType}, {"entity", &in.Entity}, {"metaData", &in.MetaData},
	} {
		if raw, ok := members[m.name]; ok {
			if err := json.Unmarshal(raw, m.into); err != nil {
				return in, fmt.Errorf("%q: %w", m.name, explain(err))
			}
		}
	}
	if in.RuleChain != nil && in.Metadata == nil {
		return in, fmt.Errorf(`"metadata" is missing beside "ruleChain"`)
	}
	return in, nil
}

func readMany(in exported) ([]Chain, error) {
	if len(in.RuleChains) > exportsMax {
		return nil, fmt.Errorf("the file holds %d chains, more than %d", len(in.RuleChains), exportsMax)
	}
	var list []Metadata
	if err := json.Unmarshal(in.Metadata, &list); err != nil {
		return nil, fmt.Errorf(`"metadata": %w`, explain(err))
	}
	byChain := make(map[uuid.UUID]Metadata, len(list))
	for _, m := range list {
		if m.RuleChainID != nil {
			byChain[m.RuleChainID.ID] = m
		}
	}
	out := make([]Chain, 0, len(in.RuleChains))
	for _, h := range in.RuleChains {
		if h.ID == nil {
			return nil, fmt.Errorf("the chain %q has no id, so its metadata cannot be found", h.Name)
		}
		m, ok := byChain[h.ID.ID]
		if !ok {
			return nil, fmt.Errorf("the chain %q has no metadata with the ruleChainId %s", h.Name, h.ID.ID)
		}
		out = append(out, Chain{h, m})
	}
	return out, nil
}

// explain says what is of the wrong type without the names of this program.
func explain(err error) error {
	wrong, ok := errors.AsType[*json.UnmarshalTypeError](err)
	if !ok {
		return err
	}
	place := ""
	if wrong.Field != "" {
		place = wrong.Field + ": "
	}
	return fmt.Errorf("%sa JSON %s cannot stand here (byte %d)", place, wrong.Value, wrong.Offset)
}
