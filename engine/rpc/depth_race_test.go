//go:build race

package rpc_test

const depthDefault = 5 // the race detector makes each order ten times as dear
