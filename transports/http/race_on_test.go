//go:build race

package httpdevice_test

const raceEnabled = true
