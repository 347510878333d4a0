package engine

import (
	"slices"
	"sync"
	"time"

	"callchain/transports"

	"github.com/google/uuid"
)

// sessions are the live connections of this process.
type sessions struct {
	mu       sync.RWMutex
	byID     map[uuid.UUID]*live
	byDevice map[uuid.UUID]*live // the newest; the others hang on it
	by       map[string]int      // connected devices by transport: sessions aside take no device's place
}

// live is one connection; wants says that it asked for calls.
type live struct {
	transports.Session
	wants bool
	since time.Time
	given given
	older *live // of the same device
}

// given are the deliveries that a connection was handed lately: an attempt is handed over once.
type given struct {
	calls []attempt
	next  int // the oldest, once there are givenMost
}

type attempt struct {
	call uuid.UUID
	n    int
}

// givenMost bounds them. Only the calls that an owner had let out in its last moments can come twice.
const givenMost = 16

func newSessions() *sessions {
	return &sessions{byID: map[uuid.UUID]*live{}, byDevice: map[uuid.UUID]*live{}, by: map[string]int{}}
}

func (s *sessions) add(one transports.Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if was := s.byID[one.ID]; was != nil {
		s.unhook(was)
	}
	added := &live{Session: one, since: time.Now(), older: s.byDevice[one.Identity.Device]}
	s.byID[one.ID], s.byDevice[one.Identity.Device] = added, added
	if !one.Aside {
		s.by[one.Transport]++
	}
}

// unhook takes a connection out; mu is held.
func (s *sessions) unhook(one *live) {
	delete(s.byID, one.ID)
	if !one.Aside {
		s.by[one.Transport]--
	}
	device := one.Identity.Device
	at := s.byDevice[device]
	switch {
	case at != one:
		for at.older != one {
			at = at.older
		}
		at.older = one.older
	case one.older == nil:
		delete(s.byDevice, device)
	default:
		s.byDevice[device] = one.older
	}
}

// get is a live connection, or nil.
func (s *sessions) get(id uuid.UUID) *transports.Session {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if one := s.byID[id]; one != nil {
		return &one.Session
	}
	return nil
}

// find is a copy of a live connection and what is known of it, or nil.
func (s *sessions) find(id uuid.UUID) *live {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if one := s.byID[id]; one != nil {
		found := *one
		return &found
	}
	return nil
}

// want notes whether a connection asks for calls.
func (s *sessions) want(id uuid.UUID, calls bool) {
	s.mu.Lock()
	if one := s.byID[id]; one != nil {
		one.wants = calls
		one.given = given{} // each subscription begins new deliveries
	}
	s.mu.Unlock()
}

func (s *sessions) remove(id uuid.UUID) *transports.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.byID[id]
	if one == nil {
		return nil
	}
	s.unhook(one)
	return &one.Session
}

// count is the number of devices that are connected over a transport.
func (s *sessions) count(transport string) int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.by[transport]
}

// give notes that a delivery is handed to a connection; false: that attempt was before.
func (s *sessions) give(id, call uuid.UUID, n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.byID[id]
	if one == nil {
		return true // it has just ended, its link says so
	}
	this := attempt{call, n}
	g := &one.given
	if slices.Contains(g.calls, this) {
		return false
	}
	if len(g.calls) < givenMost {
		g.calls = append(g.calls, this)
	} else {
		g.calls[g.next] = this
		g.next = (g.next + 1) % givenMost
	}
	if one.Once {
		one.wants = false // that was its one call
	}
	return true
}

// in are the connections of a partition's devices that take their places.
func (s *sessions) in(partition int32) (out []live) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, one := range s.byID {
		if one.Identity.Partition == partition && !one.Aside {
			out = append(out, *one)
		}
	}
	return out
}

// older are the connections of a device that were made with credentials older than a version.
func (s *sessions) older(device uuid.UUID, version int64) (out []transports.Session) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for one := s.byDevice[device]; one != nil; one = one.older {
		if one.Identity.Credentials < version {
			out = append(out, one.Session)
		}
	}
	return out
}

// devices are those that have a connection, with the oldest version of credentials that one was made with.
func (s *sessions) devices() map[uuid.UUID]int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make(map[uuid.UUID]int64, len(s.byDevice))
	for device, one := range s.byDevice {
		oldest := one.Identity.Credentials
		for one = one.older; one != nil; one = one.older {
			oldest = min(oldest, one.Identity.Credentials)
		}
		out[device] = oldest
	}
	return out
}

// all is a copy of what is connected now.
func (s *sessions) all() []live {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]live, 0, len(s.byID))
	for _, one := range s.byID {
		out = append(out, *one)
	}
	return out
}
