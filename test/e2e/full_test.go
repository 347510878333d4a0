package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"callchain/cmd/callchain/client"
	"callchain/eventstore/pgtest"
)

// TestDiskFull: while the disk is full, what would be written is refused with the reason, what is read is served and devices stay connected; all
// is well soon after there is room again.
func TestDiskFull(t *testing.T) {
	needsBinary(t)
	t.Run("sqlite", func(t *testing.T) {
		p := newPlace(t)
		p.data = smallDisk(t, "24m")
		c := newCrashing(t, p)
		defer c.fleet.Close()
		c.without(func() (mend func()) { return fill(t, p.data) }, "the database's disk is full")
		c.finish(c.server)
	})
	t.Run("postgres", func(t *testing.T) {
		p := newPlace(t)
		disk := smallDisk(t, "48m")
		p.store = onDisk(t, disk)
		c := newCrashing(t, p)
		defer c.fleet.Close()
		c.without(func() (mend func()) { return fill(t, disk) }, "the database's disk is full")
		c.finish(c.server)
	})
}

// TestReadOnly: the same with a database that takes no writes, as a standby or one that its operator has closed.
func TestReadOnly(t *testing.T) {
	needsBinary(t)
	p := newPlace(t)
	p.store = pgtest.Database(t)
	c := newCrashing(t, p)
	defer c.fleet.Close()
	set := func(how string) {
		pgtest.Exec(t, os.Getenv(pgtest.Variable), "ALTER DATABASE "+databaseIn(t, p.store)+how)
	}
	c.without(func() (mend func()) {
		set(" SET default_transaction_read_only = on")
		pgtest.Exec(t, p.store, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
		return func() { set(" RESET default_transaction_read_only") }
	}, "the database is read-only")
	c.finish(c.server)
}

// smallDisk mounts a file system in memory of its own.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size+",mode=0755"); err != nil {
		t.Skipf("NOT RUN: a small file system cannot be mounted here (%v): run the test as root", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// onDisk makes a database whose tables are on a disk.
func onDisk(t *testing.T, disk string) string {
	t.Helper()
	server := os.Getenv(pgtest.Variable)
	if server == "" {
		pgtest.Database(t) // skips
	}
	folder := filepath.Join(disk, "tables")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for at := disk; at != os.TempDir() && at != "/"; at = filepath.Dir(at) { // the server's user must get there
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "chown", "postgres", folder).CombinedOutput(); err != nil {
		t.Skipf("NOT RUN: the server's files cannot be put on another disk: %v\n%s", err, out)
	}
	space := "small_" + strconv.FormatInt(time.Now().UnixNano(), 36)
	pgtest.Exec(t, server, "CREATE TABLESPACE "+space+" LOCATION '"+folder+"'")
	t.Cleanup(func() { pgtest.Exec(t, server, "DROP TABLESPACE "+space) })
	database := pgtest.Database(t)
	pgtest.Exec(t, server, "ALTER DATABASE "+databaseIn(t, database)+" SET TABLESPACE "+space)
	return database
}

// databaseIn is the name of the database in a URL.
func databaseIn(t *testing.T, database string) string {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(u.Path, "/")
}

// fill writes until the disk is full.
func fill(t *testing.T, disk string) (mend func()) {
	t.Helper()
	f, err := os.Create(filepath.Join(disk, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	for size := 1 << 20; size > 0; size /= 16 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(f.Name()); err != nil {
			t.Fatal(err)
		}
	}
}

// without lets the database stop to write, looks at everything a user does, and lets it write again.
func (c *crashing) without(stop func() (mend func()), reason string) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.t.Context())
	defer cancel()
	if err := c.call(ctx, true); err != nil {
		c.t.Fatal(err)
	}
	id := c.anyCall()
	c.online()
	before := c.fleet.Stats().Reconnects
	mend := stop()
	// What has room in files that exist may still be stored.
	eventually(c.t, 40*time.Second, func() string { return c.refusedBecause(ctx, reason) })
	c.readsGoOn(ctx, id)
	c.registryRefuses(ctx, reason)
	c.readsGoOn(ctx, id)
	if reason := c.refusedBecause(ctx, reason); reason != "" {
		c.t.Errorf("later: %s", reason)
	}
	if n := c.fleet.Stats(); n.Online != crashDevices || n.Reconnects != before {
		c.t.Errorf("devices came anew %d times, %d are connected", n.Reconnects-before, n.Online)
	}
	mend()
	back := time.Now()
	eventually(c.t, wellMax, func() string { return c.well(ctx) })
	eventually(c.t, wellMax-time.Since(back), func() string {
		if _, err := c.rest.CreateDevice(ctx, client.Device{Name: "after"}, "after"); err != nil {
			return err.Error()
		}
		return ""
	})
	c.t.Logf("well again after %s", time.Since(back))
	if n := c.fleet.Stats(); n.Online != crashDevices || n.Reconnects != before {
		c.t.Errorf("afterwards devices came anew %d times, %d are connected", n.Reconnects-before, n.Online)
	}
}

func (c *crashing) anyCall() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id := range c.returned {
		return id
	}
	c.t.Fatal("no call was returned")
	return ""
}

// refusedBecause tells what is not yet as it must be: a call gets 503, Retry-After and the reason, and so does /readyz.
func (c *crashing) refusedBecause(ctx context.Context, reason string) string {
	for _, persistent := range []bool{true, false} {
		err := c.call(ctx, persistent)
		if client.StatusOf(err) != http.StatusServiceUnavailable || client.RetryAfterOf(err) <= 0 || !strings.Contains(err.Error(), reason) {
			if err != nil && client.StatusOf(err) != http.StatusServiceUnavailable {
				c.t.Errorf("a call gets %v", err)
			}
			return fmt.Sprintf("a call (persistent %v) gets %v, to be tried again after %s", persistent, err, client.RetryAfterOf(err))
		}
	}
	answer, err := http.Get("http://" + c.place.http + "/readyz")
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), reason) {
		return fmt.Sprintf("/readyz: %s, %s, %v", answer.Status, body, err)
	}
	return ""
}

// readsGoOn asks for what is stored, and logs in.
func (c *crashing) readsGoOn(ctx context.Context, call string) {
	c.t.Helper()
	for _, path := range []string{"/api/rpc/persistent/" + call, "/api/rpc/calls/" + call + "/events", "/api/device/" + c.devices[0], "/api/auth/user"} {
		var into json.RawMessage
		if err := c.rest.Do(ctx, http.MethodGet, path, nil, &into); err != nil {
			c.t.Errorf("GET %s: %v", path, err)
		}
	}
	c.place.login(c.t)
}

// registryRefuses makes devices until one is refused, which must be said honestly.
func (c *crashing) registryRefuses(ctx context.Context, reason string) {
	c.t.Helper()
	for i := range 500 {
		_, err := c.rest.CreateDevice(ctx, client.Device{Name: fmt.Sprint("full-", i), Label: strings.Repeat("l", 200)}, fmt.Sprint("full-", i))
		if err == nil {
			continue
		}
		if client.StatusOf(err) != http.StatusServiceUnavailable || client.RetryAfterOf(err) <= 0 || !strings.Contains(err.Error(), reason) {
			c.t.Errorf("POST of a device gets %v, to be tried again after %s", err, client.RetryAfterOf(err))
		}
		return
	}
	c.t.Error("devices are made although there is no room")
}
