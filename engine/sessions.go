package engine

import (
	"sync"

	"callchain/transports"

	"github.com/google/uuid"
)

// sessions are the live connections of this process.
type sessions struct {
	mu   sync.RWMutex
	byID map[uuid.UUID]*live
	by   map[string]int // connected devices by transport: sessions aside take no device's place
}

// live is one connection; wants says that it asked for calls.
type live struct {
	transports.Session
	wants bool
}

func newSessions() *sessions { return &sessions{byID: map[uuid.UUID]*live{}, by: map[string]int{}} }

func (s *sessions) add(one transports.Session) {
	s.mu.Lock()
	if s.byID[one.ID] == nil && !one.Aside {
		s.by[one.Transport]++
	}
	s.byID[one.ID] = &live{Session: one}
	s.mu.Unlock()
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

// want notes whether a connection asks for calls.
func (s *sessions) want(id uuid.UUID, calls bool) {
	s.mu.Lock()
	if one := s.byID[id]; one != nil {
		one.wants = calls
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
	delete(s.byID, id)
	if !one.Aside {
		s.by[one.Transport]--
	}
	return &one.Session
}

// count is the number of devices that are connected over a transport.
func (s *sessions) count(transport string) int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.by[transport]
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
