package eventstore

// OutageError: the database cannot do now what it is asked, whoever asks: its disk is full, it is read-only, it is away. Nothing is wrong with
// the data, and the same request succeeds later. Unless it says otherwise nothing was stored.
type OutageError struct {
	Reason string // one of the reasons below, for whoever must mend it
	Err    error
}

// The reasons of outages.
const (
	ReasonFull      = "the database's disk is full"
	ReasonReadOnly  = "the database is read-only"
	ReasonDisk      = "the database's disk fails"
	ReasonRoom      = "the database is short of memory or connections"
	ReasonAway      = "the database does not answer"
	ReasonUncertain = "the database did not answer; whether it was stored is not known"
)

func (e *OutageError) Error() string { return e.Reason + ": " + e.Err.Error() }
func (e *OutageError) Unwrap() error { return e.Err }
