//go:build !linux

package bench

import "time"

func waitUntil(t time.Time) {
	if left := time.Until(t); left > 0 {
		<-time.After(left)
	}
}

func ownThread() {}
