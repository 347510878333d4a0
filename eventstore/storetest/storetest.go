// Package storetest is the suite that every eventstore.Store passes, nastiest case first. It is tried on stores with planted faults, too
// (storetest_test.go).
package storetest

import (
	"testing"

	"callchain/eventstore"
)

// Database makes a fresh, empty database and gives a function that opens a store on it. Stores opened by the same function share the
// database, as the nodes of a cluster do. The stores are closed and the database is removed when the test ends.
type Database func(t testing.TB) (open func() eventstore.Store)

// Tables are the tables of a database, and those of them that have the shapes that the suite needs.
type Tables struct {
	All    []*eventstore.Table
	Values *eventstore.Table // (UUID, Text, Text) is the key, then JSON and Int
	Times  *eventstore.Table // (UUID, Text) is the key, then JSON and Int; the columns entity, key and ts
	Flags  *eventstore.Table // (UUID, UUID) is the key; it has a column persistent, Bool
}

// Site is where a case runs: a fresh database.
type Site struct {
	Open   func() eventstore.Store // see Database
	Tables Tables
}

// Case is one promise of the contract.
type Case struct {
	Name string
	Run  func(t testing.TB, at Site)
}

// Cases lists the suite in its order.
func Cases() []Case {
	return []Case{
		{"a zombie appends between claim and load", zombieBetweenClaimAndLoad},
		{"a client stops in mid-append", clientStopsInMidAppend},
		{"a batch that was stored is appended again", storedBatchAgain},
		{"one fenced partition among eight", oneFencedAmongEight},
		{"a stale owner of the same epoch is fenced", staleOwnerIsFenced},
		{"the caller may use its slices after the append", callerKeepsItsSlices},
		{"thirty-two writers", thirtyTwoWriters},
		{"a reader misses nothing", readerMissesNothing},
		{"readers miss nothing while thirty-two write", readersAmongWriters},
		{"two writers begin the same stream", twoWritersBeginOneStream},
		{"a conflict leaves nothing behind", conflictLeavesNothing},
		{"a stream begins again in another month", streamBeginsInAnotherMonth},
		{"refused data leaves nothing behind", refusedDataLeavesNothing},
		{"a batch that contradicts itself", contradictoryBatch},
		{"claims grow epochs", claimsGrowEpochs},
		{"checkpoints come back whole", checkpointsComeBack},
		{"events come back byte for byte", eventsComeBack},
		{"reads are paged", readsArePaged},
		{"pages are bounded by bytes", pagesAreBounded},
		{"rows are written in their last state", rowsInLastState},
		{"rows of every table come back", rowsOfEveryTable},
		{"rows are found, sorted and paged", rowsAreQueried},
		{"flags are set, not set or unknown", flagsAreQueried},
		{"two partitions write one row", twoPartitionsWriteOneRow},
		{"a cancelled context stores nothing", cancelledContext},
		{"exclusive refuses a second holder", exclusiveRefusesSecond},
		{"those who share keep an exclusive holder out", sharedKeepsExclusiveOut},
		{"many streams are read at once", streamsAtOnce},
		{"the store is read while streams are read", readsWithinStreams},
		{"the database tells its time", nowIsTold},
		{"size, ping and close", sizePingClose},
		{"a sound store verifies", soundStoreVerifies},
	}
}

// Run runs the suite, each case on a database of its own.
func Run(t *testing.T, tables Tables, database Database) {
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) { c.Run(t, Site{database(t), tables}) })
	}
}
