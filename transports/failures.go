package transports

// Why a command did not leave: the reasons of Inbound.Failed that every transport shares.
const (
	FailedQueueFull = "queue_full"       // the connection's bounded queue had no room
	FailedTooLarge  = "packet_too_large" // the device said that it takes no packet of this size
	FailedExpired   = "deadline_passed"  // the command's deadline passed before it left
	FailedStale     = "stale_epoch"      // the link has seen a newer epoch of the partition
	FailedGone      = "connection_gone"  // the connection ended before it left
)
