package command

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// hideInput stops the terminal from showing what is typed, until show is called. Where there is no terminal, nothing is shown anyway.
func hideInput(in io.Reader) (show func()) {
	file, ok := in.(*os.File)
	if !ok {
		return func() {}
	}
	fd := int(file.Fd())
	was, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return func() {}
	}
	hidden := *was
	hidden.Lflag &^= unix.ECHO
	if unix.IoctlSetTermios(fd, unix.TCSETS, &hidden) != nil {
		return func() {}
	}
	return func() {
		_ = unix.IoctlSetTermios(fd, unix.TCSETS, was) // it worked a moment ago
	}
}
