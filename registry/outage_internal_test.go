package registry

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"callchain/eventstore"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestOutagesAreToldFromRefusals(t *testing.T) {
	for _, c := range []struct {
		err    error
		reason string // empty: no outage
	}{
		{&pgconn.PgError{Code: "53100"}, eventstore.ReasonFull},
		{&pgconn.PgError{Code: "53300"}, eventstore.ReasonRoom},
		{&pgconn.PgError{Code: "25006"}, eventstore.ReasonReadOnly},
		{&pgconn.PgError{Code: "57P01"}, eventstore.ReasonAway},
		{&pgconn.PgError{Code: "58030"}, eventstore.ReasonDisk},
		{&pgconn.PgError{Code: "22001"}, ""},
		{&pgconn.PgError{Code: "23514"}, ""},
		{&net.OpError{Op: "read", Err: errors.New("connection reset by peer")}, eventstore.ReasonAway},
		{driver.ErrBadConn, eventstore.ReasonAway},
		{io.ErrUnexpectedEOF, eventstore.ReasonAway},
		{context.DeadlineExceeded, ""},
		{ErrNotFound, ""},
	} {
		err := outage(fmt.Errorf("writing: %w", c.err))
		var o *eventstore.OutageError
		if got := errors.As(err, &o); got != (c.reason != "") || got && o.Reason != c.reason || !errors.Is(err, c.err) {
			t.Errorf("%v is told as %v, want %q", c.err, err, c.reason)
		}
	}
	for code, want := range map[int]string{
		13: eventstore.ReasonFull, 4874: eventstore.ReasonFull, 8: eventstore.ReasonReadOnly, 1032: eventstore.ReasonReadOnly,
		778: eventstore.ReasonDisk, 14: eventstore.ReasonDisk, 5: eventstore.ReasonRoom, 2067: "", 19: "", 18: "",
	} {
		if got := liteReason(code); got != want {
			t.Errorf("SQLite's %d is %q, want %q", code, got, want)
		}
	}
}
