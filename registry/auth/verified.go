package auth

import (
	"crypto/sha256"
	"sync"
	"time"
)

// verified remembers tokens whose signature was checked, until they expire. When it is full, the older of its two halves is
// dropped as a whole: tokens in use come back with their next request.
type verified struct {
	mu         sync.RWMutex
	half       int
	young, old map[[sha256.Size]byte]*Principal
}

func newVerified(size int) *verified {
	return &verified{half: max(1, size/2), young: map[[sha256.Size]byte]*Principal{}}
}

func (v *verified) get(key [sha256.Size]byte, now time.Time) (*Principal, bool) {
	v.mu.RLock()
	p, ok := v.young[key]
	if !ok {
		p, ok = v.old[key]
	}
	v.mu.RUnlock()
	if !ok || !now.Before(p.Expires) {
		return nil, false
	}
	return p, true
}

func (v *verified) put(key [sha256.Size]byte, p *Principal) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.young) >= v.half {
		v.old, v.young = v.young, make(map[[sha256.Size]byte]*Principal, v.half)
	}
	v.young[key] = p
}

func (v *verified) len() int {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return len(v.young) + len(v.old)
}
