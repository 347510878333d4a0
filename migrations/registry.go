package migrations

import (
	"embed"
	"io/fs"
)

//go:embed registry
var registry embed.FS

// Registry is the set of the registry.
func Registry() Set {
	files, err := fs.Sub(registry, "registry")
	if err != nil {
		panic("migrations: " + err.Error()) // the name is a constant that the compiler embedded
	}
	return Set{Files: files, Table: RegistryTable}
}
