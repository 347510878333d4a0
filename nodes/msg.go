// Package nodes is the contract of rule nodes: the message that runs through a chain, what a node may answer to it, and
// the one value that describes a kind of node (name, relations, config, docs).
//
// Nodes are pure: no clock, no I/O, no randomness, no goroutines. They are given a message and answer what is to happen;
// chains interprets the answer, the engine performs it. Nothing here knows of databases, transports or REST.
package nodes

import "github.com/google/uuid"

// The message types of ThingsBoard that Callchain itself makes (TbMsgType). Chains may use any other text as a type.
const (
	PostAttributes   = "POST_ATTRIBUTES_REQUEST"
	PostTelemetry    = "POST_TELEMETRY_REQUEST"
	CallToDevice     = "RPC_CALL_FROM_SERVER_TO_DEVICE"
	CallFromDevice   = "TO_SERVER_RPC_REQUEST"
	AttributesUpdate = "ATTRIBUTES_UPDATED"
	Connected        = "CONNECT_EVENT"
	Disconnected     = "DISCONNECT_EVENT"
	RPCQueued        = "RPC_QUEUED"
	RPCSent          = "RPC_SENT"
	RPCDelivered     = "RPC_DELIVERED"
	RPCSuccessful    = "RPC_SUCCESSFUL"
	RPCTimeout       = "RPC_TIMEOUT"
	RPCExpired       = "RPC_EXPIRED"
	RPCFailed        = "RPC_FAILED"
	RPCDeleted       = "RPC_DELETED"
)

// Entity names what a message is about. Type is ThingsBoard's EntityType, "DEVICE" for a device.
type Entity struct {
	Type string
	ID   uuid.UUID
}

// Device is the entity type of devices.
const Device = "DEVICE"

// Msg is one message on its way through a chain. It is a value: nodes return changed copies and never change what Metadata
// and Data refer to.
type Msg struct {
	ID         uuid.UUID
	TS         int64 // ms since 1970: the time of the data, as in metadata "ts" of telemetry
	Now        int64 // µs since 1970: when the owner took the command; the only clock nodes have
	Type       string
	Originator Entity
	Customer   uuid.UUID
	Metadata   Metadata
	Data       *Doc
}

// WithData is m with other data.
func (m Msg) WithData(d *Doc) Msg { m.Data = d; return m }

// WithMetadata is m with one metadata value more, or another one.
func (m Msg) WithMetadata(key, value string) Msg { m.Metadata = m.Metadata.With(key, value); return m }

// Metadata are the texts that travel beside the data. It must not be changed, only copied with With.
type Metadata map[string]string

// With is a copy with one value set.
func (md Metadata) With(key, value string) Metadata {
	out := make(Metadata, len(md)+1)
	for k, v := range md {
		out[k] = v
	}
	out[key] = value
	return out
}
