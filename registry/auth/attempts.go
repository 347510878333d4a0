package auth

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// ErrTooMany: the user or the address has to wait; errors.As finds *TooManyError with the time.
var ErrTooMany = errors.New("too many login attempts")

// TooManyError says how long to wait.
type TooManyError struct{ RetryAfter time.Duration }

func (e *TooManyError) Error() string {
	return fmt.Sprintf("%v: try again in %d s", ErrTooMany, int64((e.RetryAfter+time.Second-1)/time.Second))
}

// Unwrap is ErrTooMany.
func (e *TooManyError) Unwrap() error { return ErrTooMany }

// allowance is how many failures are free, and how the waiting grows after them: a second, doubled by each failure.
type allowance struct {
	free int
	most time.Duration
}

// The three counts of a login. A user name alone waits but little, because anybody could lock a user out by it; an address may be
// that of a whole company.
var (
	ofPair    = allowance{free: 5, most: 15 * time.Minute} // this user from this address
	ofAddress = allowance{free: 50, most: time.Minute}
	ofUser    = allowance{free: 100, most: 10 * time.Second}
)

const (
	attemptsMax  = 30_000           // counts in memory; beyond, the oldest are dropped
	forgetsAfter = 30 * time.Minute // without a failure
)

// count is what failures of one key amount to.
type count struct {
	failures int
	last     time.Time
}

// Attempts slow down who guesses passwords. The table is bounded: in two halves, of which the older is dropped when the younger is
// full. It may be used from many goroutines.
type Attempts struct {
	now        func() time.Time
	mu         sync.Mutex
	young, old map[string]count
}

// NewAttempts starts with nobody having failed; now is time.Now in production.
func NewAttempts(now func() time.Time) *Attempts {
	return &Attempts{now: now, young: map[string]count{}, old: map[string]count{}}
}

// Admit is asked before the password is checked, so that waiting costs nothing. It fails with *TooManyError. It counts the
// attempt as a failure until Succeeded takes it back: attempts that are made at once cannot slip through together.
func (a *Attempts) Admit(user, address string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	keys := keysOf(user, address)
	var wait time.Duration
	for _, k := range keys {
		wait = max(wait, k.wait(a.get(k.text, now), now))
	}
	if wait > 0 {
		return &TooManyError{RetryAfter: wait}
	}
	for _, k := range keys {
		c := a.get(k.text, now)
		a.put(k.text, count{c.failures + 1, now})
	}
	return nil
}

// Succeeded forgets the failures of this user from this address, and takes the attempt back from the other counts.
func (a *Attempts) Succeeded(user, address string) { a.takeBack(user, address, true) }

// Withdraw takes an attempt back that was not judged: the server was busy, or the caller went away.
func (a *Attempts) Withdraw(user, address string) { a.takeBack(user, address, false) }

func (a *Attempts) takeBack(user, address string, forget bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	for i, k := range keysOf(user, address) {
		c := a.get(k.text, now)
		if c.failures <= 1 || forget && i == 0 {
			delete(a.young, k.text)
			delete(a.old, k.text)
			continue
		}
		a.put(k.text, count{c.failures - 1, c.last})
	}
}

type attemptKey struct {
	text string
	allowance
}

func keysOf(user, address string) [3]attemptKey {
	user = strings.ToLower(user)
	if len(user) > 255 {
		user = user[:255] // nobody has such a name; the table stays small
	}
	return [3]attemptKey{{"p" + address + "\x00" + user, ofPair}, {"a" + address, ofAddress}, {"u" + user, ofUser}}
}

func (k attemptKey) wait(c count, now time.Time) time.Duration {
	over := c.failures - k.free
	if over < 0 {
		return 0
	}
	delay := k.most
	if over < 20 { // 2^20 s are beyond every bound
		delay = min(k.most, time.Second<<over)
	}
	return max(0, c.last.Add(delay).Sub(now))
}

func (a *Attempts) get(key string, now time.Time) count {
	c, ok := a.young[key]
	if !ok {
		c = a.old[key]
	}
	if now.Sub(c.last) > forgetsAfter {
		return count{}
	}
	return c
}

func (a *Attempts) put(key string, c count) {
	if _, known := a.young[key]; !known && len(a.young) >= attemptsMax/2 {
		a.old, a.young = a.young, map[string]count{}
	}
	a.young[key] = c
}

func (a *Attempts) len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.young) + len(a.old)
}
