//go:build race

package engine_test

const failuresEvery = failuresQuick // the race detector makes them slow
