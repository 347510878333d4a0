package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"callchain/engine"

	"golang.org/x/net/netutil"
)

// Serve answers requests on a listener until ctx ends; then it takes no new connection, lets running requests end for at most
// grace, and cuts off the rest. It returns nil when it was ended, else the listener's error.
func Serve(ctx context.Context, l net.Listener, h http.Handler, c Config, grace time.Duration, log *slog.Logger) error {
	base, end := context.WithCancelCause(context.Background())
	defer end(nil)
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: c.ReadHeader, IdleTimeout: c.Idle, MaxHeaderBytes: c.HeaderBytes,
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelDebug), // mostly clients that break off
		BaseContext: func(net.Listener) context.Context { return base },
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(netutil.LimitListener(l, c.Connections)) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serving HTTP on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	return shutDown(server, func() { end(engine.ErrStopping) }, grace)
}

// shutDown gives waiting callers time to get their answers. What still runs at half of the time, streams above all, is told to
// end: callers then get a 503 with the id of their call.
func shutDown(server *http.Server, end func(), grace time.Duration) error {
	half := time.AfterFunc(grace/2, end)
	defer half.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	err := server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	if err != nil {
		return fmt.Errorf("ending the HTTP server: %w", err)
	}
	return nil
}
