package serve

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestPartsTellWhyTheyEnd: what breaks by itself ends the server; what fails as it is told to end is in the result of that.
func TestPartsTellWhyTheyEnd(t *testing.T) {
	s := &Server{failed: make(chan error, 4)}
	var asked, broken, cancelled part
	failure := errors.New("the last batch is lost")
	s.run(&asked, func(ctx context.Context) error {
		<-ctx.Done()
		return failure
	})
	s.run(&cancelled, func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
	s.run(&broken, func(context.Context) error { return failure })
	if err := <-s.Failed(); !errors.Is(err, failure) {
		t.Errorf("the server is told %v", err)
	}
	endAll(time.Second, &asked, &broken, &cancelled)
	if len(s.failed) > 0 {
		t.Errorf("a part that was told to end has broken the server: %v", <-s.failed)
	}
	if !errors.Is(asked.err, failure) || broken.err != nil || cancelled.err != nil {
		t.Errorf("the parts ended with %v, %v and %v", asked.err, broken.err, cancelled.err)
	}
}
