package eventstore

import (
	"cmp"
	"fmt"
	"slices"
)

// MaxStreams is the largest number of names that Streams takes.
const MaxStreams = 1000

// StreamNames sorts the names for Streams and leaves out what is there twice. It fails if there are more than MaxStreams.
func StreamNames(streams []string) ([]string, error) {
	if len(streams) > MaxStreams {
		return nil, fmt.Errorf("%d streams are more than the %d that can be read at once", len(streams), MaxStreams)
	}
	return slices.Compact(slices.Sorted(slices.Values(streams))), nil
}

// SortByStream sorts events as Streams gives them. It takes no time if they are sorted already.
func SortByStream(events []Event) {
	order := func(a, b Event) int {
		return cmp.Or(cmp.Compare(a.Stream, b.Stream), cmp.Compare(a.Version, b.Version))
	}
	if !slices.IsSortedFunc(events, order) {
		slices.SortFunc(events, order)
	}
}
