package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/google/uuid"
)

// generatedPasswordLen is the length of a password made at the first start.
const generatedPasswordLen = 20

// First says whom the first start creates.
type First struct {
	AdminEmail    string // tenant administrator
	AdminPassword string // empty: made at random
	SysEmail      string // system administrator; empty: none
	SysPassword   string
	// Keep is called with a password made at random before anything is committed, so that a crash cannot lose it. If it
	// fails, nothing is created.
	Keep func(password string) error
}

// Started tells what the first start did.
type Started struct {
	Tenant   Tenant
	Created  bool   // this start was the first
	Password string // of the tenant administrator, if it was made at random now
}

// FirstStart creates the tenant, its administrator and its default device profile, once: a later call, also a concurrent one of
// another node, finds them. It fails with ErrInvalid for an unusable e-mail or password.
func (r *Registry) FirstStart(ctx context.Context, f First) (Started, error) {
	tenants, err := r.Tenants(ctx)
	if err != nil {
		return Started{}, err
	}
	if len(tenants) > 0 {
		return Started{Tenant: tenants[0]}, nil
	}
	out := Started{Created: true}
	if f.AdminPassword == "" {
		out.Password = randomText(generatedPasswordLen)
		f.AdminPassword = out.Password
	}
	users, err := r.firstUsers(ctx, f)
	if err != nil {
		return Started{}, err
	}
	out.Tenant = Tenant{ID: users[0].Tenant, Title: "Tenant", Created: fromMicros(r.now())}
	err = r.write(ctx, func(tx *tx) error { return r.createFirst(tx, out, users, f.Keep) })
	if isTaken(err) { // another node was faster
		if tenants, again := r.Tenants(ctx); again == nil && len(tenants) > 0 {
			return Started{Tenant: tenants[0]}, nil
		}
	}
	if err != nil {
		return Started{}, fmt.Errorf("creating the first tenant: %w", err)
	}
	return out, nil
}

func (r *Registry) createFirst(tx *tx, s Started, users []newUser, keep func(string) error) error {
	_, err := tx.exec(`INSERT INTO tenants (id, title, created) VALUES ($1, $2, $3)`, s.Tenant.ID, s.Tenant.Title, s.Tenant.Created.UnixMicro())
	if err != nil {
		return err
	}
	for _, u := range users {
		if err := insertUser(tx, u); err != nil {
			return err
		}
	}
	preset := Profile{ID: newID(), Tenant: s.Tenant.ID, Name: "default", Description: "Default device profile", Transport: "DEFAULT", Default: true}
	if err := insertProfile(tx, preset, s.Tenant.Created.UnixMicro()); err != nil {
		return err
	}
	if s.Password != "" && keep != nil {
		if err := keep(s.Password); err != nil {
			return fmt.Errorf("keeping the administrator's password: %w", err)
		}
	}
	return nil
}

func (r *Registry) firstUsers(ctx context.Context, f First) ([]newUser, error) {
	admin, err := r.prepareUser(ctx, User{
		Tenant: newID(), Email: f.AdminEmail, Authority: TenantAdmin, Enabled: true,
	}, f.AdminPassword)
	if err != nil {
		return nil, fmt.Errorf("preparing the tenant administrator: %w", err)
	}
	users := []newUser{admin}
	if f.SysEmail != "" {
		sys, err := r.prepareUser(ctx, User{Email: f.SysEmail, Authority: SysAdmin, Enabled: true}, f.SysPassword)
		if err != nil {
			return nil, fmt.Errorf("preparing the system administrator: %w", err)
		}
		users = append(users, sys)
	}
	return users, nil
}

// Tenants are all tenants, the oldest first.
func (r *Registry) Tenants(ctx context.Context) ([]Tenant, error) {
	var out []Tenant
	err := r.query(ctx).each(`SELECT id, title, created FROM tenants ORDER BY created, id`, nil, func(row row) error {
		var t Tenant
		var created int64
		if err := row.Scan(&t.ID, &t.Title, &created); err != nil {
			return err
		}
		t.Created = fromMicros(created)
		out = append(out, t)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading tenants: %w", err)
	}
	return out, nil
}

// Tenant is one tenant; ErrNotFound if there is none with this id.
func (r *Registry) Tenant(ctx context.Context, id uuid.UUID) (Tenant, error) {
	t := Tenant{ID: id}
	var created int64
	err := r.query(ctx).row(`SELECT title, created FROM tenants WHERE id = $1`, id).Scan(&t.Title, &created)
	if err != nil {
		return Tenant{}, missing(err, "tenant", id)
	}
	t.Created = fromMicros(created)
	return t, nil
}

// exists is true if the statement finds a row.
func (t *tx) exists(query string, args ...any) (bool, error) {
	var one int
	err := t.row(query, args...).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}
