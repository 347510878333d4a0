package registry

import "callchain/eventstore"

// Tables are all tables of the registry, each behind those that its rows refer to: for copies of the whole registry, which ask nothing and
// write everything. Ids are NULL where the registry knows the nil id; JSON is kept as text, byte for byte.
func Tables() []*eventstore.Table {
	const (
		number, text, blob, id, flag = eventstore.Int, eventstore.Text, eventstore.Bytes, eventstore.UUID, eventstore.Bool
	)
	type columns = []eventstore.Column
	return []*eventstore.Table{
		{Name: "install", Key: 1, Columns: columns{{Name: "id", Kind: number}, {Name: "partitions", Kind: number}, {Name: "created", Kind: number}}},
		{Name: "sealed_keys", Key: 1, Columns: columns{{Name: "purpose", Kind: text}, {Name: "sealed", Kind: blob}, {Name: "created", Kind: number}}},
		{Name: "tenants", Key: 1, Columns: columns{{Name: "id", Kind: id}, {Name: "title", Kind: text}, {Name: "created", Kind: number}}},
		{Name: "users", Key: 1, Columns: columns{
			{Name: "id", Kind: id}, {Name: "tenant", Kind: id}, {Name: "customer", Kind: id}, {Name: "email", Kind: text}, {Name: "login", Kind: text},
			{Name: "authority", Kind: text}, {Name: "first_name", Kind: text}, {Name: "last_name", Kind: text}, {Name: "enabled", Kind: flag},
			{Name: "password", Kind: text}, {Name: "tokens_since", Kind: number}, {Name: "additional", Kind: text}, {Name: "created", Kind: number},
		}},
		{Name: "ended_sessions", Key: 1, Columns: columns{{Name: "session", Kind: text}, {Name: "expires", Kind: number}}},
		{Name: "rule_chains", Key: 1, Columns: columns{
			{Name: "id", Kind: id}, {Name: "tenant", Kind: id}, {Name: "name", Kind: text}, {Name: "folded", Kind: text}, {Name: "root", Kind: flag},
			{Name: "active", Kind: number}, {Name: "latest", Kind: number}, {Name: "file", Kind: text}, {Name: "deleted", Kind: flag},
			{Name: "created", Kind: number},
		}},
		{Name: "rule_chain_versions", Key: 2, Columns: columns{
			{Name: "chain", Kind: id}, {Name: "version", Kind: number}, {Name: "name", Kind: text}, {Name: "definition", Kind: blob},
			{Name: "format", Kind: text}, {Name: "author", Kind: text}, {Name: "created", Kind: number},
		}},
		{Name: "device_profiles", Key: 1, Columns: columns{
			{Name: "id", Kind: id}, {Name: "tenant", Kind: id}, {Name: "name", Kind: text}, {Name: "folded", Kind: text}, {Name: "description", Kind: text},
			{Name: "transport", Kind: text}, {Name: "chain", Kind: id}, {Name: "preset", Kind: flag}, {Name: "data", Kind: text},
			{Name: "created", Kind: number}, {Name: "version", Kind: number},
		}},
		{Name: "devices", Key: 1, Columns: columns{
			{Name: "id", Kind: id}, {Name: "tenant", Kind: id}, {Name: "customer", Kind: id}, {Name: "name", Kind: text}, {Name: "folded", Kind: text},
			{Name: "label", Kind: text}, {Name: "profile", Kind: id}, {Name: "partition", Kind: number}, {Name: "additional", Kind: text},
			{Name: "data", Kind: text}, {Name: "created", Kind: number}, {Name: "version", Kind: number},
		}},
		{Name: "device_credentials", Key: 1, Columns: columns{
			{Name: "device", Kind: id}, {Name: "id", Kind: id}, {Name: "kind", Kind: text}, {Name: "lookup", Kind: blob}, {Name: "proof", Kind: text},
			{Name: "value", Kind: text}, {Name: "created", Kind: number}, {Name: "version", Kind: number},
		}},
	}
}
