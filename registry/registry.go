// Package registry keeps who and what there is: tenants, users, devices with their credentials, device profiles and rule
// chains. It answers from a bounded cache and writes to SQLite (a file of its own) or PostgreSQL.
//
// It knows no calls and no events; the attributes and latest values of devices are rows of the event store.
package registry

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"
)

var (
	// ErrNotFound: there is no such thing, or it belongs to another tenant.
	ErrNotFound = errors.New("not found")
	// ErrExists: the name, token or e-mail is taken.
	ErrExists = errors.New("already exists")
	// ErrInvalid: a field is not acceptable; the text names it.
	ErrInvalid = errors.New("invalid")
	// ErrStale: the version given is not the stored one.
	ErrStale = errors.New("changed meanwhile")
	// ErrInUse: it cannot be deleted while others refer to it.
	ErrInUse = errors.New("in use")
	// ErrBadPassword: unknown user or wrong password.
	ErrBadPassword = errors.New("invalid username or password")
	// ErrDisabled: the user may not log in.
	ErrDisabled = errors.New("user account is not active")
)

// Authority is a role, in ThingsBoard's words.
type Authority string

// The authorities.
const (
	SysAdmin     Authority = "SYS_ADMIN"
	TenantAdmin  Authority = "TENANT_ADMIN"
	CustomerUser Authority = "CUSTOMER_USER"
)

// Tenant owns devices, profiles, chains and users.
type Tenant struct {
	ID      uuid.UUID
	Title   string
	Created time.Time
}

// User may log in.
type User struct {
	ID         uuid.UUID
	Tenant     uuid.UUID // uuid.Nil for a system administrator
	Customer   uuid.UUID
	Email      string
	Authority  Authority
	FirstName  string
	LastName   string
	Enabled    bool
	Created    time.Time
	Additional json.RawMessage
}

// Device is one device. Partition was chosen when it was made and stays with the row.
type Device struct {
	ID         uuid.UUID
	Tenant     uuid.UUID
	Customer   uuid.UUID
	Name       string // unique in the tenant
	Label      string
	Profile    uuid.UUID
	Type       string // the profile's name
	Partition  int32
	Additional json.RawMessage // additionalInfo; {"gateway":true} makes it a gateway
	Data       json.RawMessage // deviceData
	Created    time.Time
	Version    int64
}

// CredentialsKind is how a device proves who it is.
type CredentialsKind string

// The kinds of credentials.
const (
	AccessToken CredentialsKind = "ACCESS_TOKEN"
	MQTTBasic   CredentialsKind = "MQTT_BASIC"
)

// Credentials are the one set of credentials of a device. ID and Value are ThingsBoard's credentialsId and credentialsValue.
type Credentials struct {
	RowID   uuid.UUID
	Device  uuid.UUID
	Kind    CredentialsKind
	ID      string // the access token
	Value   string // MQTT_BASIC: {"clientId":…,"userName":…,"password":…}
	Created time.Time
	Version int64
}

// Profile is a device profile.
type Profile struct {
	ID          uuid.UUID
	Tenant      uuid.UUID
	Name        string
	Description string
	Transport   string    // DEFAULT, MQTT, …
	Chain       uuid.UUID // defaultRuleChainId; uuid.Nil: the root chain
	Default     bool
	Data        json.RawMessage // profileData as ThingsBoard's clients sent it
	RPC         RPCSettings     // own settings, under "callchain" in Data
	Created     time.Time
	Version     int64
}

// RPCSettings are a profile's own rules for calls; zero values take the server's.
type RPCSettings struct {
	SubmitOrder    string        `json:"submitOrder,omitempty"` // "burst", "on_ack", "on_response"
	MaxRetries     *int          `json:"maxRetries,omitempty"`
	AckTimeout     time.Duration `json:"ackTimeout,omitempty"`
	Response       time.Duration `json:"responseTimeout,omitempty"`
	Backoff        time.Duration `json:"backoff,omitempty"`
	CloseOnTimeout *bool         `json:"closeSessionOnDeliveryTimeout,omitempty"`
	LightFacts     bool          `json:"lightFacts,omitempty"` // life-cycle facts of light calls enter the chain, too
}

// Chain is one version of a rule chain. Versions never change; one is active.
type Chain struct {
	ID         uuid.UUID
	Tenant     uuid.UUID
	Version    int
	Name       string
	Root       bool   // the tenant's root chain
	Active     bool   // this version is the one that runs
	Definition []byte // as it was written
	Format     string // "yaml", "json", or "thingsboard": ThingsBoard's JSON
	Created    time.Time
	Begun      time.Time // when the first version was made
	Author     string
	File       string // path below chains.dir it was loaded from, empty if it came by REST
}

// Page selects a part of a list.
type Page struct {
	Size   int
	Number int
	Search string // part of the name, any case
	Sort   string // "createdTime", "name", …; empty: createdTime
	Desc   bool
}
