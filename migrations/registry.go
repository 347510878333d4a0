package migrations

import (
	"embed"
	"io/fs"
)

//go:embed registry outbox indexes
var more embed.FS

// Registry is the set of the registry.
func Registry() Set { return Set{Files: folder("registry"), Table: RegistryTable} }

// Outbox is the set of the registry's outbox. It is one of its own so that programs that know no outbox do not refuse the registry as newer: they
// neither read it nor write to it.
func Outbox() Set { return Set{Files: folder("outbox"), Table: OutboxTable} }

// Indexes is the set of indexes of the event store that came later. It is one of its own so that programs before them do not refuse the store as newer: the database
// keeps the indexes up to date for them, too.
func Indexes() Set { return Set{Files: folder("indexes"), Table: IndexesTable} }

func folder(name string) fs.FS {
	files, err := fs.Sub(more, name)
	if err != nil {
		panic("migrations: " + err.Error()) // the names are constants that the compiler embedded
	}
	return files
}
