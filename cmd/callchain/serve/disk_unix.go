//go:build linux || darwin || freebsd

package serve

import "golang.org/x/sys/unix"

// fileSystem is the size of the file system that holds dir, and what is free for this process.
func fileSystem(dir string) (total, free int64, ok bool) {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return 0, 0, false
	}
	block := int64(st.Bsize) //nolint:unconvert // its type differs by system
	return int64(st.Blocks) * block, int64(st.Bavail) * block, true
}
