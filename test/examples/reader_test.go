package examples

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"callchain/test/program"
)

const (
	patience  = 90 * time.Second // for one block
	building  = 5 * time.Minute  // for one that compiles, without a cache
	lookAgain = 50 * time.Millisecond
	farewell  = 15 * time.Second // for a program that was told to end
)

// reader is somebody who works through a page: one terminal for what is typed after the other, and one more for each program that stays.
type reader struct {
	t       *testing.T
	dir     string // looks like the project's root
	env     []string
	address *strings.Replacer // default addresses to those of this run
	shell   *exec.Cmd
	typed   io.WriteCloser
	said    chan string // what the shell confirms; closed when it has ended
	count   int
}

// newReader makes a folder that looks like the project's root, with the binary where make build puts it, and opens a terminal there. The
// services are pairs: what the page calls one, and what it is in this run.
func newReader(t *testing.T, services ...string) *reader {
	t.Helper()
	http, mqtt := program.TwoAddrs(t)
	coap := freePacketAddr(t)
	_, mqttPort, _ := net.SplitHostPort(mqtt)
	r := &reader{t: t, dir: t.TempDir(), said: make(chan string, 1)}
	r.address = strings.NewReplacer(append(services, "127.0.0.1:8080", http, "127.0.0.1:1883", mqtt, "-p 1883", "-p "+mqttPort,
		"127.0.0.1:5683", coap, "coap://127.0.0.1/", "coap://"+coap+"/")...)
	r.link("examples", "go.mod", "go.sum", "Makefile", "chains")
	if err := os.Mkdir(filepath.Join(r.dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binary, filepath.Join(r.dir, "bin/callchain")); err != nil {
		t.Fatal(err)
	}
	r.env = append(os.Environ(), "CALLCHAIN_HTTP_ADDR="+http, "CALLCHAIN_MQTT_ADDR="+mqtt, "CALLCHAIN_COAP_ADDR="+coap, "CALLCHAIN_URL=http://"+http,
		"XDG_CONFIG_HOME="+filepath.Join(r.dir, ".config"), "GOFLAGS=-buildvcs=false", "PYTHONDONTWRITEBYTECODE=1", "PROJECT="+root,
		"PYTHON="+python)
	r.open()
	return r
}

func (r *reader) link(names ...string) {
	for _, name := range names {
		if err := os.Symlink(filepath.Join(root, name), filepath.Join(r.dir, name)); err != nil {
			r.t.Fatal(err)
		}
	}
}

func freePacketAddr(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().String()
}

// prelude is what a terminal of the reader knows: Python with paho, a make that builds into this folder, and programs that write line by line
// as they do where somebody looks; a mistake ends it.
const prelude = `set -euo pipefail
mosquitto_sub() { stdbuf -oL mosquitto_sub "$@"; }
python3() { "$PYTHON" "$@"; }
make() { rm -f bin/callchain; command make --no-print-directory -C "$PROJECT" "$@" BINARY="$PWD/bin/callchain"; }
go() { (cd "$PROJECT" && command go "$@"); }
`

// open starts the terminal. It is a process group of its own, so that all that it starts ends with it.
func (r *reader) open() {
	r.shell = r.bash()
	typed, err := r.shell.StdinPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	out, err := r.shell.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.shell.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.typed = typed
	go func() {
		defer close(r.said)
		for one := make([]byte, 1); ; {
			if _, err := out.Read(one); err != nil {
				return
			}
			r.said <- string(one)
		}
	}()
	r.t.Cleanup(func() {
		_ = syscall.Kill(-r.shell.Process.Pid, syscall.SIGKILL) // it may have ended already
		_ = r.shell.Wait()                                      // it was killed
	})
	fmt.Fprint(r.typed, prelude)
}

func (r *reader) bash() *exec.Cmd {
	cmd := exec.Command("bash", "--norc")
	cmd.Dir, cmd.Env = r.dir, r.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// follow works through a page.
func (r *reader) follow(page string, blocks []block) {
	r.t.Helper()
	for _, b := range blocks {
		switch {
		case b.skip != "":
			r.t.Logf("%s:%d is not run: %s", page, b.line, b.skip)
		case b.background:
			r.leave(page, b)
		default:
			r.typeIn(page, b)
		}
		if r.t.Failed() {
			return // what follows builds on it
		}
	}
}

// typeIn runs a block to its end and compares what it showed.
func (r *reader) typeIn(page string, b block) {
	r.t.Helper()
	most := longest(b)
	late := time.After(most)
	for {
		out, ended := r.once(b, late)
		switch {
		case !ended:
			r.t.Fatalf("%s:%d failed, or did not end in %s:\n%s\nit said:\n%s", page, b.line, most, b.text, out)
		case !b.compared:
			return
		}
		line := missing(r.address.Replace(b.want), out, false)
		if line == "" {
			return
		}
		if !b.eventually {
			r.t.Fatalf("%s:%d shows no line\n%s\nin its place; it said:\n%s", page, b.line, line, out)
		}
		select {
		case <-time.After(lookAgain):
		case <-late:
			r.t.Fatalf("%s:%d still shows no line %q; it said:\n%s", page, b.line, line, out)
		}
	}
}

// longest is how long a block may take.
func longest(b block) time.Duration {
	if strings.Contains(b.text, "make build") || strings.Contains(b.text, "go run ") {
		return building
	}
	return patience
}

// once runs a block in the terminal, which keeps its variables for the next one.
func (r *reader) once(b block, late <-chan time.Time) (out string, ended bool) {
	r.t.Helper()
	r.count++
	file := filepath.Join(r.dir, fmt.Sprintf(".block-%d", r.count))
	if err := os.WriteFile(file, []byte(r.address.Replace(b.text)+"\n"), 0o600); err != nil {
		r.t.Fatal(err)
	}
	fmt.Fprintf(r.typed, "source %s </dev/null >%s.out 2>&1; printf .\n", file, file)
	select {
	case _, ended = <-r.said:
	case <-late:
	}
	return r.text(file + ".out"), ended
}

func (r *reader) text(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		r.t.Logf("the block left nothing: %v", err)
	}
	return string(text)
}

// screen is what a program in a terminal of its own has said so far.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write takes up to 1 MiB.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.text.Len() < 1<<20 {
		s.text.Write(p)
	}
	return len(p), nil
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// leave starts a program in a terminal of its own and waits until it shows what the page shows. It ends with the page, as with Ctrl-C.
func (r *reader) leave(page string, b block) {
	r.t.Helper()
	cmd, out := r.bash(), &screen{}
	cmd.Stdin = strings.NewReader(prelude + r.address.Replace(b.text) + "\n")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // what it says is looked at, and what it leaves undone
	}()
	r.t.Cleanup(func() { r.end(page, b, cmd.Process.Pid, ended, out) })
	late := time.After(longest(b))
	for missing(r.address.Replace(b.want), out.String(), true) != "" {
		select {
		case <-time.After(lookAgain):
		case <-ended:
			r.t.Fatalf("%s:%d ended:\n%s", page, b.line, out)
		case <-late:
			r.t.Fatalf("%s:%d does not show\n%s\nit said:\n%s", page, b.line, missing(r.address.Replace(b.want), out.String(), true), out)
		}
	}
}

func (r *reader) end(page string, b block, group int, ended chan struct{}, out *screen) {
	_ = syscall.Kill(-group, syscall.SIGINT) // it may have ended already
	select {
	case <-ended:
	case <-time.After(farewell):
		r.t.Errorf("%s:%d does not end with Ctrl-C", page, b.line)
		_ = syscall.Kill(-group, syscall.SIGKILL) // as above
		<-ended
	}
	if r.t.Failed() {
		r.t.Logf("%s:%d said:\n%s", page, b.line, out)
	}
}
