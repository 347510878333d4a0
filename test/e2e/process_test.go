package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"callchain/cmd/callchain/client"
	"callchain/test/program"
)

const (
	adminEmail    = "tenant@e2e.test"
	adminPassword = "e2e-password"
)

// place is where a server keeps its data and listens; it outlives the process.
type place struct {
	program     string // empty: the binary under test
	name        string // in the output of a test of several servers
	data, store string // data.dir, store.url
	http, mqtt  string
	coap        string // host:port
	flags       []string
	env         []string // NAME=value, over that of the test

	brokers, prefix string // of Kafka, if it is used
}

func newPlace(t *testing.T, flags ...string) *place {
	t.Helper()
	http, mqtt := program.TwoAddrs(t)
	return &place{data: t.TempDir(), http: http, mqtt: mqtt, coap: "127.0.0.1:0", flags: flags}
}

func (p *place) args(command ...string) []string {
	args := append(command, "--data.dir", p.data)
	if p.store != "" {
		args = append(args, "--store.url", p.store)
	}
	return args
}

// process is a running server.
type process struct {
	*place
	t       *testing.T
	cmd     *exec.Cmd
	ready   chan struct{}
	ended   chan struct{}
	started time.Time
	log     logText
	err     error // of Wait, once ended is closed
}

// logText keeps the end of what the server logs.
type logText struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logText) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.WriteString(line + "\n")
	if l.buf.Len() > 1<<20 {
		kept := l.buf.Bytes()[l.buf.Len()-1<<19:]
		_, kept, _ = bytes.Cut(kept, []byte("\n"))
		l.buf = *bytes.NewBuffer(bytes.Clone(kept))
	}
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// afterSettings is the log without the settings that a server prints first.
func (l *logText) afterSettings() string {
	text := l.String()
	if at := strings.Index(text, "\ntime="); at >= 0 {
		return text[at+1:]
	}
	return text
}

// launch starts a server and does not wait until it is ready.
func launch(t *testing.T, p *place) *process {
	t.Helper()
	s := &process{place: p, t: t, ready: make(chan struct{}), ended: make(chan struct{}), started: time.Now()}
	args := append(p.args("serve"), "--http.addr", p.http, "--mqtt.addr", p.mqtt, "--coap.addr", p.coap)
	program := binary
	if p.program != "" {
		program = p.program
	}
	s.cmd = exec.Command(program, append(args, p.flags...)...)
	s.cmd.Env = append(os.Environ(), "CALLCHAIN_ADMIN_EMAIL="+adminEmail, "CALLCHAIN_ADMIN_PASSWORD="+adminPassword)
	s.cmd.Env = append(s.cmd.Env, p.env...)
	out, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go s.follow(out)
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Logf("the log of the server %s, started %s:\n%s", p.name, s.started.Format(time.StampMilli), s.log.afterSettings())
		}
	})
	return s
}

func (s *process) follow(out io.Reader) {
	defer close(s.ended)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		s.log.add(lines.Text())
		if strings.Contains(lines.Text(), "msg=ready ") {
			close(s.ready)
		}
	}
	s.err = s.cmd.Wait()
}

// start starts a server and waits until it is ready.
func start(t *testing.T, p *place) *process {
	t.Helper()
	s := launch(t, p)
	select {
	case <-s.ready:
	case <-s.ended:
		t.Fatalf("the server ended before it was ready:\n%s", s.log.String())
	case <-time.After(20 * time.Second):
		t.Fatalf("the server is not ready after 20 s:\n%s", s.log.String())
	}
	return s
}

// kill ends the process as a power cut does.
func (s *process) kill() {
	_ = s.cmd.Process.Kill() // it may have ended already
	<-s.ended
}

// stop ends it as an operator does, and gives the exit status.
func (s *process) stop() int {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatalf("stopping the server: %v", err)
	}
	select {
	case <-s.ended:
	case <-time.After(10 * time.Second):
		s.t.Fatal("the server has not ended 10 s after SIGTERM")
	}
	return exitStatus(s.err)
}

func exitStatus(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}

// login is a client of the server's administrator.
func (p *place) login(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.New("http://"+p.http, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Login(t.Context(), adminEmail, adminPassword); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// command runs the binary to its end, 30 s at most.
func command(t *testing.T, env []string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	return commandWithin(t, 30*time.Second, env, args...)
}

func commandWithin(t *testing.T, most time.Duration, env []string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), most)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("callchain %s did not end: %s", strings.Join(args, " "), errs.String())
	}
	return exitStatus(err), out.String(), errs.String()
}

// eventually waits until check gives an empty reason, looking again every 20 ms.
func eventually(t *testing.T, most time.Duration, check func() (notYet string)) {
	t.Helper()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	late := time.After(most)
	for {
		reason := check()
		if reason == "" {
			return
		}
		select {
		case <-look.C:
		case <-late:
			t.Fatalf("not within %s: %s", most, reason)
		}
	}
}
