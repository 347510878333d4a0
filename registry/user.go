package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
)

const userColumns = `id, tenant, customer, email, authority, first_name, last_name, enabled, additional, created`

// newUser is a user with the stored form of the password.
type newUser struct {
	User
	hash string
}

// CreateUser adds a user. It fails with ErrExists if the e-mail is taken (in any case of letters, in any tenant) and with
// ErrInvalid, which names the field.
func (r *Registry) CreateUser(ctx context.Context, u User, password string) (User, error) {
	made, err := r.prepareUser(ctx, u, password)
	if err != nil {
		return User{}, err
	}
	err = r.write(ctx, func(tx *tx) error { return insertUser(tx, made) })
	if isTaken(err) {
		return User{}, fmt.Errorf("%w: a user with the e-mail %s", ErrExists, u.Email)
	}
	if err != nil {
		return User{}, fmt.Errorf("creating user %s: %w", u.Email, err)
	}
	return made.User, nil
}

// prepareUser checks the fields and hashes the password before the transaction begins, since that takes long.
func (r *Registry) prepareUser(ctx context.Context, u User, password string) (newUser, error) {
	if err := errors.Join(checkEmail(u.Email), checkText("firstName", u.FirstName), checkText("lastName", u.LastName),
		checkJSON("additionalInfo", u.Additional), checkAuthority(u), checkPassword(password)); err != nil {
		return newUser{}, err
	}
	hash, err := r.opt.Hasher.Hash(ctx, password)
	if err != nil {
		return newUser{}, fmt.Errorf("hashing the password of %s: %w", u.Email, err)
	}
	if u.ID == uuid.Nil {
		u.ID = newID()
	}
	u.Created = fromMicros(r.now())
	return newUser{u, hash}, nil
}

func checkEmail(s string) error {
	name, domain, ok := strings.Cut(s, "@")
	if !ok || name == "" || domain == "" || len(s) > emailBytesMax || strings.ContainsAny(s, " \t\r\n") {
		return fmt.Errorf("%w: e-mail %q: it must look like name@domain and have at most %d bytes", ErrInvalid, s, emailBytesMax)
	}
	return checkText("e-mail", s)
}

func checkPassword(s string) error {
	if len(s) < passwordLenMin || len(s) > passwordLenMax {
		return fmt.Errorf("%w: the password must have %d to %d bytes", ErrInvalid, passwordLenMin, passwordLenMax)
	}
	return nil
}

func checkAuthority(u User) error {
	switch {
	case u.Authority == SysAdmin && u.Tenant == uuid.Nil && u.Customer == uuid.Nil,
		u.Authority == TenantAdmin && u.Tenant != uuid.Nil && u.Customer == uuid.Nil,
		u.Authority == CustomerUser && u.Tenant != uuid.Nil && u.Customer != uuid.Nil:
		return nil
	}
	return fmt.Errorf("%w: authority %q does not go with tenant %s and customer %s", ErrInvalid, u.Authority, u.Tenant, u.Customer)
}

func insertUser(tx *tx, u newUser) error {
	_, err := tx.exec(`INSERT INTO users (id, tenant, customer, email, login, authority, first_name, last_name, enabled,
		password, tokens_since, additional, created) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, $11, $12)`,
		u.ID, u.Tenant, u.Customer, u.Email, strings.ToLower(u.Email), string(u.Authority), u.FirstName, u.LastName, u.Enabled,
		u.hash, u.Additional, u.Created.UnixMicro())
	return err
}

func scanUser(row row, more ...any) (User, error) {
	var u User
	var authority string
	var created int64
	into := []any{&u.ID, &u.Tenant, &u.Customer, &u.Email, &authority, &u.FirstName, &u.LastName, &u.Enabled, raw{&u.Additional}, &created}
	if err := row.Scan(append(into, more...)...); err != nil {
		return User{}, err
	}
	u.Authority, u.Created = Authority(authority), fromMicros(created)
	return u, nil
}

// UserByID is one user; ErrNotFound if there is none.
func (r *Registry) UserByID(ctx context.Context, id uuid.UUID) (User, error) {
	u, err := scanUser(r.query(ctx).row(`SELECT `+userColumns+` FROM users WHERE id = $1`, id))
	if err != nil {
		return User{}, missing(err, "user", id)
	}
	return u, nil
}

// UserByEmail is the user with this e-mail, in any case of letters; ErrNotFound if there is none.
func (r *Registry) UserByEmail(ctx context.Context, email string) (User, error) {
	u, err := scanUser(r.query(ctx).row(`SELECT `+userColumns+` FROM users WHERE login = $1`, strings.ToLower(email)))
	if err != nil {
		return User{}, missing(err, "user", email)
	}
	return u, nil
}

// CheckPassword gives the user who may log in. It fails with ErrBadPassword, after the same work, if the user is unknown or the
// password wrong; with ErrDisabled only if the password is right; with password.ErrBusy if too many logins are waiting.
func (r *Registry) CheckPassword(ctx context.Context, email, password string) (User, error) {
	var hash string
	u, err := scanUser(r.query(ctx).row(`SELECT `+userColumns+`, password FROM users WHERE login = $1`, strings.ToLower(email)), &hash)
	if err := missing(err, "user", email); err != nil && !errors.Is(err, ErrNotFound) {
		return User{}, err
	}
	if len(password) > passwordLenMax {
		password, hash = "", "" // nobody has it; it is not worth hashing
	}
	ok, err := r.opt.Hasher.Check(ctx, hash, password)
	switch {
	case err != nil:
		return User{}, fmt.Errorf("checking the password: %w", err)
	case !ok:
		return User{}, ErrBadPassword
	case !u.Enabled:
		return User{}, ErrDisabled
	}
	return u, nil
}

// SetPassword replaces the password; tokens issued before this second are void from now on.
func (r *Registry) SetPassword(ctx context.Context, user uuid.UUID, password string) error {
	if err := checkPassword(password); err != nil {
		return err
	}
	hash, err := r.opt.Hasher.Hash(ctx, password)
	if err != nil {
		return fmt.Errorf("hashing the password of user %s: %w", user, err)
	}
	return r.changeUser(ctx, user, `UPDATE users SET password = $2, tokens_since = $3 WHERE id = $1`, hash)
}

// EnableUser lets a user log in or not; disabling voids the tokens that were issued.
func (r *Registry) EnableUser(ctx context.Context, user uuid.UUID, enabled bool) error {
	return r.changeUser(ctx, user, `UPDATE users SET enabled = $2, tokens_since = $3 WHERE id = $1`, enabled)
}

func (r *Registry) changeUser(ctx context.Context, user uuid.UUID, update string, value any) error {
	since := r.opt.Now()
	err := r.write(ctx, func(tx *tx) error {
		tx.tell(Change{Kind: UserChanged})
		n, err := tx.exec(update, user, value, since.UnixMicro())
		if err == nil && n == 0 {
			err = fmt.Errorf("%w: user %s", ErrNotFound, user)
		}
		return err
	})
	if err == nil {
		r.revoked.user(user, since.Truncate(time.Second))
	}
	if err != nil {
		return fmt.Errorf("changing user %s: %w", user, err)
	}
	return nil
}
