package chains

import "github.com/google/uuid"

// Program is a compiled version of a chain. It is immutable and may be shared.
type Program struct {
	ID      uuid.UUID
	Version int
	Name    string
}
