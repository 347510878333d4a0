package registry

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// The bounds of fields, in bytes unless said otherwise. ThingsBoard's columns take 255 characters.
const (
	nameCharsMax   = 255
	tokenBytesMax  = 255
	textBytesMax   = 4096
	jsonBytesMax   = 256 << 10
	chainBytesMax  = 256 << 10
	emailBytesMax  = 255
	pageSizeMax    = 1000
	passwordLenMin = 6
	passwordLenMax = 255
)

func checkName(field, s string) error {
	switch {
	case s == "" || strings.TrimSpace(s) == "":
		return fmt.Errorf("%w: %s must not be empty", ErrInvalid, field)
	case utf8.RuneCountInString(s) > nameCharsMax:
		return fmt.Errorf("%w: %s has more than %d characters", ErrInvalid, field, nameCharsMax)
	}
	if strings.ContainsAny(s, "\r\n\t") {
		return fmt.Errorf("%w: %s contains a line break or tab", ErrInvalid, field)
	}
	return checkText(field, s)
}

// checkText refuses what PostgreSQL cannot store (NUL, bytes that are not UTF-8) and control characters that garble logs.
func checkText(field, s string) error {
	if len(s) > textBytesMax {
		return fmt.Errorf("%w: %s has more than %d bytes", ErrInvalid, field, textBytesMax)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%w: %s is not UTF-8", ErrInvalid, field)
	}
	for _, c := range s {
		if unicode.IsControl(c) && c != '\n' && c != '\t' && c != '\r' {
			return fmt.Errorf("%w: %s contains the control character %U", ErrInvalid, field, c)
		}
	}
	return nil
}

func checkJSON(field string, j json.RawMessage) error {
	switch {
	case len(j) == 0:
		return nil
	case len(j) > jsonBytesMax:
		return fmt.Errorf("%w: %s has more than %d bytes", ErrInvalid, field, jsonBytesMax)
	case !json.Valid(j) || !utf8.Valid(j):
		return fmt.Errorf("%w: %s is not JSON", ErrInvalid, field)
	}
	return nil
}

func checkToken(field, s string) error {
	if s == "" || len(s) > tokenBytesMax {
		return fmt.Errorf("%w: %s must have 1 to %d bytes, has %d", ErrInvalid, field, tokenBytesMax, len(s))
	}
	if strings.TrimSpace(s) != s {
		return fmt.Errorf("%w: %s must not begin or end with blanks", ErrInvalid, field)
	}
	return checkText(field, s)
}

const alphanumerics = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// randomText gives n alphanumerics; n = 20 are 119 bits.
func randomText(n int) string {
	out := make([]byte, 0, n)
	for buf := make([]byte, 2*n); len(out) < n; {
		rand.Read(buf) // it never fails: crypto/rand ends the program instead
		for _, b := range buf {
			if int(b) < 256/len(alphanumerics)*len(alphanumerics) && len(out) < n { // no character is likelier than another
				out = append(out, alphanumerics[int(b)%len(alphanumerics)])
			}
		}
	}
	return string(out)
}

// newID makes a version 7 id, so that rows that were made together lie together in the index.
func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) }

// Partition is the partition of a device, also of one that is gone.
func (r *Registry) Partition(device uuid.UUID) int32 { return partitionOf(device, r.opt.Partitions) }

// partitionOf spreads devices by the last 8 bytes of their id, which are random; the multiplication mixes ids that were
// chosen by hand.
func partitionOf(id uuid.UUID, partitions int) int32 {
	h := binary.BigEndian.Uint64(id[8:]) * 0x9E3779B97F4A7C15
	return int32((h >> 32) * uint64(partitions) >> 32)
}
