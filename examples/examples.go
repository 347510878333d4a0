// Package examples holds the example rule chains, so that the demo runs what users can read and copy.
package examples

import _ "embed"

// GetTime answers a device's call "getTime" and passes applications' calls on to the device.
//
//go:embed chains/gettime.yaml
var GetTime []byte
