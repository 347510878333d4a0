//go:build !linux && !darwin && !freebsd

package serve

// fileSystem is not known here.
func fileSystem(string) (total, free int64, ok bool) { return 0, 0, false }
