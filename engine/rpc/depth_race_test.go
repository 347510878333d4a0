//go:build race

package rpc_test

const depthDefault = 4 // the race detector makes each order ten times as dear, and finds nothing more in pure code
