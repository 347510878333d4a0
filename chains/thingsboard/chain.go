// Package thingsboard reads and writes rule chains as ThingsBoard's REST API, its web interface and its version control have
// them, and makes definitions of them.
//
// A chain that came in this form is kept in it, so that it is read back as it was written: ids, layout, notes, and members of
// configurations that mean nothing here. Definition is what it does.
package thingsboard

import (
	"bytes"
	"encoding/json"
	"fmt"

	"callchain/chains"

	"github.com/google/uuid"
)

// Format names the stored form of chains of this package (Chain as JSON).
const Format = "thingsboard"

// Core is the type of the chains that a server runs; the other, EDGE, is for ThingsBoard's edge servers.
const Core = "CORE"

// The entity types of ids.
const (
	chainEntity = "RULE_CHAIN"
	nodeEntity  = "RULE_NODE"
)

// Chain is a rule chain: its head and what is in it. Its JSON is what ThingsBoard's web interface exports.
type Chain struct {
	Head     Head     `json:"ruleChain"`
	Metadata Metadata `json:"metadata"`
}

// Head is ThingsBoard's RuleChain without what a server adds: ids, times, the flag of the root chain.
type Head struct {
	ID             *EntityID       `json:"id,omitempty"` // in exports of many chains only
	Name           string          `json:"name"`
	Type           string          `json:"type"` // empty: Core
	DebugMode      bool            `json:"debugMode"`
	Configuration  json.RawMessage `json:"configuration,omitempty"`
	AdditionalInfo json.RawMessage `json:"additionalInfo,omitempty"`
}

// EntityID is an id with the type of what it names.
type EntityID struct {
	EntityType string    `json:"entityType"`
	ID         uuid.UUID `json:"id"`
}

// Metadata is ThingsBoard's RuleChainMetaData.
type Metadata struct {
	RuleChainID          *EntityID         `json:"ruleChainId,omitempty"`
	Version              *int64            `json:"version,omitempty"`
	FirstNodeIndex       *int              `json:"firstNodeIndex"` // null or negative: no node gets the messages
	Nodes                []Node            `json:"nodes"`
	Connections          []Connection      `json:"connections"`
	RuleChainConnections []ChainConnection `json:"ruleChainConnections"` // of versions before 3.3; Settle makes nodes of them
	Notes                json.RawMessage   `json:"notes,omitempty"`
}

// Node is ThingsBoard's RuleNode.
type Node struct {
	ID                   *EntityID       `json:"id,omitempty"`
	CreatedTime          int64           `json:"createdTime,omitempty"` // ms
	RuleChainID          *EntityID       `json:"ruleChainId,omitempty"`
	Type                 string          `json:"type"` // ThingsBoard's class, or the type of a node that ThingsBoard does not have
	Name                 string          `json:"name"`
	DebugMode            bool            `json:"debugMode,omitempty"` // of older versions; Settle makes DebugSettings of it
	DebugSettings        *DebugSettings  `json:"debugSettings"`
	SingletonMode        bool            `json:"singletonMode"`
	QueueName            *string         `json:"queueName"`
	ConfigurationVersion int             `json:"configurationVersion"`
	Configuration        json.RawMessage `json:"configuration"`
	ExternalID           *EntityID       `json:"externalId"`
	AdditionalInfo       json.RawMessage `json:"additionalInfo"`
}

// DebugSettings say what is traced of a node. AllEnabled asks for everything for a while; Settle turns it into a time.
type DebugSettings struct {
	FailuresEnabled bool  `json:"failuresEnabled"`
	AllEnabled      bool  `json:"allEnabled"`
	AllEnabledUntil int64 `json:"allEnabledUntil"` // ms
}

// Connection leads from one node to another; the numbers are places in Nodes.
type Connection struct {
	FromIndex int    `json:"fromIndex"`
	ToIndex   int    `json:"toIndex"`
	Type      string `json:"type"` // the relation
}

// ChainConnection leads from a node into another chain.
type ChainConnection struct {
	FromIndex         int             `json:"fromIndex"`
	TargetRuleChainID EntityID        `json:"targetRuleChainId"`
	AdditionalInfo    json.RawMessage `json:"additionalInfo,omitempty"`
	Type              string          `json:"type"`
}

// Parse reads the stored form.
func Parse(data []byte) (Chain, error) {
	var c Chain
	if err := json.Unmarshal(data, &c); err != nil {
		return c, fmt.Errorf("reading a stored ThingsBoard chain: %w", err)
	}
	return c, nil
}

// Text is the stored form. Letters stay as they are, without escapes for web pages.
func (c Chain) Text() ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(c); err != nil {
		return nil, fmt.Errorf("writing a ThingsBoard chain: %w", err)
	}
	if out.Len() > chains.BytesMax {
		return nil, chains.Problems{{Text: fmt.Sprintf("the chain has %d bytes, more than %d; move a part into a chain of its own", out.Len(), chains.BytesMax)}}
	}
	return bytes.TrimSpace(out.Bytes()), nil
}

// ChainID is an id of a rule chain.
func ChainID(id uuid.UUID) *EntityID { return &EntityID{chainEntity, id} }

// NodeID is an id of a rule node.
func NodeID(id uuid.UUID) *EntityID { return &EntityID{nodeEntity, id} }

// description is what additionalInfo says of a chain or node.
func description(additional json.RawMessage) string {
	var info struct {
		Description any `json:"description"`
	}
	if json.Unmarshal(additional, &info) != nil {
		return "" // additionalInfo may be anything
	}
	text, _ := info.Description.(string) // it may be anything, too
	return text
}
