// Package client speaks a Callchain server's REST API: what the commands, the benchmark and the tests need of it.
//
// It is for people and tests; the benchmark's hot path has a client of its own, because net/http costs more than the server.
package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// answerMax bounds what is read of one answer, in bytes.
const answerMax = 64 << 20

// HeaderCall names the call that an answer belongs to.
const HeaderCall = "Callchain-Rpc-Id"

// Client is one user at one server. It may be used from many goroutines.
type Client struct {
	base  string
	token string
	http  *http.Client
}

// New takes the server's address as users write it ("http://127.0.0.1:8080") and an access token, which may be empty.
func New(server, token string) (*Client, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("the server's address %q is no URL: write it like http://127.0.0.1:8080", server)
	}
	transport := &http.Transport{MaxIdleConns: 256, MaxIdleConnsPerHost: 256, IdleConnTimeout: 30 * time.Second, Proxy: http.ProxyFromEnvironment}
	return &Client{base: strings.TrimSuffix(server, "/"), token: token, http: &http.Client{Transport: transport}}, nil
}

// Base is the server's address without a slash at its end.
func (c *Client) Base() string { return c.base }

// Token is the access token, empty before Login.
func (c *Client) Token() string { return c.token }

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Error is an answer of the server that is no success. The fields but Status may be empty.
type Error struct {
	Status  int           `json:"status"`
	Message string        `json:"message"`
	Code    string        `json:"code"` // stable, snake_case
	Detail  string        `json:"detail"`
	Call    string        `json:"rpcId"`
	Retry   time.Duration `json:"-"`       // Retry-After, 0 if the server named none
	Reasons []string      `json:"reasons"` // of /readyz
	Faults  []struct {
		File    string `json:"file"`
		Line    int    `json:"line"`
		Column  int    `json:"column"`
		Node    string `json:"node"`
		Message string `json:"message"`
	} `json:"errors"`
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the server answered %d", e.Status)
	for _, part := range []string{e.Message, e.Code, e.Detail, strings.Join(e.Reasons, ", ")} {
		if part != "" {
			b.WriteString(": " + part)
		}
	}
	if e.Call != "" {
		b.WriteString(" (call " + e.Call + ")")
	}
	return b.String()
}

// StatusOf is the HTTP status of an *Error in err's chain, else 0.
func StatusOf(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}

// RetryAfterOf is how long the server asks to wait, by an *Error in err's chain; 0 if it does not.
func RetryAfterOf(err error) time.Duration {
	var e *Error
	if errors.As(err, &e) {
		return e.Retry
	}
	return 0
}

// Do sends in as JSON (nil: no body) and reads a JSON answer into out (nil: it is dropped). It fails with *Error, or with what
// kept it from reaching the server.
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("encoding the request: %w", err)
		}
	}
	answer, _, err := c.raw(ctx, method, path, "application/json", body, nil)
	if err != nil || out == nil || len(answer) == 0 {
		return err
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("reading the answer to %s %s: %w", method, path, err)
	}
	return nil
}

func (c *Client) raw(ctx context.Context, method, path, kind string, body []byte, more http.Header) ([]byte, http.Header, error) {
	resp, err := c.open(ctx, method, path, kind, body, more)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, answerMax+1))
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("reading the answer of %s: %w", c.base, err)
	case len(answer) > answerMax:
		return nil, nil, fmt.Errorf("the answer to %s %s has more than %d bytes", method, path, answerMax)
	}
	return answer, resp.Header, nil
}

// open sends a request and hands back the answer if it is a success; the caller closes its body.
func (c *Client) open(ctx context.Context, method, path, kind string, body []byte, more http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("building the request %s %s: %w", method, path, err)
	}
	for name, values := range more {
		req.Header[name] = values
	}
	if body != nil {
		req.Header.Set("Content-Type", kind)
	}
	if c.token != "" {
		req.Header.Set("X-Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // its text repeats method and address
		}
		return nil, fmt.Errorf("reaching %s: %w", c.base, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, readError(resp)
}

func readError(resp *http.Response) error {
	e := &Error{}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil || json.Unmarshal(text, e) != nil {
		e = &Error{Message: strings.TrimSpace(string(text))} // bare, as ThingsBoard's own answers are
	}
	e.Status = resp.StatusCode
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		e.Retry = time.Duration(seconds) * time.Second
	}
	if e.Call == "" {
		e.Call = resp.Header.Get(HeaderCall)
	}
	return e
}

// Tokens are what a login gives.
type Tokens struct {
	Token   string `json:"token"`
	Refresh string `json:"refreshToken"`
}

// Login gets tokens for a password; the client uses the access token from now on.
func (c *Client) Login(ctx context.Context, email, password string) (Tokens, error) {
	var t Tokens
	err := c.Do(ctx, http.MethodPost, "/api/auth/login", map[string]string{"username": email, "password": password}, &t)
	if err != nil {
		return t, fmt.Errorf("logging in as %s: %w", email, err)
	}
	c.token = t.Token
	return t, nil
}

// Ready asks /readyz; the error of a server that is not ready has its reasons.
func (c *Client) Ready(ctx context.Context) error {
	resp, err := c.open(ctx, http.MethodGet, "/readyz", "", nil, nil)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Gauge reads one measurement without labels from /metrics; ErrNoGauge if the server has none of that name.
func (c *Client) Gauge(ctx context.Context, name string) (float64, error) {
	text, _, err := c.raw(ctx, http.MethodGet, "/metrics", "", nil, nil)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("%w: %s", ErrNoGauge, name)
}

// ErrNoGauge: the server does not measure what was asked for.
var ErrNoGauge = errors.New("the server has no such measurement")

// Refresh gets new tokens for a refresh token; the client uses the access token from now on.
func (c *Client) Refresh(ctx context.Context, refresh string) (Tokens, error) {
	var t Tokens
	if err := c.Do(ctx, http.MethodPost, "/api/auth/token", map[string]string{"refreshToken": refresh}, &t); err != nil {
		return t, fmt.Errorf("refreshing the login: %w", err)
	}
	c.token = t.Token
	return t, nil
}

// LifeOf is how long an access token is still good for by its own claim; negative: it is over. The signature is not looked at.
func LifeOf(token string) (time.Duration, error) {
	var claims struct {
		Expires int64 `json:"exp"`
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return 0, errors.New("the token has no three parts")
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(text, &claims)
	}
	if err != nil {
		return 0, fmt.Errorf("reading the token: %w", err)
	}
	return time.Until(time.Unix(claims.Expires, 0)), nil
}
