package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// TurnWait is the longest that a process waits for its turn.
const TurnWait = 2 * time.Minute

// ErrTurn: another process has been setting the database up for too long.
var ErrTurn = errors.New("another node has been setting the database up for " + TurnWait.String() + ": look at its log, or stop it")

const (
	turnClass     = lockClass + 2
	lockTimeout   = "55P03" // SQLSTATE lock_not_available
	connectWithin = 30 * time.Second
)

// Turn waits until no other process sets the database up, and keeps others waiting until release. Processes that start together on an empty
// database would else each make what belongs to all. waiting is called once if there is somebody to wait for. The turn ends with the process,
// too. Errors: ErrTurn, or what kept it from connecting.
func Turn(ctx context.Context, url string, waiting func()) (release func() error, err error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("reading the PostgreSQL URL: %w", err)
	}
	for _, name := range []string{"application_name", "tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count"} {
		if _, set := config.RuntimeParams[name]; !set {
			config.RuntimeParams[name] = runtimeParams[name]
		}
	}
	config.RuntimeParams["lock_timeout"] = fmt.Sprint(TurnWait.Milliseconds())
	config.RuntimeParams["statement_timeout"] = "0"
	connecting, connected := context.WithTimeout(ctx, connectWithin)
	conn, err := pgx.ConnectConfig(connecting, config)
	connected()
	if err != nil {
		return nil, fmt.Errorf("waiting for the turn to set the database up: %w", err)
	}
	if err := takeTurn(ctx, conn, waiting); err != nil {
		return nil, errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
	}
	return func() error { return giveTurn(context.WithoutCancel(ctx), conn) }, nil
}

// giveTurn ends the turn. The lock would end with its session, but the server takes a moment to notice that.
func giveTurn(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	_, _ = conn.Exec(ctx, "SELECT pg_advisory_unlock($1, hashtext(current_schema()))", turnClass) // if it fails, the session has ended, and the turn with it
	return conn.Close(ctx)
}

func takeTurn(ctx context.Context, conn *pgx.Conn, waiting func()) error {
	var got bool
	err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1, hashtext(current_schema()))", turnClass).Scan(&got)
	if err == nil && !got {
		waiting()
		_, err = conn.Exec(ctx, "SELECT pg_advisory_lock($1, hashtext(current_schema()))", turnClass)
	}
	switch {
	case err == nil:
		return nil
	case hasCode(err, lockTimeout):
		return ErrTurn
	}
	return fmt.Errorf("waiting for the turn to set the database up: %w", err)
}
