// Package standard holds the chain that a new tenant begins with.
package standard

import _ "embed"

// Root is the definition of the default root chain as YAML. It does what ThingsBoard's does: telemetry and client attributes
// are stored, calls to devices are sent, calls of devices and unknown messages are logged.
//
//go:embed root.yaml
var Root []byte
