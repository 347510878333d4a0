package registry

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"net"

	"callchain/eventstore"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
)

const pgDiskFull, pgReadOnly = "53100", "25006"

// SQLite's primary result codes.
const (
	litePerm, liteBusy, liteNoMem, liteReadOnly, liteIO, liteFull, liteCantOpen = 3, 5, 7, 8, 10, 13, 14
	liteNoRoomBesideWAL                                                         = 4874 // SQLITE_IOERR_SHMSIZE
)

// outage marks what is the state of the database and nobody's request with *eventstore.OutageError.
func outage(err error) error {
	var pg *pgconn.PgError
	var lite *sqlite.Error
	reason := ""
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &pg):
		reason = pgReason(pg.Code)
	case errors.As(err, &lite):
		reason = liteReason(lite.Code())
	case isTorn(err):
		reason = eventstore.ReasonAway
	}
	if reason == "" {
		return err
	}
	return &eventstore.OutageError{Reason: reason, Err: err}
}

func pgReason(code string) string {
	switch {
	case code == pgDiskFull:
		return eventstore.ReasonFull
	case code == pgReadOnly:
		return eventstore.ReasonReadOnly
	case len(code) != 5:
		return ""
	}
	switch code[:2] {
	case "53":
		return eventstore.ReasonRoom
	case "58":
		return eventstore.ReasonDisk
	case "57", "08":
		return eventstore.ReasonAway
	}
	return ""
}

func liteReason(code int) string {
	switch code & 0xff {
	case liteFull:
		return eventstore.ReasonFull
	case liteReadOnly, litePerm:
		return eventstore.ReasonReadOnly
	case liteIO, liteCantOpen:
		if code == liteNoRoomBesideWAL {
			return eventstore.ReasonFull
		}
		return eventstore.ReasonDisk
	case liteBusy, liteNoMem:
		return eventstore.ReasonRoom
	}
	return ""
}

// isTorn tells of a connection that broke or could not be made.
func isTorn(err error) bool {
	var refused *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &refused) || errors.As(err, &network) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

func isAway(err error) bool {
	var o *eventstore.OutageError
	return errors.As(err, &o) && o.Reason == eventstore.ReasonAway
}

// leaveReadOnly closes the idle connections after a refusal to write: their sessions may have begun while the server took no writes, or on a
// server that is no longer the one that does.
func (r *Registry) leaveReadOnly(err error) {
	var o *eventstore.OutageError
	if r.dialect == Postgres && errors.As(err, &o) && o.Reason == eventstore.ReasonReadOnly {
		r.db.SetMaxIdleConns(0)
		r.db.SetMaxIdleConns(postgresConnections)
	}
}
