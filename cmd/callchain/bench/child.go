package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"

	"callchain/cmd/callchain/client"

	"github.com/google/uuid"
)

// Child is a server in a process of its own.
type Child struct {
	Client *client.Client // logged in
	MQTT   string
	PID    int
	cmd    *exec.Cmd
	folder string
	read   chan struct{} // its log was read to the end
}

// How long a server may take to be ready, and to end.
const (
	startMax = 60 * time.Second
	stopMax  = 15 * time.Second
)

// readyLine is what the server logs when it is ready, in the form of log.format text.
var readyLine = regexp.MustCompile(`msg=ready http=(\S+) mqtt=(\S+)`)

// On is what a server runs on; empty: on nothing but its folder.
type On struct {
	StoreURL string // store.url
	Brokers  string // bus.kafka.brokers; the topics are new ones, which stay there
}

// Programs are the names of the programs that work for the server on this machine.
func (on On) Programs() (names []string) {
	if strings.HasPrefix(on.StoreURL, "postgres") {
		names = append(names, "postgres")
	}
	if on.Brokers != "" {
		names = append(names, "java")
	}
	return names
}

// StartServer starts this program as a server on free ports, in a temporary folder, and waits until it is ready. What it logs, and why it ended, goes to
// log.
func StartServer(ctx context.Context, on On, log io.Writer) (*Child, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	folder, err := os.MkdirTemp("", "callchain-bench-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for the server: %w", err)
	}
	password := uuid.NewString()
	c := &Child{folder: folder, read: make(chan struct{})}
	c.cmd = exec.CommandContext(ctx, program, "serve", "--data.dir", folder, "--http.addr", "127.0.0.1:0", "--mqtt.addr", "127.0.0.1:0", "--coap.addr", "",
		"--log.format", "text", "--log.level", "info") // readyLine is looked for
	c.cmd.Env = append(os.Environ(), "CALLCHAIN_ADMIN_EMAIL=bench@localhost", "CALLCHAIN_ADMIN_PASSWORD="+password, "CALLCHAIN_STORE_URL="+on.StoreURL)
	if on.Brokers != "" {
		c.cmd.Env = append(c.cmd.Env, "CALLCHAIN_BUS_KAFKA_BROKERS="+on.Brokers, "CALLCHAIN_BUS_KAFKA_PREFIX=bench-"+uuid.NewString()[:8]+".")
	}
	c.cmd.Cancel = func() error { return c.cmd.Process.Signal(syscall.SIGTERM) }
	c.cmd.WaitDelay = stopMax
	out, err := c.cmd.StderrPipe()
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting the server: %w", err), os.RemoveAll(folder))
	}
	c.PID = c.cmd.Process.Pid
	if err := c.await(ctx, out, log, password); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

// await reads the server's log until it is ready, and logs in.
func (c *Child) await(ctx context.Context, out io.Reader, log io.Writer, password string) error {
	ready := make(chan []string, 1)
	go func() {
		defer close(c.read)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if m := readyLine.FindStringSubmatch(lines.Text()); m != nil {
				ready <- m
			} else if strings.HasPrefix(lines.Text(), "time=") || strings.HasPrefix(lines.Text(), "callchain: ") { // not of the settings
				fmt.Fprintln(log, "server:", lines.Text())
			}
		}
	}()
	var addresses []string
	select {
	case addresses = <-ready:
	case <-c.read:
		return errors.New("the server ended before it was ready")
	case <-timer(startMax):
		return fmt.Errorf("the server was not ready within %s", startMax)
	case <-ctx.Done():
		return ctx.Err()
	}
	var err error
	c.MQTT = addresses[2]
	if c.Client, err = client.New("http://"+addresses[1], ""); err != nil {
		return err
	}
	_, err = c.Client.Login(ctx, "bench@localhost", password)
	return err
}

// Stop ends the server and removes its folder.
func (c *Child) Stop() error {
	err := c.cmd.Process.Signal(syscall.SIGTERM)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	kill := time.AfterFunc(stopMax, func() {
		_ = c.cmd.Process.Kill() // it may have ended just now
	})
	defer kill.Stop()
	<-c.read
	if waiting := c.cmd.Wait(); waiting != nil && err == nil {
		err = fmt.Errorf("the server ended badly: %w", waiting)
	}
	return errors.Join(err, os.RemoveAll(c.folder))
}
