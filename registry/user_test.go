package registry_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"callchain/registry"

	"github.com/google/uuid"
)

func TestFirstStartHappensOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		again, err := f.FirstStart(t.Context(), registry.First{AdminEmail: "other@localhost"})
		must(t, err)
		if again.Created || again.Password != "" || again.Tenant.ID != f.tenant {
			t.Errorf("the second start did %+v", again)
		}
		u, err := f.CheckPassword(t.Context(), "Admin@LocalHost", "secret-1")
		must(t, err)
		if u.Authority != registry.TenantAdmin || u.Tenant != f.tenant || u.Email != "admin@localhost" {
			t.Errorf("the administrator is %+v", u)
		}
		if _, err := f.DefaultProfile(t.Context(), f.tenant); err != nil {
			t.Error(err)
		}
	})
}

func TestFirstStartsAtOnceMakeOneTenant(t *testing.T) {
	for name, open := range openers() {
		t.Run(name, func(t *testing.T) {
			a, adb, err := open(t, options())
			must(t, err)
			defer adb.Close()
			var mu sync.Mutex
			var kept []string
			first := registry.First{AdminEmail: "a@b", SysEmail: "s@b", SysPassword: "system", Keep: func(p string) error {
				mu.Lock()
				defer mu.Unlock()
				kept = append(kept, p)
				return nil
			}}
			var wg sync.WaitGroup
			tenants := make([]uuid.UUID, 4)
			for i := range tenants {
				wg.Go(func() {
					s, err := a.FirstStart(t.Context(), first)
					if err != nil {
						t.Error(err)
					}
					tenants[i] = s.Tenant.ID
				})
			}
			wg.Wait()
			for _, id := range tenants {
				if id != tenants[0] {
					t.Errorf("tenants are %v", tenants)
				}
			}
			if len(kept) != 1 || len(kept[0]) != 20 {
				t.Fatalf("passwords kept: %d", len(kept))
			}
			_, err = a.CheckPassword(t.Context(), "a@b", kept[0])
			must(t, err)
			sys, err := a.CheckPassword(t.Context(), "s@b", "system")
			must(t, err)
			if sys.Authority != registry.SysAdmin || sys.Tenant != uuid.Nil {
				t.Errorf("the system administrator is %+v", sys)
			}
		})
	}
}

func TestPasswordThatCannotBeKeptCreatesNothing(t *testing.T) {
	for name, open := range openers() {
		t.Run(name, func(t *testing.T) {
			r, db, err := open(t, options())
			must(t, err)
			defer db.Close()
			full := errors.New("disk full")
			_, err = r.FirstStart(t.Context(), registry.First{AdminEmail: "a@b", Keep: func(string) error { return full }})
			wantErr(t, err, full, "administrator's password")
			s, err := r.FirstStart(t.Context(), registry.First{AdminEmail: "a@b"})
			must(t, err)
			if !s.Created || len(s.Password) != 20 {
				t.Errorf("the second try did %+v", s)
			}
		})
	}
}

func TestWrongLogins(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		ctx := t.Context()
		admin, err := f.UserByEmail(ctx, "admin@localhost")
		must(t, err)
		for _, c := range [][2]string{
			{"admin@localhost", "secret-2"},
			{"admin@localhost", ""},
			{"nobody@localhost", "secret-1"},
			{"", ""},
			{"admin@localhost", strings.Repeat("x", 1000)},
		} {
			if _, err := f.CheckPassword(ctx, c[0], c[1]); !errors.Is(err, registry.ErrBadPassword) {
				t.Errorf("%q: %v", c[0], err)
			}
		}
		must(t, f.EnableUser(ctx, admin.ID, false))
		if _, err := f.CheckPassword(ctx, "admin@localhost", "secret-1"); !errors.Is(err, registry.ErrDisabled) {
			t.Errorf("a disabled user: %v", err)
		}
		if _, err := f.CheckPassword(ctx, "admin@localhost", "wrong"); !errors.Is(err, registry.ErrBadPassword) {
			t.Errorf("a disabled user with a wrong password: %v", err)
		}
	})
}

func TestUsersMustFit(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		good := registry.User{Tenant: f.tenant, Email: "x@y", Authority: registry.TenantAdmin, Enabled: true}
		for names, change := range map[string]func(*registry.User, *string){
			"e-mail":    func(u *registry.User, _ *string) { u.Email = "xy" },
			"password":  func(_ *registry.User, p *string) { *p = "short" },
			"authority": func(u *registry.User, _ *string) { u.Authority = registry.SysAdmin },
			"customer":  func(u *registry.User, _ *string) { u.Authority = registry.CustomerUser },
		} {
			u, p := good, "long enough"
			change(&u, &p)
			_, err := f.CreateUser(t.Context(), u, p)
			wantErr(t, err, registry.ErrInvalid, names)
			if strings.Contains(err.Error(), p) {
				t.Errorf("%v repeats the password", err)
			}
		}
		made, err := f.CreateUser(t.Context(), good, "long enough")
		must(t, err)
		if read, err := f.UserByID(t.Context(), made.ID); err != nil || read.Email != "x@y" {
			t.Errorf("read %+v (%v)", read, err)
		}
		good.Email = "X@Y"
		_, err = f.CreateUser(t.Context(), good, "long enough")
		wantErr(t, err, registry.ErrExists, "X@Y")
	})
}

func TestNewPasswordVoidsTokens(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		u, err := f.UserByEmail(t.Context(), "admin@localhost")
		must(t, err)
		before := time.Now().Add(-time.Minute)
		if f.Revoked(u.ID, "s", before) {
			t.Error("a token is void before anything happened")
		}
		must(t, f.SetPassword(t.Context(), u.ID, "secret-2"))
		must(t, f.EndSession(t.Context(), "ended"))
		other, err := f.reopen(options()) // what is in memory is in the database, too
		must(t, err)
		for _, r := range []*registry.Registry{f.Registry, other} {
			if !r.Revoked(u.ID, "s", before) {
				t.Error("a token from before the new password is good")
			}
			if r.Revoked(u.ID, "s", time.Now().Add(time.Second)) {
				t.Error("a token from after the new password is void")
			}
			if !r.Revoked(uuid.New(), "ended", time.Now().Add(time.Second)) {
				t.Error("a token of an ended session is good")
			}
		}
		_, err = f.CheckPassword(t.Context(), "admin@localhost", "secret-2")
		must(t, err)
	})
}

func TestRevocationsOfOtherNodesArriveByRefresh(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		other, err := f.reopen(options())
		must(t, err)
		must(t, other.EndSession(t.Context(), "s"))
		must(t, f.RefreshRevocations(t.Context()))
		if f.Revoked(uuid.New(), "s", time.Now()) {
			t.Fatal("nothing was told yet")
		}
		f.Apply(registry.Change{Kind: registry.UserChanged})
		must(t, f.RefreshRevocations(t.Context()))
		if !f.Revoked(uuid.New(), "s", time.Now()) {
			t.Error("the ended session is still good")
		}
	})
}

func TestEndedSessionsAreForgottenWithTheirTokens(t *testing.T) {
	onBoth(t, func(t *testing.T, f fixture) {
		c := &clock{time.Now()}
		o := options()
		o.Now = c.now
		r, err := f.reopen(o)
		must(t, err)
		must(t, r.EndSession(t.Context(), "a"))
		c.at = c.at.Add(8 * 24 * time.Hour)
		must(t, r.EndSession(t.Context(), "b"))
		var left int
		must(t, f.db.QueryRow(`SELECT count(*) FROM ended_sessions`).Scan(&left))
		if left != 1 {
			t.Errorf("%d ended sessions are kept", left)
		}
		wantErr(t, r.EndSession(t.Context(), ""), registry.ErrInvalid, "session")
	})
}
