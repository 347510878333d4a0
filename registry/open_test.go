package registry_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"callchain/registry"
)

func TestKeysAreSealed(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		signing, err := f.Key(t.Context(), registry.SigningKey)
		must(t, err)
		encryption, err := f.Key(t.Context(), registry.EncryptionKey)
		must(t, err)
		if len(signing) != 64 || len(encryption) != 32 || bytes.HasPrefix(signing, encryption) {
			t.Errorf("keys have %d and %d bytes", len(signing), len(encryption))
		}
		var sealed []byte
		must(t, f.db.QueryRow(`SELECT sealed FROM sealed_keys WHERE purpose = 'signing'`).Scan(&sealed))
		if bytes.Contains(sealed, signing[:16]) {
			t.Error("the key lies open in the database")
		}
		again, err := f.reopen(options())
		must(t, err)
		same, err := again.Key(t.Context(), registry.SigningKey)
		must(t, err)
		if !bytes.Equal(same, signing) {
			t.Error("another start has another key")
		}
		_, err = f.Key(t.Context(), "other")
		wantErr(t, err, registry.ErrInvalid, "other")

		wrong := options()
		wrong.Key[0]++
		_, err = f.reopen(wrong)
		wantErr(t, err, registry.ErrWrongKey, "restore")

		_, err = f.db.Exec(`UPDATE sealed_keys SET purpose = 'signing-old' WHERE purpose = 'signing'`)
		must(t, err)
		_, err = f.reopen(options())
		wantErr(t, err, registry.ErrWrongKey, "signing-old")
	})
}

func TestPartitionsAreFixedAtInstall(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		o := options()
		o.Partitions = 32
		_, err := f.reopen(o)
		wantErr(t, err, registry.ErrPartitions, "set partitions to 64")
	})
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "auth.key")
	made, err := registry.KeyFile(path)
	must(t, err)
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v", info.Mode())
	}
	read, err := registry.KeyFile(path)
	must(t, err)
	if read != made || made == [32]byte{} {
		t.Error("the key read is not the key made")
	}
	must(t, os.Chmod(path, 0o644))
	_, err = registry.KeyFile(path)
	wantErr(t, err, registry.ErrInvalid, "chmod 600")
	must(t, os.Chmod(path, 0o600))
	must(t, os.WriteFile(path, []byte("short"), 0o600))
	_, err = registry.KeyFile(path)
	wantErr(t, err, registry.ErrInvalid, path)
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("%d files lie in the folder", len(entries))
	}
	if _, err := registry.ParseKey(strings.Repeat("ab", 32)); err != nil {
		t.Error(err)
	}
}

func TestDatabaseFileIsPrivate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "odd name?#%41.db")
	_, db, err := registry.OpenSQLite(t.Context(), path, options())
	must(t, err)
	defer db.Close()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		info, err := e.Info()
		must(t, err)
		if info.Mode().Perm() != 0o600 || !strings.HasPrefix(e.Name(), "odd name?#%41.db") {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
	}
	var mode string
	var synchronous, keys int
	must(t, db.QueryRow(`PRAGMA journal_mode`).Scan(&mode))
	must(t, db.QueryRow(`PRAGMA synchronous`).Scan(&synchronous))
	must(t, db.QueryRow(`PRAGMA foreign_keys`).Scan(&keys))
	if mode != "wal" || synchronous != 2 || keys != 1 {
		t.Errorf("journal_mode %s, synchronous %d, foreign_keys %d", mode, synchronous, keys)
	}
}
