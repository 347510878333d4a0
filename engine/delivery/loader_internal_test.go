package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"callchain/engine/rpc"
	"callchain/transports"

	"github.com/google/uuid"
)

// loads is a loader whose reads the test answers.
type loads struct {
	*loader
	mu      sync.Mutex
	fail    map[uuid.UUID]int // so many reads of a call fail
	damaged map[uuid.UUID]bool
	reads   int
	atOnce  int
	most    int
	out     []string
}

func newLoads() *loads {
	l := &loads{fail: map[uuid.UUID]int{}, damaged: map[uuid.UUID]bool{}}
	l.loader = newLoader(l.answer, slog.New(slog.DiscardHandler))
	return l
}

func (l *loads) answer(_ context.Context, _, call uuid.UUID) (rpc.Body, bool, error) {
	l.mu.Lock()
	l.reads++
	l.atOnce++
	l.most = max(l.most, l.atOnce)
	l.mu.Unlock()
	<-time.After(10 * time.Millisecond)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.atOnce--
	if l.fail[call] > 0 {
		l.fail[call]--
		return rpc.Body{}, false, errors.New("the store is away")
	}
	return rpc.Body{}, l.damaged[call], nil
}

func (l *loads) note(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out = append(l.out, fmt.Sprintf(format, args...))
}

// got is the results of the deliveries.
func (l *loads) got() []string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.out)
}

// delivery is a delivery whose body must be read, unless it is known.
func (l *loads) delivery(session, call byte, body *rpc.Body) {
	l.deliver(&postponed{
		session: uuid.UUID{session}, call: uuid.UUID{call}, deadline: time.Now().Add(time.Minute), body: body,
		send: func(*rpc.Body) { l.note("%d sent", call) }, failed: func(reason string) { l.note("%d %s", call, reason) },
	})
}

// pass lets time go on.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func inLoads(t *testing.T, test func(l *loads)) {
	synctest.Test(t, func(*testing.T) {
		l := newLoads()
		test(l)
		l.close()
	})
}

// TestDeliveriesOfASessionStayInOrder: also behind one whose body cannot be read for a while; other sessions do not wait for it.
func TestDeliveriesOfASessionStayInOrder(t *testing.T) {
	inLoads(t, func(l *loads) {
		l.fail[uuid.UUID{1}] = 3
		l.delivery(7, 1, nil)
		l.delivery(7, 2, &rpc.Body{})
		l.delivery(8, 3, nil)
		l.delivery(9, 4, &rpc.Body{})
		l.delivery(7, 5, nil)
		pass(10 * time.Second)
		if want := []string{"4 sent", "3 sent", "1 sent", "2 sent", "5 sent"}; !slices.Equal(l.got(), want) {
			t.Errorf("delivered are %v, want %v", l.got(), want)
		}
	})
}

// TestBodiesThatCannotBeRead: a damaged one fails at once, one that the store does not give fails at the deadline of its call.
func TestBodiesThatCannotBeRead(t *testing.T) {
	inLoads(t, func(l *loads) {
		l.damaged[uuid.UUID{1}], l.fail[uuid.UUID{2}] = true, 1<<30
		l.delivery(1, 1, nil)
		l.delivery(2, 2, nil)
		pass(time.Second)
		if want := []string{"1 body_unreadable"}; !slices.Equal(l.got(), want) {
			t.Errorf("after a second: %v, want %v", l.got(), want)
		}
		pass(time.Minute)
		if want := []string{"1 body_unreadable", "2 body_unreadable"}; !slices.Equal(l.got(), want) {
			t.Errorf("after the deadline: %v, want %v", l.got(), want)
		}
	})
}

// TestLoadsAreBounded: by number, and in what is read at once.
func TestLoadsAreBounded(t *testing.T) {
	inLoads(t, func(l *loads) {
		for n := range loadsMost + 2 {
			session := uuid.UUID{1, byte(n >> 8), byte(n)}
			l.deliver(&postponed{session: session, deadline: time.Now().Add(time.Hour), send: func(*rpc.Body) {}, failed: func(reason string) { l.note("%s", reason) }})
		}
		if want := []string{transports.FailedQueueFull, transports.FailedQueueFull}; !slices.Equal(l.got(), want) {
			t.Errorf("beyond the bound: %v, want %v", l.got(), want)
		}
		pass(5 * time.Minute)
		if l.most != loadsAtOnce || l.reads != loadsMost || l.count != 0 || len(l.queues) != 0 {
			t.Errorf("%d reads, %d at once; %d wait in %d queues", l.reads, l.most, l.count, len(l.queues))
		}
	})
}
