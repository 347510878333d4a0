package registry

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Purpose names a key of the installation.
type Purpose string

// The keys that every installation has.
const (
	SigningKey    Purpose = "signing"    // 64 bytes, HS512 signatures of tokens
	EncryptionKey Purpose = "encryption" // 32 bytes, AES-256 for personal fields
)

// ErrWrongKey: auth.key is not the one that sealed the keys in the database.
var ErrWrongKey = errors.New("auth.key does not open the keys of this database: restore the auth.key that was made with it; all nodes of a cluster have the same")

// keyBytes is the length of auth.key: AES-256.
const keyBytes = 32

func lengthOf(p Purpose) (int, error) {
	switch p {
	case SigningKey:
		return 64, nil
	case EncryptionKey:
		return 32, nil
	}
	return 0, fmt.Errorf("%w: key purpose %q", ErrInvalid, p)
}

// Key opens a key of the installation, and makes it at the first use. Two nodes that do so at once get the same one.
// It fails with ErrWrongKey.
func (r *Registry) Key(ctx context.Context, p Purpose) ([]byte, error) {
	n, err := lengthOf(p)
	if err != nil {
		return nil, err
	}
	sealed, err := r.sealedKey(ctx, p)
	if errors.Is(err, ErrNotFound) {
		if err := r.makeKey(ctx, p, n); err != nil {
			return nil, fmt.Errorf("making the %s key: %w", p, err)
		}
		sealed, err = r.sealedKey(ctx, p)
	}
	if err != nil {
		return nil, err
	}
	return r.unseal(p, sealed)
}

func (r *Registry) sealedKey(ctx context.Context, p Purpose) ([]byte, error) {
	var sealed []byte
	err := r.query(ctx).row(`SELECT sealed FROM sealed_keys WHERE purpose = $1`, string(p)).Scan(&sealed)
	return sealed, missing(err, "key", p)
}

func (r *Registry) makeKey(ctx context.Context, p Purpose, n int) error {
	key := make([]byte, n)
	rand.Read(key) // it never fails: crypto/rand ends the program instead
	aead, err := r.aead()
	if err != nil {
		return err
	}
	sealed := aead.Seal(nil, nil, key, []byte(p))
	return r.write(ctx, func(tx *tx) error {
		_, err := tx.exec(`INSERT INTO sealed_keys (purpose, sealed, created) VALUES ($1, $2, $3) ON CONFLICT (purpose) DO NOTHING`,
			string(p), sealed, r.now())
		return err
	})
}

// unseal binds a key to its purpose: a sealed key that was moved to another row does not open.
func (r *Registry) unseal(p Purpose, sealed []byte) ([]byte, error) {
	aead, err := r.aead()
	if err != nil {
		return nil, err
	}
	key, err := aead.Open(nil, nil, sealed, []byte(p))
	if err != nil {
		return nil, fmt.Errorf("opening the %s key: %w", p, ErrWrongKey)
	}
	return key, nil
}

func (r *Registry) aead() (cipher.AEAD, error) {
	block, err := aes.NewCipher(r.opt.Key[:])
	if err != nil {
		return nil, fmt.Errorf("using auth.key: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// checkKey opens every sealed key, so that a wrong auth.key shows at start and not at the first login.
func (r *Registry) checkKey(ctx context.Context) error {
	return r.query(ctx).each(`SELECT purpose, sealed FROM sealed_keys`, nil, func(row row) error {
		var purpose string
		var sealed []byte
		if err := row.Scan(&purpose, &sealed); err != nil {
			return err
		}
		_, err := r.unseal(Purpose(purpose), sealed)
		return err
	})
}

// ParseKey reads auth.key as text: 64 hex digits, or the base64 of 32 bytes.
func ParseKey(text string) (key [keyBytes]byte, err error) {
	text = strings.TrimSpace(text)
	b, err := hex.DecodeString(text)
	if err != nil {
		b, err = base64.StdEncoding.DecodeString(text)
	}
	if err != nil || len(b) != keyBytes {
		return key, fmt.Errorf("%w: auth.key must be 64 hex digits or the base64 of 32 bytes; make one with: openssl rand -hex 32", ErrInvalid)
	}
	return [keyBytes]byte(b), nil
}

// KeyFile reads auth.key from a file, or makes the file (mode 0600) with a random key. It refuses a file that others may read.
func KeyFile(path string) (key [keyBytes]byte, err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKeyFile(path)
	}
	if err != nil {
		return key, fmt.Errorf("reading the key file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return key, fmt.Errorf("%w: key file %s can be read by others (mode %#o): chmod 600 %s", ErrInvalid, path, info.Mode().Perm(), path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return key, fmt.Errorf("reading the key file: %w", err)
	}
	if key, err = ParseKey(string(text)); err != nil {
		return key, fmt.Errorf("reading key file %s: %w", path, err)
	}
	return key, nil
}

// makeKeyFile writes a file beside and links it into place, so that a crash leaves no half a key and of two processes that start at once
// both use the key of the first.
func makeKeyFile(path string) (key [keyBytes]byte, err error) {
	rand.Read(key[:]) // it never fails: crypto/rand ends the program instead
	beside := path + "." + rand.Text()
	if err := writeSynced(beside, hex.EncodeToString(key[:])+"\n"); err != nil {
		return key, fmt.Errorf("making the key file: %w", err)
	}
	err = os.Link(beside, path)
	if removed := os.Remove(beside); removed != nil {
		return key, fmt.Errorf("making the key file: %w", removed)
	}
	if errors.Is(err, fs.ErrExist) {
		return KeyFile(path)
	}
	if err != nil {
		return key, fmt.Errorf("making the key file: %w", err)
	}
	return key, nil
}

func writeSynced(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}
