//go:build !race

package engine_test

const failuresEvery = 1
