// Package pgtest gives a test a PostgreSQL database of its own.
package pgtest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Variable names the environment variable with the URL of a server on which the tests may make databases.
const Variable = "CALLCHAIN_TEST_POSTGRES"

// Database makes an empty database and gives its URL; the database is dropped when the test ends. Without a server the test is skipped.
func Database(t testing.TB) string {
	t.Helper()
	server := os.Getenv(Variable)
	if server == "" {
		t.Skipf("%s is not set: give it the URL of a PostgreSQL on which databases may be made, for example the one that scripts/pg-up.sh prints", Variable)
	}
	name := "callchain_test_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	Exec(t, server, "CREATE DATABASE "+name+" TEMPLATE template0")
	t.Cleanup(func() { Exec(t, server, "DROP DATABASE "+name+" WITH (FORCE)") })
	u, err := url.Parse(server)
	if err != nil {
		t.Fatalf("%s is no URL: %v", Variable, err)
	}
	u.Path = "/" + name
	return u.String()
}

// Exec runs a statement on a connection of its own; a failure ends the test.
func Exec(t testing.TB, url, sql string) {
	t.Helper()
	if err := TryExec(t, url, sql); err != nil {
		t.Fatal(err)
	}
}

// TryExec is Exec that gives the error back.
func TryExec(t testing.TB, url, sql string) (err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second) // also in a cleanup, where the test's context has ended
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connecting to the test server: %w", err)
	}
	if _, err = conn.Exec(ctx, sql); err != nil {
		err = fmt.Errorf("running %s: %w", sql, err)
	}
	if closing := conn.Close(ctx); err == nil {
		err = closing
	}
	return err
}
