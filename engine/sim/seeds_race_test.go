//go:build race

package sim_test

const seedsDefault = 60 // a world has one goroutine: the race detector only makes it slow
