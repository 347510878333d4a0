package auth

import (
	"context"
	"errors"
	"fmt"

	"callchain/registry"

	"github.com/google/uuid"
)

// Users is what the registry knows of users.
type Users interface {
	CheckPassword(ctx context.Context, email, password string) (registry.User, error)
	UserByID(ctx context.Context, id uuid.UUID) (registry.User, error)
	SetPassword(ctx context.Context, user uuid.UUID, password string) error
	EndSession(ctx context.Context, session string) error
}

// Access lets users in and out.
type Access struct {
	users    Users
	issuer   *Issuer
	attempts *Attempts
}

// NewAccess puts the parts together.
func NewAccess(users Users, issuer *Issuer, attempts *Attempts) *Access {
	return &Access{users, issuer, attempts}
}

// Verify is Issuer.Verify.
func (a *Access) Verify(token string) (Principal, error) { return a.issuer.Verify(token) }

// Login gives tokens for a password. It fails with registry.ErrBadPassword, registry.ErrDisabled (of a right password),
// *TooManyError, password.ErrBusy. Address is the caller's, without the port.
func (a *Access) Login(ctx context.Context, email, password, address string) (Pair, error) {
	u, err := a.check(ctx, email, password, address)
	if err != nil {
		return Pair{}, err
	}
	return a.issuer.Issue(u, "")
}

// check is the user with this e-mail and password, if there were not too many attempts.
func (a *Access) check(ctx context.Context, email, password, address string) (registry.User, error) {
	if err := a.attempts.Admit(email, address); err != nil {
		return registry.User{}, err
	}
	u, err := a.users.CheckPassword(ctx, email, password)
	switch {
	case err == nil, errors.Is(err, registry.ErrDisabled):
		a.attempts.Succeeded(email, address)
	case !errors.Is(err, registry.ErrBadPassword):
		a.attempts.Withdraw(email, address)
	}
	return u, err
}

// Refresh gives new tokens for a refresh token, with what the user is now. It fails with ErrMalformed, ErrExpired, ErrNotAccess and
// registry.ErrDisabled; the token of a user who is gone has expired.
func (a *Access) Refresh(ctx context.Context, token string) (Pair, error) {
	p, err := a.issuer.VerifyRefresh(token)
	if err != nil {
		return Pair{}, err
	}
	u, err := a.users.UserByID(ctx, p.User)
	switch {
	case errors.Is(err, registry.ErrNotFound):
		return Pair{}, fmt.Errorf("%w: user %s is gone", ErrExpired, p.User)
	case err != nil:
		return Pair{}, fmt.Errorf("refreshing a token: %w", err)
	case !u.Enabled:
		return Pair{}, registry.ErrDisabled
	}
	return a.issuer.Issue(u, p.Session)
}

// ChangePassword replaces a user's password and gives new tokens; all others of the user are void. It fails as Login does, whose
// bound on attempts it shares, and with registry.ErrInvalid for a new password that may not be.
func (a *Access) ChangePassword(ctx context.Context, p Principal, current, next, address string) (Pair, error) {
	u, err := a.users.UserByID(ctx, p.User)
	if err != nil {
		return Pair{}, err
	}
	if u, err = a.check(ctx, u.Email, current, address); err != nil {
		return Pair{}, err
	}
	if err := a.users.SetPassword(ctx, u.ID, next); err != nil {
		return Pair{}, err
	}
	return a.issuer.Issue(u, "")
}

// Logout voids the tokens of the session.
func (a *Access) Logout(ctx context.Context, p Principal) error {
	return a.users.EndSession(ctx, p.Session)
}
