package registry

import (
	"slices"

	"callchain/eventstore"
)

// Tables are all tables of the registry, each behind those that its rows refer to: for copies of the whole registry, which ask nothing and
// write everything. Ids are NULL where the registry knows the nil id; JSON is kept as text, byte for byte.
func Tables() []*eventstore.Table {
	return []*eventstore.Table{
		table("install", 1, numbers("id", "partitions", "created")),
		table("sealed_keys", 1, texts("purpose"), blobs("sealed"), numbers("created")),
		table("tenants", 1, ids("id"), texts("title"), numbers("created")),
		table("users", 1, ids("id", "tenant", "customer"),
			texts("email", "login", "authority", "first_name", "last_name", "password", "additional"), flags("enabled"), numbers("tokens_since", "created")),
		table("ended_sessions", 1, texts("session"), numbers("expires")),
		table("rule_chains", 1, ids("id", "tenant"), texts("name", "folded", "file"), flags("root", "deleted"), numbers("active", "latest", "created")),
		table("rule_chain_versions", 2, ids("chain"), numbers("version", "created"), texts("name", "format", "author"), blobs("definition")),
		table("device_profiles", 1, ids("id", "tenant", "chain"),
			texts("name", "folded", "description", "transport", "data"), flags("preset"), numbers("created", "version")),
		table("devices", 1, ids("id", "tenant", "customer", "profile"),
			texts("name", "folded", "label", "additional", "data"), numbers("partition", "created", "version")),
		table("device_credentials", 1, ids("device", "id"), texts("kind", "proof", "value"), blobs("lookup"), numbers("created", "version")),
	}
}

// table has its columns by their kinds, not in the order of the migrations; the key comes first.
func table(name string, key int, columns ...[]eventstore.Column) *eventstore.Table {
	return &eventstore.Table{Name: name, Key: key, Columns: slices.Concat(columns...)}
}

func ids(names ...string) []eventstore.Column     { return columnsOf(eventstore.UUID, names) }
func texts(names ...string) []eventstore.Column   { return columnsOf(eventstore.Text, names) }
func blobs(names ...string) []eventstore.Column   { return columnsOf(eventstore.Bytes, names) }
func flags(names ...string) []eventstore.Column   { return columnsOf(eventstore.Bool, names) }
func numbers(names ...string) []eventstore.Column { return columnsOf(eventstore.Int, names) }

func columnsOf(k eventstore.Kind, names []string) []eventstore.Column {
	out := make([]eventstore.Column, len(names))
	for i, name := range names {
		out[i] = eventstore.Column{Name: name, Kind: k}
	}
	return out
}
