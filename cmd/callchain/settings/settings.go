// Package settings is the one place of every setting of the server: its key, default, bounds and meaning. They are loaded from the
// defaults, one YAML file, the environment and the flags, each above the one before; what is not known is refused.
//
// It opens nothing and knows no part of the server but the form of auth.key.
package settings

import (
	"strings"
	"time"
)

// Settings are the settings of the server. The tags are all that there is to say of each:
// key, default, doc; min and max (inclusive, in the form of the value); enum (allowed words); tb (ThingsBoard's name in the
// environment) and tbunit (what a plain number means under that name: ms, s, or the port of the address).
type Settings struct {
	HTTP       HTTP      `key:"http"`
	MQTT       MQTT      `key:"mqtt"`
	CoAP       CoAP      `key:"coap"`
	Data       Data      `key:"data"`
	Store      Store     `key:"store"`
	Bus        Bus       `key:"bus"`
	Node       Node      `key:"node"`
	Partitions int       `key:"partitions" default:"64" min:"1" max:"4096" doc:"Number of partitions; fixed at install."`
	Auth       Auth      `key:"auth"`
	Admin      Login     `key:"admin"`
	SysAdmin   SysLogin  `key:"sysadmin"`
	Chains     Chains    `key:"chains"`
	RPC        RPC       `key:"rpc"`
	Limits     Limits    `key:"limits"`
	Retention  Retention `key:"retention"`
	Log        Log       `key:"log"`
	OTel       OTel      `key:"otel"`
}

// HTTP is where applications come in.
type HTTP struct {
	Addr string `key:"addr" default:"127.0.0.1:8080" kind:"addr" tb:"HTTP_BIND_PORT" tbunit:"port" doc:"Address of REST, the device API over HTTP, the event streams and the health checks; port 0 takes a free one."`
}

// MQTT is where devices come in.
type MQTT struct {
	Addr string `key:"addr" default:"127.0.0.1:1883" kind:"addr" optional:"true" tb:"MQTT_BIND_PORT" tbunit:"port" doc:"Address of MQTT 3.1, 3.1.1 and 5; port 0 takes a free one, empty turns MQTT off."`
}

// CoAP is where devices come in over UDP.
type CoAP struct {
	Addr string `key:"addr" default:"127.0.0.1:5683" kind:"addr" optional:"true" tb:"COAP_BIND_PORT" tbunit:"port" doc:"Address of CoAP; port 0 takes a free one, empty turns CoAP off."`
}

// Data is where files are kept.
type Data struct {
	Dir string `key:"dir" default:"./data" doc:"Folder of the embedded database, the keys and the first password; made with mode 0700."`
}

// Store is the database.
type Store struct {
	URL DatabaseURL `key:"url" default:"" optional:"true" doc:"Empty: SQLite in data.dir; postgres://user:password@host:5432/name: PostgreSQL."`
}

// Bus is how commands reach the engine and events leave it.
type Bus struct {
	Kafka Kafka `key:"kafka"`
}

// Kafka are the brokers, and how to be let in by them.
type Kafka struct {
	Brokers     string `key:"brokers" default:"" optional:"true" doc:"Kafka's brokers, host:port and more of them with commas. Empty: commands stay in the process. Needs a PostgreSQL in store.url."`
	Prefix      string `key:"prefix" default:"" optional:"true" doc:"Put before the name of every topic, so that installations can share brokers."`
	Replication int    `key:"replication" default:"0" min:"0" max:"15" doc:"Copies of the topics that the server creates; 0: as the brokers are set."`
	Resume      string `key:"resume" default:"strict" enum:"strict,oldest" doc:"What to do when a topic lost messages that were not taken yet. strict: stay unready and say so; oldest: go on with what is there."`
	TLS         TLS    `key:"tls"`
	SASL        SASL   `key:"sasl"`
}

// BrokerList are the brokers one by one.
func (k *Kafka) BrokerList() []string {
	var out []string
	for b := range strings.SplitSeq(k.Brokers, ",") {
		if b = strings.TrimSpace(b); b != "" {
			out = append(out, b)
		}
	}
	return out
}

// TLS is how a connection to a server is secured.
type TLS struct {
	Enabled bool   `key:"enabled" default:"false" doc:"Talk to the brokers over TLS; their certificates are checked."`
	CA      string `key:"ca" default:"" optional:"true" doc:"File with the certificates (PEM) that vouch for the brokers; empty: the system's."`
	Cert    string `key:"cert" default:"" optional:"true" doc:"File with this server's own certificate (PEM), if the brokers ask for one; needs tls.key."`
	Key     string `key:"key" default:"" optional:"true" doc:"File with the key (PEM) of that certificate."`
}

// SASL is how this server proves to the brokers who it is.
type SASL struct {
	Mechanism string `key:"mechanism" default:"none" enum:"none,plain,scram-sha-256,scram-sha-512" doc:"How the server logs in to the brokers."`
	User      string `key:"user" default:"" optional:"true" doc:"Name to log in with."`
	Password  Secret `key:"password" default:"" optional:"true" doc:"Password to log in with."`
}

// Node is this process among others.
type Node struct {
	ID string `key:"id" default:"" optional:"true" doc:"Name of this node; empty: made at random and kept in data.dir."`
}

// Auth is how users prove who they are.
type Auth struct {
	Key   Secret `key:"key" default:"" optional:"true" doc:"Wraps the signing and encryption keys in the database: 64 hex digits or the base64 of 32 bytes. Empty: the file auth.key in data.dir (mode 0600), made at the first start. Nodes of a cluster share one."`
	Token Token  `key:"token"`
}

// Token is the life of tokens.
type Token struct {
	Access  time.Duration `key:"access" default:"9000s" min:"1m" max:"30d" tb:"JWT_TOKEN_EXPIRATION_TIME" tbunit:"s" doc:"Life of access tokens."`
	Refresh time.Duration `key:"refresh" default:"604800s" min:"15m" max:"365d" tb:"JWT_REFRESH_TOKEN_EXPIRATION_TIME" tbunit:"s" doc:"Life of refresh tokens."`
}

// Login is the tenant administrator of the first start.
type Login struct {
	Email    string `key:"email" default:"admin@localhost" doc:"Tenant administrator that the first start creates."`
	Password Secret `key:"password" default:"" optional:"true" doc:"Password of that user; empty: made at random and written to admin-password in data.dir (mode 0600)."`
}

// SysLogin is the system administrator of the first start.
type SysLogin struct {
	Email    string `key:"email" default:"" optional:"true" doc:"System administrator that the first start creates; empty: none."`
	Password Secret `key:"password" default:"" optional:"true" doc:"Password of that user; needed with sysadmin.email."`
}

// Chains is where rule chains come from besides REST.
type Chains struct {
	Dir          string        `key:"dir" default:"" optional:"true" doc:"Folder of chain files, loaded at start and on change; empty: none."`
	ScriptBudget time.Duration `key:"script_budget" default:"50ms" min:"5ms" max:"500ms" doc:"How long one run of a script may take; after three longer ones within a minute the node's script is suspended for a minute."`
}

// RPC are the rules of calls; defaults are ThingsBoard's.
type RPC struct {
	MinTimeout     time.Duration `key:"min_timeout" default:"5s" min:"0s" max:"1h" tb:"MIN_SERVER_SIDE_RPC_TIMEOUT" tbunit:"ms" doc:"Least timeout of a call; a smaller one is raised to it."`
	DefaultTimeout time.Duration `key:"default_timeout" default:"10s" min:"1ms" max:"1h" tb:"DEFAULT_SERVER_SIDE_RPC_TIMEOUT" tbunit:"ms" doc:"Timeout of a call that names none."`
	MaxRetries     int           `key:"max_retries" default:"5" min:"0" max:"100" tb:"ACTORS_RPC_MAX_RETRIES" doc:"Upper bound and default of a call's retries."`
	SubmitStrategy string        `key:"submit_strategy" default:"burst" enum:"burst,on_ack,on_response" tb:"ACTORS_RPC_SUBMIT_STRATEGY_TYPE" doc:"When the next call of a device is sent: at once, after the acknowledgement of the one before, or after its response. ThingsBoard's names are taken, too."`
	Response       time.Duration `key:"response_timeout" default:"30s" min:"1ms" max:"24h" tb:"ACTORS_RPC_RESPONSE_TIMEOUT_MS" tbunit:"ms" doc:"Wait for the response of a delivered call before the next is sent; on_response only."`
	Ack            time.Duration `key:"ack_timeout" default:"10s" min:"1ms" max:"1h" tb:"MQTT_TIMEOUT" tbunit:"ms" doc:"Wait for the acknowledgement of a delivery."`
	CloseSession   bool          `key:"close_session_on_delivery_timeout" default:"false" tb:"ACTORS_RPC_CLOSE_SESSION_ON_RPC_DELIVERY_TIMEOUT" doc:"A delivery that is not acknowledged and has no retries left ends the session instead of the call."`
	ClientSide     time.Duration `key:"client_side_timeout" default:"60s" min:"1s" max:"1h" tb:"CLIENT_SIDE_RPC_TIMEOUT" tbunit:"ms" doc:"A device's own call is answered with {\"error\":\"timeout\"} after this."`
}

// Limits bound what others may make the server hold.
type Limits struct {
	HTTPBody        Bytes `key:"http_body" default:"16777216" min:"1KiB" max:"1GiB" doc:"Bytes of a request's body."`
	HTTPRequests    int   `key:"http_requests" default:"10000" min:"1" max:"1000000" doc:"Requests at a time; one more is answered 503."`
	HTTPPolls       int   `key:"http_polls" default:"10000" min:"1" max:"1000000" doc:"Polls of HTTP devices that wait at a time; one more is answered 503."`
	MQTTPacket      Bytes `key:"mqtt_packet" default:"65536" min:"128" max:"256MiB" tb:"NETTY_MAX_PAYLOAD_SIZE" doc:"Bytes of an MQTT packet from a device."`
	MQTTConnections int   `key:"mqtt_connections" default:"100000" min:"1" max:"10000000" doc:"MQTT connections at a time; one more is closed at once."`
	OpenCalls       int   `key:"open_calls" default:"10000" min:"1" max:"1000000" doc:"Open calls of one device; one more is refused."`
	Inbox           int   `key:"inbox" default:"65536" min:"64" max:"10000000" doc:"Commands that wait for the engine; one more is answered 503, or left unacknowledged."`
	DataOutstanding int   `key:"data_outstanding" default:"100" min:"1" max:"65535" tb:"MQTT_MSG_QUEUE_SIZE_PER_DEVICE_LIMIT" doc:"Telemetry and attribute messages of a session that the engine is working on; more are dropped (QoS 0) or left unacknowledged (QoS 1)."`
	DeadLetters     int   `key:"dead_letters" default:"100000" min:"1" max:"10000000" doc:"Dead letters that are stored; one more is counted, and published if there is Kafka, but not stored."`
}

// Retention is how long what has ended is kept.
type Retention struct {
	Light    time.Duration `key:"light" default:"7d" min:"1h" max:"36500d" doc:"Light calls, after their end."`
	Traces   time.Duration `key:"traces" default:"24h" min:"1m" max:"36500d" doc:"Traces of rule nodes."`
	MaxBytes Bytes         `key:"max_bytes" default:"0" min:"0" max:"1048576GiB" doc:"Size of the database; 80 % of it is warned of. 0: no limit."`
}

// OTel is where traces go.
type OTel struct {
	Endpoint string  `key:"endpoint" default:"" optional:"true" kind:"url" doc:"Collector that takes traces (OTLP over HTTP), for example http://127.0.0.1:4318. Empty: no traces are made."`
	Sample   float64 `key:"sample" default:"1" min:"0" max:"1" doc:"Share of the requests that are traced. A request that comes with a traceparent has its caller's decision."`
	Headers  Secret  `key:"headers" default:"" optional:"true" doc:"Sent with every request to the collector: name=value, and more of them with commas; values percent-encoded."`
	Service  string  `key:"service" default:"callchain" doc:"Name of the service in the traces."`
}

// Log is what an operator reads.
type Log struct {
	Level  string `key:"level" default:"info" enum:"debug,info,warn,error" doc:"Least level that is logged."`
	Format string `key:"format" default:"text" enum:"text,json" doc:"Form of the lines."`
}
