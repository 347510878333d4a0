package command

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"callchain/cmd/callchain/client"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

// serverDefault is where a server listens that was started without settings.
const serverDefault = "http://127.0.0.1:8080"

// session is what login keeps in the user's config folder.
type session struct {
	URL     string `json:"url"`
	Token   string `json:"token"`
	Refresh string `json:"refreshToken"`
}

// sessionFile is callchain/login.json in the user's config folder.
func (a *app) sessionFile() (string, error) {
	dir := a.getenv("XDG_CONFIG_HOME")
	if dir == "" {
		var err error
		if dir, err = os.UserConfigDir(); err != nil {
			return "", fmt.Errorf("finding the config folder: %w", err)
		}
	}
	return filepath.Join(dir, "callchain", "login.json"), nil
}

// readSession gives an empty session if nobody has logged in.
func (a *app) readSession() (session, error) {
	path, err := a.sessionFile()
	if err != nil {
		return session{}, err
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return session{}, nil
	}
	var s session
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		return s, fmt.Errorf("reading %s: %w; log in again", path, err)
	}
	return s, nil
}

func (a *app) writeSession(s session) (string, error) {
	path, err := a.sessionFile()
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(s)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("keeping the login: %w", err)
	}
	beside := path + "." + uuid.NewString()[:8] // a crash leaves the old file whole
	if err := os.WriteFile(beside, append(text, '\n'), 0o600); err != nil {
		return "", fmt.Errorf("keeping the login: %w", err)
	}
	if err := os.Rename(beside, path); err != nil {
		return "", fmt.Errorf("keeping the login: %w", err)
	}
	return path, nil
}

// serverFlags name the server of a command.
func (a *app) serverFlags(c *cobra.Command) *cobra.Command {
	c.Flags().StringVar(&a.url, "url", "", "server, like "+serverDefault+" (or CALLCHAIN_URL, or the one of callchain login)")
	c.Flags().StringVar(&a.token, "token", "", "access token (or CALLCHAIN_TOKEN, or the one of callchain login)")
	return c
}

// client is for the server that flags, environment or the last login name, in this order.
func (a *app) client(ctx context.Context) (*client.Client, error) {
	saved, err := a.readSession()
	if err != nil {
		return nil, err
	}
	url, token := a.server(saved)
	if token != "" {
		return newClient(url, token)
	}
	if saved.Token == "" || saved.URL != url {
		return nil, fmt.Errorf("not logged in at %s: run callchain login --url %s, or set CALLCHAIN_TOKEN", url, url)
	}
	c, err := newClient(url, saved.Token)
	if err != nil {
		return nil, err
	}
	return a.refreshed(ctx, c, saved)
}

func (a *app) server(saved session) (url, token string) {
	for _, candidate := range []string{a.url, a.getenv("CALLCHAIN_URL"), saved.URL, serverDefault} {
		if url = strings.TrimSuffix(candidate, "/"); url != "" {
			break
		}
	}
	if token = a.token; token == "" {
		token = a.getenv("CALLCHAIN_TOKEN")
	}
	return url, token
}

func newClient(url, token string) (*client.Client, error) {
	c, err := client.New(url, token)
	if err != nil {
		return nil, usageError{err}
	}
	return c, nil
}

// refreshed lets a login of last week go on: an access token lives for hours, a refresh token for days.
func (a *app) refreshed(ctx context.Context, c *client.Client, saved session) (*client.Client, error) {
	left, err := client.LifeOf(saved.Token)
	if err != nil || left > 0 || saved.Refresh == "" {
		return c, nil //nolint:nilerr // a token that cannot be read is for the server to refuse
	}
	t, err := c.Refresh(ctx, saved.Refresh)
	if err != nil {
		return nil, fmt.Errorf("the login at %s is over: log in again (%w)", saved.URL, err)
	}
	if _, err := a.writeSession(session{saved.URL, t.Token, t.Refresh}); err != nil {
		return nil, err
	}
	return c, nil
}

func (a *app) login() *cobra.Command {
	var email, file string
	c := &cobra.Command{
		Use: "login", Short: "Log in at a server and remember it", Args: args(0, 0),
		Long: `Log in at a server. The token is kept in the config folder of the user (mode 0600); the other commands use it.
The password is read from --password-file, or else asked for (one line of standard input).`,
		Example: `  callchain login --password-file data/admin-password
  callchain login --url https://rpc.example.com --email jo@example.com`,
	}
	c.Flags().StringVar(&email, "email", "admin@localhost", "user")
	c.Flags().StringVar(&file, "password-file", "", "file that holds the password, like the one that the first start writes")
	c.Flags().StringVar(&a.url, "url", "", "server, "+serverDefault+" by default (or CALLCHAIN_URL)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		password, err := a.password(c.Context(), email, file)
		if err != nil {
			return err
		}
		url, _ := a.server(session{})
		server, err := newClient(url, "")
		if err != nil {
			return err
		}
		t, err := server.Login(c.Context(), email, password)
		if err != nil {
			return err
		}
		path, err := a.writeSession(session{url, t.Token, t.Refresh})
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON(map[string]string{"url": url, "email": email, "file": path})
		}
		a.printf("logged in at %s as %s; the token is in %s\n", url, email, path)
		return nil
	}
	return c
}

func (a *app) password(ctx context.Context, email, file string) (string, error) {
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("reading the password: %w", err)
		}
		return strings.TrimRight(string(text), "\r\n"), nil
	}
	fmt.Fprintf(a.Err, "password of %s: ", email)
	line, err := a.hiddenLine(ctx)
	fmt.Fprintln(a.Err)
	if errors.Is(err, errInterrupted) {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	const none = "no password: type it, or name a file with --password-file"
	switch {
	case line == "" && err != nil:
		return "", wrongUse(none+" (%w)", err)
	case line == "":
		return "", wrongUse(none)
	}
	return line, nil
}

var errInterrupted = errors.New("interrupted")

// hiddenLine reads a line that the terminal does not show. When it ends, also by Ctrl-C, the terminal shows again what is typed.
func (a *app) hiddenLine(ctx context.Context) (string, error) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer stop()
	defer hideInput(a.In)()
	type typed struct {
		line string
		err  error
	}
	came := make(chan typed, 1)
	go func() { // it ends with the process if nothing is typed any more
		line, err := bufio.NewReader(a.In).ReadString('\n')
		came <- typed{line, err}
	}()
	select {
	case t := <-came:
		return t.line, t.err
	case <-ctx.Done():
		return "", errInterrupted
	}
}
