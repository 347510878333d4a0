//go:build !linux

package command

import "io"

// hideInput does nothing here: what is typed shows.
func hideInput(io.Reader) (show func()) { return func() {} }
