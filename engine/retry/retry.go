// Package retry retries with exponential backoff.
package retry

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Waits are the waits between tries: the first, and the longest.
type Waits struct{ First, Longest time.Duration }

// Until tries until it succeeds, or ctx ends, and reports whether it succeeded. failed, if it is not nil, gets each error and the wait that follows.
func Until(ctx context.Context, w Waits, try func(context.Context) error, failed func(err error, wait time.Duration)) bool {
	waits := &backoff.ExponentialBackOff{InitialInterval: w.First, Multiplier: 2, MaxInterval: w.Longest}
	_, err := backoff.Retry(ctx, func() (struct{}, error) { return struct{}{}, try(ctx) },
		backoff.WithBackOff(waits), backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, wait time.Duration) {
			if failed != nil && ctx.Err() == nil {
				failed(err, wait)
			}
		}))
	return err == nil
}
