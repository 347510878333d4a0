package delivery

import (
	"bytes"
	"slices"
	"sync"
	"time"

	"callchain/transports"

	"github.com/google/uuid"
)

// sessions are the live sessions of this process. They are safe for concurrent use.
type sessions struct {
	mu          sync.RWMutex
	byID        map[uuid.UUID]*session
	byDevice    map[uuid.UUID]*session // the newest; it links the older ones
	byTransport map[string]int         // connected devices: secondary sessions do not count
}

// session is one connection of a device.
type session struct {
	transports.Session
	subscribed bool
	since      time.Time
	recent     recent
	older      *session // of the same device
}

// recent are the last deliveries to a session, so that an attempt is delivered once.
type recent struct {
	attempts []attempt
	next     int // the oldest, once there are recentMost
}

type attempt struct {
	call   uuid.UUID
	number int
}

// recentMost bounds them. Only the last deliveries of a previous owner can come twice.
const recentMost = 16

func newSessions() *sessions {
	return &sessions{byID: map[uuid.UUID]*session{}, byDevice: map[uuid.UUID]*session{}, byTransport: map[string]int{}}
}

func (s *sessions) add(one transports.Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if was := s.byID[one.ID]; was != nil {
		s.unlink(was)
	}
	added := &session{Session: one, since: time.Now(), older: s.byDevice[one.Identity.Device]}
	s.byID[one.ID], s.byDevice[one.Identity.Device] = added, added
	if !one.Secondary {
		s.byTransport[one.Transport]++
	}
}

// unlink takes a session out; mu is held.
func (s *sessions) unlink(one *session) {
	delete(s.byID, one.ID)
	if !one.Secondary {
		s.byTransport[one.Transport]--
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

// get is a live session, or nil.
func (s *sessions) get(id uuid.UUID) *transports.Session {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if one := s.byID[id]; one != nil {
		return &one.Session
	}
	return nil
}

// find is a copy of a live session and what is known of it, or nil.
func (s *sessions) find(id uuid.UUID) *session {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if one := s.byID[id]; one != nil {
		found := *one
		return &found
	}
	return nil
}

// subscribe notes whether a session asks for calls.
func (s *sessions) subscribe(id uuid.UUID, on bool) {
	s.mu.Lock()
	if one := s.byID[id]; one != nil {
		one.subscribed = on
		one.recent = recent{} // each subscription begins new deliveries
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
	s.unlink(one)
	return &one.Session
}

// count is the number of devices that are connected over a transport.
func (s *sessions) count(transport string) int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byTransport[transport]
}

// deliver notes that a delivery is handed to a session; false: that attempt was before.
func (s *sessions) deliver(id, call uuid.UUID, number int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.byID[id]
	if one == nil {
		return true // it has just ended, its link says so
	}
	this := attempt{call, number}
	r := &one.recent
	if slices.Contains(r.attempts, this) {
		return false
	}
	if len(r.attempts) < recentMost {
		r.attempts = append(r.attempts, this)
	} else {
		r.attempts[r.next] = this
		r.next = (r.next + 1) % recentMost
	}
	if one.Once {
		one.subscribed = false // that was its one call
	}
	return true
}

// inPartitions are copies of the primary sessions of partitions, by device.
func (s *sessions) inPartitions(mine func(partition int32) bool) (out []session) {
	s.mu.RLock()
	for _, one := range s.byID {
		if !one.Secondary && mine(one.Identity.Partition) {
			out = append(out, *one)
		}
	}
	s.mu.RUnlock()
	slices.SortFunc(out, func(a, b session) int { return bytes.Compare(a.Identity.Device[:], b.Identity.Device[:]) })
	return out
}

// olderThan are the sessions of a device that were made with credentials older than a version.
func (s *sessions) olderThan(device uuid.UUID, version int64) (out []transports.Session) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for one := s.byDevice[device]; one != nil; one = one.older {
		if one.Identity.Credentials < version {
			out = append(out, one.Session)
		}
	}
	return out
}

// devices are the devices with a session, with the oldest version of credentials of their sessions.
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
