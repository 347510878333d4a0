package registry

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/google/uuid"
)

// revocations hold, in memory, what makes a token void before its time: they are asked for with every request.
type revocations struct {
	mu       sync.RWMutex
	users    map[uuid.UUID]time.Time // tokens issued before are void
	sessions map[string]time.Time    // ended sessions, and when their last token expires
	stale    bool                    // another node changed them
}

// endedSessionsMax bounds the sessions in memory; each cost its user a login first, so the bound is generous.
const endedSessionsMax = 100_000

func (v *revocations) user(id uuid.UUID, since time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.users[id] = since
}

func (v *revocations) session(id string, expires time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.sessions[id] = expires
}

func (v *revocations) outdate() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.stale = true
}

// Revoked is true of a token that this user got at a time, in a session, and that was voided since by a new password, by
// disabling the user or by ending the session. Tokens carry whole seconds, so one of the same second as the change still counts.
func (r *Registry) Revoked(user uuid.UUID, session string, issued time.Time) bool {
	v := &r.revoked
	v.mu.RLock()
	defer v.mu.RUnlock()
	if since, ok := v.users[user]; ok && issued.Before(since) {
		return true
	}
	_, ended := v.sessions[session]
	return ended
}

// EndSession voids all tokens of a login session (log out). Sessions are forgotten when their last token has expired.
// It fails with ErrInvalid for an id that is no session's.
func (r *Registry) EndSession(ctx context.Context, session string) error {
	if len(session) == 0 || len(session) > 64 {
		return fmt.Errorf("%w: session id of %d bytes", ErrInvalid, len(session))
	}
	now := r.opt.Now()
	expires := now.Add(r.opt.RevokedFor)
	err := r.write(ctx, func(tx *tx) error {
		tx.tell(Change{Kind: UserChanged})
		if _, err := tx.exec(`DELETE FROM ended_sessions WHERE expires < $1`, now.UnixMicro()); err != nil {
			return err
		}
		_, err := tx.exec(`INSERT INTO ended_sessions (session, expires) VALUES ($1, $2) ON CONFLICT (session) DO NOTHING`,
			session, expires.UnixMicro())
		return err
	})
	if err == nil {
		r.revoked.session(session, expires)
		r.revoked.expire(now)
	}
	if err != nil {
		return fmt.Errorf("ending session %s: %w", session, err)
	}
	return nil
}

// expire forgets sessions whose tokens have expired, once there are many.
func (v *revocations) expire(now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.sessions) < endedSessionsMax {
		return
	}
	for id, expires := range v.sessions {
		if expires.Before(now) {
			delete(v.sessions, id)
		}
	}
}

// RefreshRevocations reads them again if another node has changed them. The shell calls it once a second.
func (r *Registry) RefreshRevocations(ctx context.Context) error {
	v := &r.revoked
	v.mu.Lock()
	stale := v.stale
	v.stale = false
	v.mu.Unlock()
	if !stale {
		return nil
	}
	if err := r.loadRevocations(ctx); err != nil {
		v.outdate()
		return err
	}
	return nil
}

func (r *Registry) loadRevocations(ctx context.Context) error {
	now := r.opt.Now()
	users, sessions := map[uuid.UUID]time.Time{}, map[string]time.Time{}
	q := r.query(ctx)
	err := q.each(`SELECT id, tokens_since FROM users WHERE tokens_since > $1`, []any{now.Add(-r.opt.RevokedFor).UnixMicro()},
		func(row row) error {
			var id uuid.UUID
			var since int64
			err := row.Scan(&id, &since)
			users[id] = fromMicros(since).Truncate(time.Second)
			return err
		})
	if err != nil {
		return fmt.Errorf("reading revoked tokens of users: %w", err)
	}
	err = q.each(`SELECT session, expires FROM ended_sessions WHERE expires > $1 LIMIT $2`, []any{now.UnixMicro(), endedSessionsMax},
		func(row row) error {
			var id string
			var expires int64
			err := row.Scan(&id, &expires)
			sessions[id] = fromMicros(expires)
			return err
		})
	if err != nil {
		return fmt.Errorf("reading ended sessions: %w", err)
	}
	r.revoked.merge(users, sessions)
	return nil
}

// merge keeps what was revoked here while the database was read.
func (v *revocations) merge(users map[uuid.UUID]time.Time, sessions map[string]time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for id, since := range v.users {
		if since.After(users[id]) {
			users[id] = since
		}
	}
	maps.Copy(sessions, v.sessions)
	v.users, v.sessions = users, sessions
}
