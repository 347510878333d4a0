package thingsboard

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// DebugTime is how long everything is traced after it was asked for, ThingsBoard's default.
const DebugTime = 15 * time.Minute

// Settle gives what ThingsBoard's server gives when it stores the content of a chain: ids and times to new nodes, an end to
// the tracing that is asked for, and a node "rule chain" for each connection of the old kind. now is in ms.
func (m *Metadata) Settle(chain uuid.UUID, now int64, newID func() uuid.UUID) {
	m.RuleChainID, m.Version = ChainID(chain), nil
	m.convertConnections()
	used := map[uuid.UUID]bool{}
	for i := range m.Nodes {
		n := &m.Nodes[i]
		if n.ID == nil || n.ID.ID == uuid.Nil || used[n.ID.ID] {
			n.ID, n.CreatedTime = NodeID(newID()), now
		}
		used[n.ID.ID] = true
		n.ID.EntityType = nodeEntity
		n.RuleChainID = ChainID(chain)
		if n.CreatedTime <= 0 {
			n.CreatedTime = now
		}
		n.settleDebug(now)
	}
}

func (n *Node) settleDebug(now int64) {
	if n.DebugSettings == nil && n.DebugMode {
		n.DebugSettings = &DebugSettings{FailuresEnabled: true, AllEnabled: true}
	}
	n.DebugMode = false
	if d := n.DebugSettings; d != nil {
		end := now + DebugTime.Milliseconds()
		if d.AllEnabled {
			d.AllEnabledUntil = end
		}
		d.AllEnabled, d.AllEnabledUntil = false, min(d.AllEnabledUntil, end)
	}
}

// convertConnections makes nodes of connections into other chains, as ThingsBoard's RuleChainConnectionInfo conversion does.
func (m *Metadata) convertConnections() {
	for _, c := range m.RuleChainConnections {
		config, err := json.Marshal(map[string]any{"ruleChainId": c.TargetRuleChainID.ID, "forwardMsgToDefaultRuleChain": false})
		if err != nil {
			panic("thingsboard: an id has no JSON: " + err.Error())
		}
		m.Connections = append(m.Connections, Connection{FromIndex: c.FromIndex, ToIndex: len(m.Nodes), Type: c.Type})
		m.Nodes = append(m.Nodes, Node{
			Type: inputClass, Name: "Rule chain " + c.TargetRuleChainID.ID.String()[:8], ConfigurationVersion: 1,
			Configuration: config, AdditionalInfo: c.AdditionalInfo,
		})
	}
	m.RuleChainConnections = nil
}

// Target is the chain that a node "rule chain" leads to; uuid.Nil for all others.
func (n *Node) Target() uuid.UUID {
	var config struct {
		Target uuid.UUID `json:"ruleChainId"`
	}
	if n.Type != inputClass || json.Unmarshal(n.Configuration, &config) != nil {
		return uuid.Nil // what is wrong with it is told when it is checked
	}
	return config.Target
}

// Retarget replaces the ids of chains that nodes "rule chain" lead to.
func (m *Metadata) Retarget(ids map[uuid.UUID]uuid.UUID) {
	for i := range m.Nodes {
		n := &m.Nodes[i]
		to, known := ids[n.Target()]
		if !known {
			continue
		}
		var config map[string]json.RawMessage
		if json.Unmarshal(n.Configuration, &config) != nil {
			continue // then it has no target
		}
		config["ruleChainId"] = json.RawMessage(`"` + to.String() + `"`)
		text, err := json.Marshal(config)
		if err != nil {
			panic("thingsboard: what was JSON has no JSON: " + err.Error())
		}
		n.Configuration = text
	}
}

// Forget takes out the ids and versions of one server, as ThingsBoard's web interface does when it exports a chain.
func (c *Chain) Forget() {
	c.Head.ID, c.Metadata.RuleChainID, c.Metadata.Version = nil, nil, nil
	for i := range c.Metadata.Nodes {
		n := &c.Metadata.Nodes[i]
		n.ID, n.CreatedTime, n.RuleChainID, n.ExternalID = nil, 0, nil, nil
	}
}
