// Package streamkey packs the names of streams for an index: a stream such as rpc/<uuid>/<uuid> takes 33 bytes instead of 77. Any
// name can be packed, and what was packed is unpacked byte for byte.
package streamkey

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// A packed key begins with the byte of its form, goes on with the form's ids of 16 bytes each and ends with the rest of the name.
type form struct {
	prefix string
	ids    int
}

// forms must only grow: their places are stored in every row. Place 0 is the plain text.
var forms = [...]form{{}, {"rpc/", 2}, {"device/", 1}, {"run/", 1}}

const idText = 36 // characters of a UUID

// Pack gives the key of a stream. Names whose ids are not in the canonical lower-case form are kept as text.
func Pack(stream string) []byte {
	for i := 1; i < len(forms); i++ {
		if rest, ok := strings.CutPrefix(stream, forms[i].prefix); ok {
			if key, ok := packIDs(byte(i), forms[i].ids, rest); ok {
				return key
			}
			break
		}
	}
	return append([]byte{0}, stream...)
}

func packIDs(place byte, ids int, rest string) ([]byte, bool) {
	key := make([]byte, 1, 1+16*ids+len(rest))
	key[0] = place
	for i := range ids {
		if i > 0 {
			if rest == "" || rest[0] != '/' {
				return nil, false
			}
			rest = rest[1:]
		}
		if len(rest) < idText {
			return nil, false
		}
		var ok bool
		if key, ok = appendID(key, rest[:idText]); !ok {
			return nil, false
		}
		rest = rest[idText:]
	}
	return append(key, rest...), true
}

// groups are the places in a UUID's text where its groups of digits end.
var groups = [...]int{8, 13, 18, 23, idText}

func appendID(key []byte, text string) ([]byte, bool) {
	at := 0
	for _, end := range groups {
		for ; at < end; at += 2 {
			hi, lo := nibble(text[at]), nibble(text[at+1])
			if hi > 15 || lo > 15 {
				return nil, false
			}
			key = append(key, hi<<4|lo)
		}
		if end < idText && text[end] != '-' {
			return nil, false
		}
		at++
	}
	return key, true
}

// nibble is 255 for anything but a lower-case hexadecimal digit: an upper-case one would not come back as it was.
func nibble(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}

var errMalformed = errors.New("the stream key is malformed: the database was changed from outside")

// Unpack gives the stream's name back.
func Unpack(key []byte) (string, error) {
	if len(key) == 0 || int(key[0]) >= len(forms) {
		return "", fmt.Errorf("unpacking key %s: %w", hex.EncodeToString(key), errMalformed)
	}
	f, rest := forms[key[0]], key[1:]
	if len(rest) < 16*f.ids {
		return "", fmt.Errorf("unpacking key %s: %w", hex.EncodeToString(key), errMalformed)
	}
	out := make([]byte, 0, len(f.prefix)+(idText+1)*f.ids+len(rest)-16*f.ids)
	out = append(out, f.prefix...)
	for i := range f.ids {
		if i > 0 {
			out = append(out, '/')
		}
		var text [idText]byte
		encodeID(&text, uuid.UUID(rest[:16]))
		out = append(out, text[:]...)
		rest = rest[16:]
	}
	return string(append(out, rest...)), nil
}

func encodeID(text *[idText]byte, id uuid.UUID) {
	hex.Encode(text[:8], id[:4])
	hex.Encode(text[9:13], id[4:6])
	hex.Encode(text[14:18], id[6:8])
	hex.Encode(text[19:23], id[8:10])
	hex.Encode(text[24:], id[10:])
	for _, end := range groups[:len(groups)-1] {
		text[end] = '-'
	}
}
