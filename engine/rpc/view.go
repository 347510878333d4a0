package rpc

// Status is what ThingsBoard's API shows of a call (RpcStatus).
type Status uint8

// The statuses. StatusNone: nothing was shown yet.
const (
	StatusNone Status = iota
	StatusQueued
	StatusSent
	StatusDelivered
	StatusSuccessful
	StatusTimeout
	StatusExpired
	StatusFailed
	StatusDeleted
)

var statusNames = [...]string{"QUEUED", "QUEUED", "SENT", "DELIVERED", "SUCCESSFUL", "TIMEOUT", "EXPIRED", "FAILED", "DELETED"}

// String is ThingsBoard's name; a call that was not dispatched yet shows as QUEUED.
func (s Status) String() string { return statusNames[s] }

// ParseStatus is the inverse of String.
func ParseStatus(name string) (Status, bool) {
	for s, n := range statusNames {
		if s > 0 && n == name {
			return Status(s), true
		}
	}
	return StatusNone, false
}

// Message is the type of the message that enters the rule chain when a call comes to show this status, empty for none.
func (s Status) Message() string {
	if s == StatusNone {
		return ""
	}
	return "RPC_" + statusNames[s]
}

// shown is the view table (docs/decisions/0004): the status that a fact makes visible; false: it changes none.
func shown(f Fact) (Status, bool) {
	switch f := f.(type) {
	case Queued:
		return StatusQueued, true
	case Sent:
		return StatusSent, true
	case Delivered:
		return StatusDelivered, true
	case DeliveryFailed:
		if f.Requeue {
			return StatusQueued, true
		}
		return StatusTimeout, true
	case Succeeded:
		return StatusSuccessful, true
	case Failed, Rejected:
		return StatusFailed, true
	case Expired:
		return StatusExpired, true
	case Cancelled, Removed:
		return StatusDeleted, true
	}
	return StatusNone, false
}
