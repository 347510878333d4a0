package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// position is how far a partition was read.
type position struct {
	Offset int64 `json:"offset"` // of the message to read next
	Seq    int64 `json:"seq"`    // of the last event
}

// positions are kept by number of the partition. This program keeps them in a file; one that writes what it learns into a database keeps
// them there, in the same transaction, and so makes every event count exactly once.
type positions map[int32]position

func loadPositions(file string) (positions, error) {
	out := positions{}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil // the beginning
	}
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the positions in %s: %w", file, err)
	}
	return out, nil
}

// save replaces the file at once, so that a crash leaves the old positions or the new ones.
func (p positions) save(file string) error {
	text, err := json.Marshal(p)
	if err == nil {
		err = os.WriteFile(file+".new", text, 0o600)
	}
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		return fmt.Errorf("keeping the positions in %s: %w", file, err)
	}
	return nil
}
