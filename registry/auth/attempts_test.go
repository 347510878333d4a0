package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"callchain/registry"
	"callchain/registry/password"

	"github.com/google/uuid"
)

func TestGuessingIsSlowedDown(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	a := NewAttempts(func() time.Time { return now })
	for n := range 5 {
		if err := a.Admit("u", "1.2.3.4"); err != nil {
			t.Fatalf("attempt %d: %v", n, err)
		}
	}
	for _, wait := range []time.Duration{1, 2, 4, 8, 16} {
		wait *= time.Second
		err := a.Admit("U", "1.2.3.4")
		var many *TooManyError
		if !errors.As(err, &many) || many.RetryAfter != wait || !errors.Is(err, ErrTooMany) {
			t.Fatalf("error is %v, want to wait %v", err, wait)
		}
		if err := a.Admit("u", "5.6.7.8"); err != nil {
			t.Fatalf("another address is refused, too: %v", err)
		}
		a.Succeeded("u", "5.6.7.8")
		now = now.Add(wait)
		if err := a.Admit("u", "1.2.3.4"); err != nil {
			t.Fatalf("after %v: %v", wait, err)
		}
	}
	a.Succeeded("u", "1.2.3.4")
	if err := a.Admit("u", "1.2.3.4"); err != nil {
		t.Errorf("after a success: %v", err)
	}
}

func TestManyUsersFromOneAddress(t *testing.T) {
	now := time.Unix(1, 0)
	a := NewAttempts(func() time.Time { return now })
	admitted := 0
	for n := range 100 {
		if a.Admit(fmt.Sprint("u", n), "1.2.3.4") == nil {
			admitted++
		}
	}
	if admitted != 50 {
		t.Errorf("%d of 100 users were tried from one address", admitted)
	}
}

func TestAttemptTableIsBounded(t *testing.T) {
	a := NewAttempts(time.Now)
	for n := range 100_000 {
		user := fmt.Sprint("u", n) + strings.Repeat("x", 1000)
		if err := a.Admit(user, fmt.Sprint("address", n)); err != nil {
			t.Fatal(err)
		}
	}
	if n := a.len(); n > attemptsMax {
		t.Errorf("the table holds %d counts", n)
	}
}

func TestVerifiedTableIsBounded(t *testing.T) {
	v := newVerified(100)
	now := time.Unix(1000, 0)
	for n := range 1000 {
		v.put(hashOf(fmt.Sprint(n)), &Principal{Expires: now.Add(time.Hour)})
	}
	if n := v.len(); n > 100 {
		t.Errorf("the table holds %d tokens", n)
	}
	if _, ok := v.get(hashOf("999"), now); !ok {
		t.Error("the newest token is forgotten")
	}
}

// users is a registry with one user, whose answers tests choose.
type users struct {
	user    registry.User
	err     error
	ended   []string
	changed []string // "<user> <password>"
}

func (u *users) CheckPassword(_ context.Context, _, password string) (registry.User, error) {
	if u.err == nil && password != "right" {
		return registry.User{}, registry.ErrBadPassword
	}
	return u.user, u.err
}
func (u *users) UserByID(context.Context, uuid.UUID) (registry.User, error) { return u.user, u.err }
func (u *users) SetPassword(_ context.Context, id uuid.UUID, next string) error {
	if next == "bad" {
		return registry.ErrInvalid
	}
	u.changed = append(u.changed, id.String()+" "+next)
	return nil
}

func (u *users) EndSession(_ context.Context, s string) error {
	u.ended = append(u.ended, s)
	return nil
}

func access(t *testing.T, u *users) *Access {
	t.Helper()
	i, err := NewIssuer(Config{Key: []byte(strings.Repeat("k", 64))})
	if err != nil {
		t.Fatal(err)
	}
	return NewAccess(u, i, NewAttempts(time.Now))
}

func TestLoginRefreshLogout(t *testing.T) {
	u := &users{user: registry.User{ID: uuid.New(), Tenant: uuid.New(), Email: "a@b", Authority: registry.TenantAdmin, Enabled: true}}
	a := access(t, u)
	first, err := a.Login(t.Context(), "a@b", "right", "::1")
	if err != nil {
		t.Fatal(err)
	}
	u.user.Authority = registry.CustomerUser // the new token says what the user is now
	second, err := a.Refresh(t.Context(), first.Refresh)
	if err != nil {
		t.Fatal(err)
	}
	p1, err1 := a.Verify(first.Access)
	p2, err2 := a.Verify(second.Access)
	if err1 != nil || err2 != nil || p1.Session != p2.Session || p2.Authority != registry.CustomerUser {
		t.Errorf("%+v (%v), then %+v (%v)", p1, err1, p2, err2)
	}
	if _, err := a.Refresh(t.Context(), first.Access); !errors.Is(err, ErrNotAccess) {
		t.Errorf("refreshing with an access token: %v", err)
	}
	if err := a.Logout(t.Context(), p1); err != nil || len(u.ended) != 1 || u.ended[0] != p1.Session {
		t.Errorf("ended %v (%v)", u.ended, err)
	}
	u.user.Enabled = false
	if _, err := a.Refresh(t.Context(), first.Refresh); !errors.Is(err, registry.ErrDisabled) {
		t.Errorf("a disabled user: %v", err)
	}
	u.err = registry.ErrNotFound
	if _, err := a.Refresh(t.Context(), first.Refresh); !errors.Is(err, ErrExpired) {
		t.Errorf("a user who is gone: %v", err)
	}
}

func TestChangePassword(t *testing.T) {
	u := &users{user: registry.User{ID: uuid.New(), Tenant: uuid.New(), Email: "a@b", Authority: registry.TenantAdmin, Enabled: true}}
	a := access(t, u)
	p := Principal{User: u.user.ID, Session: "old"}
	if _, err := a.ChangePassword(t.Context(), p, "right", "bad", "::1"); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("a password that may not be: %v", err)
	}
	pair, err := a.ChangePassword(t.Context(), p, "right", "next", "::1")
	if err != nil || len(u.changed) != 1 || u.changed[0] != u.user.ID.String()+" next" {
		t.Fatalf("changed %q (%v)", u.changed, err)
	}
	if q, err := a.Verify(pair.Access); err != nil || q.User != u.user.ID || q.Session == "old" {
		t.Errorf("the new token is of %+v (%v)", q, err)
	}
	for range 5 {
		if _, err := a.ChangePassword(t.Context(), p, "wrong", "next", "::1"); !errors.Is(err, registry.ErrBadPassword) {
			t.Fatal(err)
		}
	}
	if _, err := a.ChangePassword(t.Context(), p, "right", "next", "::1"); !errors.Is(err, ErrTooMany) {
		t.Errorf("who holds a token may not try passwords for ever: %v", err)
	}
}

func TestLoginCountsOnlyWrongPasswords(t *testing.T) {
	u := &users{err: password.ErrBusy}
	a := access(t, u)
	for range 50 {
		if _, err := a.Login(t.Context(), "a@b", "x", "::1"); !errors.Is(err, password.ErrBusy) {
			t.Fatal(err)
		}
	}
	u.err = nil
	for range 5 {
		if _, err := a.Login(t.Context(), "a@b", "wrong", "::1"); !errors.Is(err, registry.ErrBadPassword) {
			t.Fatal(err)
		}
	}
	if _, err := a.Login(t.Context(), "a@b", "right", "::1"); !errors.Is(err, ErrTooMany) {
		t.Errorf("the sixth attempt: %v", err)
	}
	if n := a.attempts.len(); n == 0 {
		t.Error("nothing was counted")
	}
}
