//go:build race

package engine_test

const failuresEvery = 7 // the race detector makes it slow; 7 has no factor in common with the number of ways in which an operation fails
