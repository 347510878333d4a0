package bench

import (
	"runtime"
	"syscall"
	"time"
)

// waitUntil returns at t, within a tenth of a millisecond: Go's timers may be a millisecond late, which is more than a call takes.
// The goroutine must have a thread of its own.
func waitUntil(t time.Time) {
	for {
		left := time.Until(t)
		if left <= 0 {
			return
		}
		ts := syscall.NsecToTimespec(int64(left))
		if syscall.Nanosleep(&ts, nil) != nil {
			continue // a signal came
		}
	}
}

func ownThread() { runtime.LockOSThread() }
