package command

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal opens a pseudo terminal: what a program reads from, and the side of who types.
func terminal(t *testing.T) (in, keys *os.File) {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("NOT RUN: there are no pseudo terminals here: %v", err)
	}
	number, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		in, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(in.Close(), keys.Close()); err != nil {
			t.Error(err)
		}
	})
	return in, keys
}

func shows(t *testing.T, terminal *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

// TestPasswordIsNotShown: not while it is typed; afterwards the terminal shows what is typed, also after Ctrl-C.
func TestPasswordIsNotShown(t *testing.T) {
	for name, end := range map[string]func(keys *os.File) error{
		"typed":  func(keys *os.File) error { _, err := keys.WriteString("secret\n"); return err },
		"Ctrl-C": func(*os.File) error { return syscall.Kill(os.Getpid(), syscall.SIGINT) },
	} {
		t.Run(name, func(t *testing.T) {
			in, keys := terminal(t)
			var said bytes.Buffer
			a := &app{Process: Process{In: in, Err: &said}}
			type result struct {
				password string
				err      error
			}
			ended := make(chan result, 1)
			go func() {
				password, err := a.password(t.Context(), "jo@example.com", "")
				ended <- result{password, err}
			}()
			for late := time.After(10 * time.Second); shows(t, in); {
				select {
				case <-time.After(time.Millisecond):
				case <-late:
					t.Fatal("the terminal shows what is typed")
				}
			}
			if err := end(keys); err != nil {
				t.Fatal(err)
			}
			got := <-ended
			if name == "typed" && (got.password != "secret" || got.err != nil) || name == "Ctrl-C" && !errors.Is(got.err, errInterrupted) {
				t.Errorf("the password is %q, %v", got.password, got.err)
			}
			if !shows(t, in) {
				t.Error("the terminal does not show any more what is typed")
			}
			if !strings.HasSuffix(said.String(), "\n") {
				t.Errorf("what comes next is on the line of the question: %q", said.String())
			}
		})
	}
}
