// Package password stores passwords as argon2id hashes (RFC 9106) and checks them without telling by its duration whether the
// user exists. It knows no users and no database.
package password

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// ErrBusy: more checks are waiting than the hasher admits. Try again in a few seconds.
var ErrBusy = errors.New("too many passwords are being checked")

// ErrFormat: the stored text is not a hash of this package.
var ErrFormat = errors.New("not an argon2id hash")

// Params are the costs of one hash.
type Params struct {
	MemoryKiB uint32
	Passes    uint32
	Lanes     uint8
}

// Default is the second of the equal choices that OWASP's password storage sheet names for argon2id: 19 MiB, two passes, one
// lane; about 30 ms on a small machine.
var Default = Params{MemoryKiB: 19 << 10, Passes: 2, Lanes: 1}

// The bounds of what a stored hash may ask for, so that a row cannot make a check eat the machine.
const (
	memoryKiBMax = 1 << 20
	passesMax    = 64
	saltBytes    = 16
	hashBytes    = 32
	atOnceMax    = 2 // checks at a time: memory is bounded by this times Params.MemoryKiB
	waitingMax   = 64
)

// Hasher makes and checks hashes, a bounded number at a time.
type Hasher struct {
	params  Params
	running chan struct{}
	waiting chan struct{}
	decoy   string // checked for users that do not exist
}

// New makes a hasher. Memory in use stays below 2 × MemoryKiB plus what the collector has not yet freed.
func New(p Params) *Hasher {
	h := &Hasher{params: p, running: make(chan struct{}, atOnceMax), waiting: make(chan struct{}, atOnceMax+waitingMax)}
	h.decoy = h.hash(rand.Text())
	return h
}

// Hash gives the stored form: $argon2id$v=19$m=…,t=…,p=…$salt$hash. It fails with ErrBusy or with the context's error.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	leave, err := h.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	return h.hash(password), nil
}

// Check tells whether the password belongs to the stored form. An empty stored form stands for a user that does not exist: it
// takes as long as any other and is always false. It fails with ErrFormat, ErrBusy or the context's error.
func (h *Hasher) Check(ctx context.Context, stored, password string) (bool, error) {
	known := stored != ""
	if !known {
		stored = h.decoy
	}
	p, salt, want, err := parse(stored)
	if err != nil {
		return false, err
	}
	leave, err := h.enter(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	got := argon2.IDKey([]byte(password), salt, p.Passes, p.MemoryKiB, p.Lanes, uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1 && known, nil
}

func (h *Hasher) enter(ctx context.Context) (leave func(), err error) {
	select {
	case h.waiting <- struct{}{}:
	default:
		return nil, ErrBusy
	}
	select {
	case h.running <- struct{}{}:
		return func() { <-h.running; <-h.waiting }, nil
	case <-ctx.Done():
		<-h.waiting
		return nil, fmt.Errorf("waiting to check a password: %w", ctx.Err())
	}
}

func (h *Hasher) hash(password string) string {
	salt := make([]byte, saltBytes)
	rand.Read(salt) // it never fails: crypto/rand ends the program instead
	sum := argon2.IDKey([]byte(password), salt, h.params.Passes, h.params.MemoryKiB, h.params.Lanes, hashBytes)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version,
		h.params.MemoryKiB, h.params.Passes, h.params.Lanes, b64.EncodeToString(salt), b64.EncodeToString(sum))
}

func parse(stored string) (p Params, salt, sum []byte, err error) {
	parts := strings.Split(stored, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return p, nil, nil, ErrFormat
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.MemoryKiB, &p.Passes, &p.Lanes); err != nil {
		return p, nil, nil, fmt.Errorf("%w: costs %q", ErrFormat, parts[3])
	}
	if p.MemoryKiB < 8 || p.MemoryKiB > memoryKiBMax || p.Passes < 1 || p.Passes > passesMax || p.Lanes < 1 {
		return p, nil, nil, fmt.Errorf("%w: costs %q out of bounds", ErrFormat, parts[3])
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(parts[4])
	sum, err2 := base64.RawStdEncoding.DecodeString(parts[5])
	if err := errors.Join(err1, err2); err != nil || len(salt) == 0 || len(sum) < 16 || len(sum) > 64 {
		return p, nil, nil, fmt.Errorf("%w: salt or hash", ErrFormat)
	}
	return p, salt, sum, nil
}
