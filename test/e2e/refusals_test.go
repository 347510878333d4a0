package e2e_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"callchain/cmd/callchain/client"
	"callchain/eventstore/pgtest"
	"callchain/registry"
	"callchain/registry/auth"
)

// oneLine is true of a message that an operator can read in a log of the service manager.
func oneLine(text string) bool {
	return strings.Count(text, "\n") == 1 && strings.HasPrefix(text, "callchain: ")
}

func TestBadSettings(t *testing.T) {
	needsBinary(t)
	file := filepath.Join(t.TempDir(), "callchain.yaml")
	if err := os.WriteFile(file, []byte("http:\n  adr: 127.0.0.1:0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		env  []string
		args []string
		want string
	}{
		{"unknown key in the file", nil, []string{"--config", file}, "http.adr"},
		{"bad value of a flag", nil, []string{"--rpc.max_retries", "900"}, "rpc.max_retries"},
		{"unknown name in the environment", []string{"CALLCHAIN_HTTP_ADRR=x"}, nil, "CALLCHAIN_HTTP_ADDR"},
		{"unknown flag", nil, []string{"--htp.addr", "x"}, "htp.addr"},
		{"file that is not there", nil, []string{"--config", file + ".not"}, file + ".not"},
		{"superfluous argument", nil, []string{"here"}, "serve"},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := append([]string{"serve", "--data.dir", filepath.Join(t.TempDir(), "data")}, test.args...)
			status, _, errs := command(t, test.env, args...)
			if status != 2 || !oneLine(errs) || !strings.Contains(errs, test.want) {
				t.Errorf("status %d, want 2 and one line with %q:\n%s", status, test.want, errs)
			}
		})
	}
}

// lastLine is what serve says behind its settings.
func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

func TestPortInUse(t *testing.T) {
	needsBinary(t)
	p := newPlace(t)
	p.coap = freePacketAddr(t)
	start(t, p)
	other := newPlace(t)
	for key, addr := range map[string]string{"http.addr": p.http, "mqtt.addr": p.mqtt, "coap.addr": p.coap} {
		args := append(other.args("serve"), "--http.addr", other.http, "--mqtt.addr", other.mqtt, "--coap.addr", "127.0.0.1:0", "--"+key, addr)
		status, _, errs := command(t, nil, args...)
		line := lastLine(errs)
		if status != 1 || !strings.HasPrefix(line, "callchain: ") || !strings.Contains(line, key+" "+addr) || !strings.Contains(line, "in use") {
			t.Errorf("%s: status %d, want 1 and a line with key and address: %s", key, status, line)
		}
	}
}

func TestSecondServerOnOneFolder(t *testing.T) {
	needsBinary(t)
	p := newPlace(t)
	secondServer(t, p, p, p.data)
}

// The folders differ, the database is the same.
func TestSecondServerOnOneDatabase(t *testing.T) {
	needsBinary(t)
	p, other := newPlace(t), newPlace(t)
	p.store = pgtest.Database(t)
	other.store = p.store
	u, err := url.Parse(p.store)
	if err != nil {
		t.Fatal(err)
	}
	secondServer(t, p, other, u.Host+u.Path)
}

// secondServer starts a server on p and one at other, which must refuse and name the place; the first one goes on.
func secondServer(t *testing.T, p, other *place, named string) {
	t.Helper()
	server := start(t, p)
	args := append(other.args("serve"), "--http.addr", "127.0.0.1:0", "--mqtt.addr", "127.0.0.1:0", "--coap.addr", "127.0.0.1:0")
	status, _, errs := command(t, nil, args...)
	if line := lastLine(errs); status != 1 || !strings.Contains(line, named) || !strings.Contains(line, "in use") {
		t.Errorf("status %d, want 1 and a line that names %s: %s", status, named, line)
	}
	if err := server.login(t).Ready(t.Context()); err != nil {
		t.Errorf("the first server suffered: %v", err)
	}
	if status := server.stop(); status != 0 {
		t.Errorf("the first server ended with status %d", status)
	}
}

// request sends raw bytes and gives the status and the body.
func request(t *testing.T, method, url, token string, body io.Reader) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("X-Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, text
}

// errorBody is what every refusal on the users' API carries.
func errorBody(t *testing.T, text []byte, status int, code string) {
	t.Helper()
	var e struct {
		Status    int    `json:"status"`
		Message   string `json:"message"`
		ErrorCode int    `json:"errorCode"`
		Timestamp int64  `json:"timestamp"`
		Code      string `json:"code"`
	}
	if err := json.Unmarshal(text, &e); err != nil || e.Status != status || e.Message == "" || e.ErrorCode == 0 || e.Timestamp == 0 || e.Code != code {
		t.Errorf("the body is %s, want status %d and code %s (%v)", text, status, code, err)
	}
}

func TestBadRequests(t *testing.T) {
	needsBinary(t)
	server := start(t, newPlace(t, "--limits.http_body", "4096"))
	rest := server.login(t)
	d, err := rest.CreateDevice(t.Context(), client.Device{Name: "d", Type: "default"}, "bad-requests")
	if err != nil {
		t.Fatal(err)
	}
	twoway := rest.Base() + "/api/rpc/twoway/" + d.ID.ID
	parts := strings.Split(rest.Token(), ".")
	large := []byte(`{"method":"m","params":"` + strings.Repeat("x", 8192) + `"}`)
	for _, test := range []struct {
		name, token string
		body        io.Reader
		status      int
		code        string
	}{
		{"no token", "", strings.NewReader(`{"method":"m"}`), 401, "unauthenticated"},
		{"garbled token", "garbled", strings.NewReader(`{"method":"m"}`), 401, "bad_credentials"},
		{"foreign signature", parts[0] + "." + parts[1] + "." + strings.Repeat("A", len(parts[2])), strings.NewReader(`{"method":"m"}`), 401, "token_expired"},
		{"no JSON", rest.Token(), strings.NewReader("{method}"), 400, "invalid_body"},
		{"no method", rest.Token(), strings.NewReader(`{"params":{}}`), 400, "invalid_body"},
		{"too large", rest.Token(), bytes.NewReader(large), 413, "payload_too_large"},
		{"too large, length not told", rest.Token(), io.MultiReader(bytes.NewReader(large)), 413, "payload_too_large"},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, text := request(t, http.MethodPost, twoway, test.token, test.body)
			if status != test.status {
				t.Errorf("status %d, want %d: %s", status, test.status, text)
			}
			errorBody(t, text, test.status, test.code)
		})
	}
}

// TestExpiredToken shows a token that the server itself could have made three hours ago.
func TestExpiredToken(t *testing.T) {
	needsBinary(t)
	p := newPlace(t)
	rest := start(t, p).login(t)
	status, text := request(t, http.MethodGet, rest.Base()+"/api/auth/user", oldToken(t, p, 3*time.Hour), nil)
	if status != 401 {
		t.Errorf("status %d, want 401: %s", status, text)
	}
	errorBody(t, text, 401, "token_expired")
	if status, text := request(t, http.MethodGet, rest.Base()+"/api/auth/user", oldToken(t, p, time.Hour), nil); status != 200 {
		t.Errorf("with a token that is an hour old: status %d: %s", status, text)
	}
}

// oldToken signs with the server's own key, which it reads beside it.
func oldToken(t *testing.T, p *place, age time.Duration) string {
	t.Helper()
	key, err := registry.KeyFile(filepath.Join(p.data, "auth.key"))
	if err != nil {
		t.Fatal(err)
	}
	r, db, err := registry.OpenSQLite(t.Context(), filepath.Join(p.data, "registry.db"), registry.Options{Partitions: 64, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	user, err := r.UserByEmail(t.Context(), adminEmail)
	if err != nil {
		t.Fatal(err)
	}
	signing, err := r.Key(t.Context(), registry.SigningKey)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := auth.NewIssuer(auth.Config{Key: signing, Now: func() time.Time { return time.Now().Add(-age) }})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := issuer.Issue(user, "")
	if err != nil {
		t.Fatal(err)
	}
	return pair.Access
}

// TestGracefulStop: a waiting caller gets 503 with the id of its call, which goes on at the next start.
func TestGracefulStop(t *testing.T) {
	needsBinary(t)
	p := newPlace(t)
	server := start(t, p)
	rest := server.login(t)
	d, err := rest.CreateDevice(t.Context(), client.Device{Name: "away", Type: "default"}, "away")
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := rest.Send(t.Context(), d.ID.ID, false, client.CallRequest{Method: "wait", Timeout: 20_000})
		answered <- err
	}()
	stored, err := rest.Send(t.Context(), d.ID.ID, false, client.CallRequest{Method: "stored", Persistent: true, Timeout: 600_000})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, func() string {
		status, text := request(t, http.MethodGet, rest.Base()+"/metrics", "", nil)
		if status != 200 || !bytes.Contains(text, []byte(`callchain_events_total{type="Queued"} 2`)) {
			return "the light call is not queued yet"
		}
		return ""
	})
	if status := server.stop(); status != 0 {
		t.Errorf("the server ended with status %d", status)
	}
	err = <-answered
	if client.StatusOf(err) != 503 || !strings.Contains(err.Error(), "(call ") {
		t.Errorf("the waiting caller got %v, want a 503 that names its call", err)
	}
	server = start(t, p)
	call, err := server.login(t).Call(t.Context(), stored.ID)
	if err != nil || call.Phase != "queued" {
		t.Errorf("after the restart the stored call is %s: %v", call.Phase, err)
	}
}
