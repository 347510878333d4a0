//go:build !race

package rpc_test

const depthDefault = 6
