package postgres_test

import (
	"context"
	"testing"

	"callchain/eventstore/pgtest"
	"callchain/eventstore/postgres"
)

// TestOneAfterTheOtherSetsUp: who comes second is told that it waits, and goes on when the first has released its turn or its session has ended.
func TestOneAfterTheOtherSetsUp(t *testing.T) {
	database := pgtest.Database(t)
	for name, end := range map[string]func(release func() error){
		"released": func(release func() error) {
			if err := release(); err != nil {
				t.Error(err)
			}
		},
		"ended": func(func() error) { pgtest.Exec(t, database, killHolders) },
	} {
		t.Run(name, func(t *testing.T) {
			first, err := postgres.Turn(t.Context(), database, func() { t.Error("the first waits") })
			if err != nil {
				t.Fatal(err)
			}
			waiting, taken := make(chan struct{}), make(chan error, 1)
			go func() {
				release, err := postgres.Turn(t.Context(), database, func() { close(waiting) })
				if err == nil {
					err = release()
				}
				taken <- err
			}()
			<-waiting
			select {
			case err := <-taken:
				t.Fatalf("the second has its turn beside the first: %v", err)
			default:
			}
			end(first)
			if err := <-taken; err != nil {
				t.Error(err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := postgres.Turn(ctx, database, func() {}); err == nil {
		t.Error("a start that was given up takes the turn")
	}
}
