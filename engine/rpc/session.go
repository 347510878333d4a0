package rpc

import (
	"fmt"

	"github.com/google/uuid"
)

// session decides the commands that concern the device's connection. The newest connection wins, as in ThingsBoard with
// actors.session.max_concurrent_sessions_per_device at its default of 1.
func (w *draft) session(do Action) error {
	live := w.device.Session
	switch a := do.(type) {
	case Connect:
		w.connect(a)
	case Subscribe:
		if live.ID != a.Session {
			return refuse(CodeSessionGone, "session %s is not the device's", a.Session)
		}
		if !a.Resumed || !live.Subscribed {
			w.emit(uuid.Nil, Subscribed{Session: a.Session, Once: a.Once, Resumed: a.Resumed})
		}
	case Unsubscribe:
		if live.ID == a.Session && live.Subscribed {
			w.emit(uuid.Nil, Unsubscribed{Session: a.Session})
		}
	case Disconnect:
		if live.ID != uuid.Nil && (a.Session == uuid.Nil || a.Session == live.ID) {
			w.emit(uuid.Nil, SessionClosed{Session: live.ID, Why: a.Why})
		}
	default:
		panic(fmt.Sprintf("rpc: unknown command %T", do))
	}
	return nil
}

// connect opens a session. A session that is older than its owner may be reported after its device has reconnected, or twice: the newest wins
// here, too.
func (w *draft) connect(a Connect) {
	live := w.device.Session
	switch {
	case a.Since != 0 && live.ID == a.Session:
		return
	case a.Since != 0 && live.ID != uuid.Nil && live.Since >= a.Since:
		w.emit(uuid.Nil, SessionClosed{Session: a.Session, Why: "session_taken_over"})
		return
	case live.ID != uuid.Nil && live.ID != a.Session:
		w.emit(uuid.Nil, SessionClosed{Session: live.ID, Why: "session_taken_over"})
	}
	w.emit(uuid.Nil, SessionOpened{Session: a.Session, Transport: a.Transport, Remote: a.Remote, Node: a.Node, Since: a.Since})
}
