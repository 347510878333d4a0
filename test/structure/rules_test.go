package structure_test

import "regexp"

// importRule says what the packages that match pkg may import besides the standard library. The first row that matches
// decides; a package without a row is itself a finding. Patterns are anchored and leave out the module's name.
type importRule struct {
	pkg   *regexp.Regexp
	own   *regexp.Regexp // packages of this module
	third *regexp.Regexp // packages of other modules
	why   string
}

var (
	none     = regexp.MustCompile(`^$`)
	anything = regexp.MustCompile(`.`)
	ids      = anchored(`github\.com/google/uuid`)
	// pureThird are packages of other modules without side effects.
	pureThird = anchored(`github\.com/google/uuid|github\.com/expr-lang/expr(/.+)?|github\.com/goccy/go-yaml(/.+)?|` +
		`github\.com/santhosh-tekuri/jsonschema/v6(/.+)?`)
	// contracts are the packages that the shell programs against.
	contracts = `eventstore|transports|nodes|nodes/script|nodes/builtin|chains(/.+)?|registry|engine/(rpc|step|bus|projection)`
)

func anchored(pattern string) *regexp.Regexp { return regexp.MustCompile(`^(` + pattern + `)$`) }

// importRules is rule R1: contracts are leaves, adapters see one contract, pure packages see only pure packages, the shell
// sees contracts, cmd sees all.
var importRules = []importRule{
	{anchored(`eventstore|transports|engine/bus`), none, ids, "a contract is a leaf"},
	{anchored(`nodes`), none, pureThird, "a contract is a leaf"},
	{anchored(`nodes/script`), anchored(`nodes`), pureThird, "the script contract is a leaf beside nodes"},
	{anchored(`nodes/script/.+`), anchored(`nodes|nodes/script`), anything, "an adapter sees one contract"},
	{anchored(`nodes/builtin`), anchored(`nodes(/.+)?`), pureThird, "the list of kinds sees the kinds"},
	{anchored(`nodes/.+`), anchored(`nodes|nodes/script|nodes/internal/.+`), pureThird, "a kind of node sees the node contract"},
	{anchored(`chains(/.+)?`), anchored(`nodes(/.+)?|chains(/.+)?`), pureThird, "pure packages see only pure packages"},
	{anchored(`engine/rpc`), none, pureThird, "the life cycle is pure and a leaf"},
	{anchored(`engine/step(/.+)?`), anchored(`engine/(rpc|step)(/.+)?|nodes(/.+)?|chains(/.+)?`), pureThird, "pure packages see only pure packages"},
	{anchored(`engine/projection`), anchored(`eventstore|nodes|engine/(rpc|step)`), ids, "projections see facts and tables"},
	{anchored(`engine/cluster`), anchored(`engine/rpc`), ids, "messages between nodes are pure"},
	{anchored(`engine/(deadletter|wire)`), anchored(`eventstore|engine/(bus|deadletter|projection|rpc|step)`), ids, "forms of messages and rows are pure"},
	{anchored(`engine/nodetrace`), anchored(`eventstore|chains|nodes|engine/projection`), ids, "rows of traces are pure"},
	{
		anchored(`engine/owner`), anchored(`eventstore|transports|chains|nodes|engine/(bus|cluster|deadletter|nodetrace|projection|rpc|step|wire)`),
		anchored(`github\.com/google/uuid|github\.com/hashicorp/golang-lru/v2/simplelru`), "the owner sees facts and forms, and nobody who does I/O",
	},
	{anchored(`engine/retry`), none, anything, "a leaf"},
	{
		anchored(`engine/recovery`), anchored(`eventstore|nodes|engine/(deadletter|owner|projection|replay|rpc|step)`), ids,
		"reading gives values: it knows no inbox, no device and no loop",
	},
	{anchored(`engine/bus/(kafka|memory)`), anchored(`engine/bus(/bustest|/local)?`), anything, "what Kafka gave waits in the process, as in the local bus; so does what its double gave"},
	{anchored(`engine/bus/.+`), anchored(`engine/bus(/bustest)?`), anything, "an adapter sees one contract"},
	{anchored(`engine/projection/projectiontest`), anchored(`eventstore(/storetest)?|engine/projection`), anything, "a suite of what a store must have for its rows"},
	{anchored(`engine/sim`), anchored(contracts + `|engine/.+|eventstore/memstore`), anything, "the simulation drives an owner over doubles"},
	{anchored(`engine/replay`), anchored(`eventstore|engine/(rpc|projection)`), ids, "folding sends nothing (P5): it knows no transport"},
	{anchored(`engine(/.+)?`), anchored(contracts + `|engine/[a-z]+`), anything, "the shell sees contracts"},
	{anchored(`eventstore/storetest`), anchored(`eventstore`), anything, "a suite sees its contract"},
	{anchored(`eventstore/.+`), anchored(`eventstore(/[a-z]+)?|engine/projection|migrations`), anything, "an adapter sees one contract"},
	{anchored(`transports/.+`), anchored(`transports(/internal/.+|/transporttest)?`), anything, "an adapter sees one contract"},
	{anchored(`registry(/.+)?`), anchored(`registry(/.+)?|eventstore|migrations|transports`), anything, "the registry sees the databases, and the devices' Authenticator that it implements"},
	{anchored(`migrations`), anchored(`eventstore`), anything, "migrations know the store's errors only"},
	{anchored(`api(/.+)?`), anchored(contracts + `|engine|engine/(deadletter|replay)|registry/(auth|password)|api(/.+)?|web`), anything, "the shell sees contracts"},
	{anchored(`web`), none, none, "the console is files"},
	{anchored(`cmd/.+|test/.+|examples(/.+)?|scripts(/.+)?|deploy(/.+)?`), anything, anything, "the edge sees all"},
}

// suite matches the packages that hold test suites; only tests and other suites import them, and they may use testing.
var suite = regexp.MustCompile(`(^|/)[a-z]+test$`)

// pure matches the packages of rule R2; an adapter under nodes/script is none, and a suite is none.
var (
	pure   = anchored(`engine/(rpc|cluster|deadletter|nodetrace|owner|projection|wire)|engine/step(/.+)?|nodes(/.+)?|chains(/.+)?`)
	impure = anchored(`nodes/script/.+|(.+/)?[a-z]+test`)
)

// pureStd is what a pure package may import from the standard library: packages that compute.
var pureStd = anchored(`bytes|cmp|container/.+|crypto/(hmac|md5|sha1|sha256|sha512|subtle)|embed|encoding(/.+)?|errors|fmt|` +
	`hash(/.+)?|io|iter|maps|math|math/(big|bits|cmplx)|net/url|path|reflect|regexp(/syntax)?|slices|sort|strconv|strings|` +
	`text/template/parse|time|unicode(/.+)?|unique`)

// forbiddenUses are the names that bring a clock, a zone of the machine or chance into a package, and the fix.
var forbiddenUses = map[string]string{
	"time.Now":                             useAt,
	"time.Since":                           useAt,
	"time.Until":                           useAt,
	"time.After":                           useDeadline,
	"time.AfterFunc":                       useDeadline,
	"time.Sleep":                           useDeadline,
	"time.NewTimer":                        useDeadline,
	"time.NewTicker":                       useDeadline,
	"time.Tick":                            useDeadline,
	"time.Local":                           useUTC,
	"time.LoadLocation":                    useUTC,
	"(time.Time).Local":                    useUTC,
	"github.com/google/uuid.New":           useID,
	"github.com/google/uuid.NewString":     useID,
	"github.com/google/uuid.NewRandom":     useID,
	"github.com/google/uuid.NewUUID":       useID,
	"github.com/google/uuid.NewV6":         useID,
	"github.com/google/uuid.NewV7":         useID,
	"github.com/google/uuid.NewDCEGroup":   useID,
	"github.com/google/uuid.NewDCEPerson":  useID,
	"github.com/google/uuid.NewV6WithTime": useID,
}

const (
	useAt       = "take the time from the command: Now, or At for what is ordered only"
	useDeadline = "return the deadline (NextDeadline) and let the owner fire it"
	useUTC      = "use UTC; the machine's time zone is no input"
	useID       = "take the id from the command, or derive it with uuid.NewSHA1"
)

// The limits of rule R3.
const (
	fileLinesMax      = 500
	functionLinesMax  = 70
	functionLinesP90  = 40
	functionsForShare = 10 // fewer functions have no meaningful 90th percentile
	typeMethodsFew    = 10 // a type with at most so many may have as many fields as it likes
	typeMethodsMax    = 45
	typeFieldsMax     = 24
)

// Words of rule R4: they say that somebody did not know what a thing is.
var (
	emptyPackages = regexp.MustCompile(`^(utils?|common|helpers?|misc|shared|base)$`)
	emptyWords    = map[string]bool{"Manager": true, "Managers": true, "Helper": true, "Helpers": true, "Util": true, "Utils": true, "Common": true}
)

// wellKnown are methods that fulfil an interface of the standard library; its documentation is theirs.
var wellKnown = map[string]bool{
	"Error": true, "Unwrap": true, "Is": true, "As": true, "String": true, "GoString": true, "Format": true, "LogValue": true,
	"MarshalJSON": true, "UnmarshalJSON": true, "MarshalText": true, "UnmarshalText": true, "MarshalYAML": true, "UnmarshalYAML": true,
	"Len": true, "Less": true, "Swap": true, "Push": true, "Pop": true, "Read": true, "Write": true, "Close": true, "ServeHTTP": true,
}

// folders is rule R9: the folders at the top level. One more needs a page in docs/decisions first.
var folders = map[string]bool{
	"api": true, "chains": true, "engine": true, "eventstore": true, "examples": true, "migrations": true, "nodes": true, "transports": true,
	"cmd": true, "deploy": true, "docs": true, "registry": true, "scripts": true, "test": true, "web": true,
	".ci": true,
}

// untracked are folders that builds and runs leave behind; they are not part of the project.
var untracked = map[string]bool{".git": true, ".run": true, "bin": true, "data": true}
