// Package transports is the contract between the device protocols and the engine: what a transport tells the engine
// (Inbound), how the engine reaches a connected device (Link), and how a device proves who it is (Authenticator).
//
// It knows devices, sessions and payloads, but no database, no rule chain and no other transport. The suite that every
// transport passes is transports/transporttest.
package transports

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
)

var (
	// ErrUnauthorized: the credentials belong to no device.
	ErrUnauthorized = errors.New("unknown credentials")
	// ErrBusy: the engine takes no more now; nothing happened. The transport leaves the message unacknowledged.
	ErrBusy = errors.New("the server is busy")
	// ErrGone: the session is not known (any more).
	ErrGone = errors.New("the session has ended")
	// ErrRefused: the engine will never accept this message; the text says why.
	ErrRefused = errors.New("refused")
)

// The transports, as sessions, events and metrics name them.
const (
	MQTT = "mqtt"
	HTTP = "http"
	CoAP = "coap"
)

// Names are all transports.
func Names() []string { return []string{MQTT, HTTP, CoAP} }

// Credentials are what a device shows. Kinds that a protocol does not have stay empty.
type Credentials struct {
	Token    string // access token (MQTT user name, HTTP and CoAP path)
	UserName string // MQTT_BASIC
	Password string
	ClientID string
}

// Identity is what the credentials prove.
type Identity struct {
	Tenant    uuid.UUID
	Device    uuid.UUID
	Partition int32 // of the device, from its row
	Name      string
	Type      string // name of its profile, ThingsBoard's deviceType
	Profile   uuid.UUID
	Gateway   bool
	// Credentials is the version of the credentials that the device has shown: it grows by each change of them.
	Credentials int64
}

// Authenticator checks credentials. It fails with ErrUnauthorized, or with what keeps it from knowing.
type Authenticator interface {
	Authenticate(ctx context.Context, c Credentials) (Identity, error)
}

// Session is one connection of a device.
type Session struct {
	ID        uuid.UUID // unique for ever; a Disconnect of an older session never ends a newer one
	Identity  Identity
	Transport string // MQTT, HTTP, CoAP
	Remote    string // address of the peer, for the log
	Link      Link
	// Secondary: the session carries messages of the device and their answers, and does not take the device's place. Older sessions
	// go on, no calls or updates come, and its Connect and Disconnect leave no trace. It is for protocols whose devices send
	// without being connected.
	Secondary bool
	// Once: each Subscribe is for one call only, the first in order (ThingsBoard's SYNC sessions). It is for protocols whose devices
	// fetch their calls one by one.
	Once bool
}

// Command is a server-side call on its way to a device.
type Command struct {
	Call     uuid.UUID
	Wire     int32 // request id on the wire
	Method   string
	Params   []byte    // JSON
	Deadline time.Time // not sent any more when passed
	Attempt  int       // 1, 2, …
	Epoch    int64     // of the partition: a link refuses commands older than the newest epoch it saw
	Trace    string    // W3C traceparent, empty if none
}

// Response answers a device's own call.
type Response struct {
	Request int32  // the device's request id
	Body    []byte // as the chain made it, or {"error":"timeout"}
}

// AttributesAnswer answers a device's request for attributes.
type AttributesAnswer struct {
	Request int32
	Client  map[string][]byte // JSON values by key
	Shared  map[string][]byte
}

// Reason says why the engine ends a session.
type Reason string

// The reasons, after ThingsBoard's TransportSessionCloseReason.
const (
	ReasonTakenOver       Reason = "session_taken_over"
	ReasonCredentials     Reason = "credentials_updated"
	ReasonDeviceDeleted   Reason = "device_deleted"
	ReasonDeliveryTimeout Reason = "rpc_delivery_timeout"
	ReasonShutdown        Reason = "server_shutting_down"
	ReasonNodeLost        Reason = "node_lost" // the node that had the connection is not there any more
	ReasonRefused         Reason = "refused"
)

// Link reaches the device of one session. Its methods do not block: what does not fit into the bounded queue of the connection
// is refused, and a refused command is reported with Inbound.Failed.
type Link interface {
	Send(Command)
	Respond(Response)
	AnswerAttributes(AttributesAnswer)
	PushAttributes(changed map[string][]byte, deleted []string)
	Close(Reason)
}

// Inbound is how a transport tells the engine what a device does. Methods do not block for long: each calls done exactly
// once, from any goroutine, when the outcome is durable (nil) or will never be (error). Only then is the device's message
// acknowledged. A nil done is allowed where the protocol acknowledges nothing.
// Payloads are handed over: the transport does not change them afterwards.
type Inbound interface {
	// Connect opens a session; an older session of the device is closed with ReasonTakenOver.
	Connect(s Session, done func(error))
	// Subscribe makes the session receive calls, or one call if it is a session with Once; what is still owed is sent again. done comes
	// when the engine has judged it live (SUBACK follows).
	Subscribe(session uuid.UUID, done func(error))
	// Unsubscribe ends that; the session stays.
	Unsubscribe(session uuid.UUID, done func(error))
	// Disconnect ends the session.
	Disconnect(session uuid.UUID, why string)

	// Written: the command left for the device at this time. If ack is true, Acknowledged is to follow.
	Written(session, call uuid.UUID, attempt int, at time.Time, ack bool)
	// Acknowledged: the protocol proves that the device has the command. Evidence is "puback", "coap_ack", "http_taken", ….
	Acknowledged(session, call uuid.UUID, evidence string, at time.Time)
	// Failed: the command did not leave (queue full, packet too large, connection gone), and why.
	Failed(session, call uuid.UUID, reason string)

	// Reply is the device's answer to the call with this wire id; unknown ids are no error.
	Reply(session uuid.UUID, wire int32, payload []byte, done func(error))
	// Call is a call of the device to the server; params is JSON or nil.
	Call(session uuid.UUID, request int32, method string, params []byte, done func(error))

	// Telemetry and Attributes carry the payload as the device sent it (checked to be JSON by the transport).
	Telemetry(session uuid.UUID, payload []byte, done func(error))
	Attributes(session uuid.UUID, payload []byte, done func(error))
	// RequestAttributes asks for values; nil keys with both slices nil means all, an empty key all of its scope. The answer comes through the Link.
	RequestAttributes(session uuid.UUID, request int32, client, shared []string, done func(error))
}

// Traced is an Inbound that takes along where a device's message stands in a trace.
type Traced interface {
	// InTrace is the Inbound for one Reply or Call that came with this W3C traceparent. One that is not well-formed counts as none.
	InTrace(traceparent string) Inbound
}

// Evidence names (promise P6).
const (
	EvidencePuback    = "puback"
	EvidenceCoAPAck   = "coap_ack"
	EvidenceHTTPTaken = "http_taken"
	EvidenceAnswer    = "answer"
	EvidenceWritten   = "written"
)
