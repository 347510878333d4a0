package httpdevice_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"callchain/transports"
	httpdevice "callchain/transports/http"
	"callchain/transports/transporttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const suiteBody = 64 << 10

// start runs a server until the test ends, with the default limits as change leaves them.
func start(t testing.TB, auth transports.Authenticator, in transports.Inbound, change func(*httpdevice.Config)) (*httpdevice.Server, string) {
	t.Helper()
	cfg := httpdevice.Default()
	if change != nil {
		change(&cfg)
	}
	s, err := httpdevice.New(cfg, auth, in, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s)
	t.Cleanup(func() {
		s.Stop()
		h.Close()
		if st := s.Stats(); st.Polls != 0 || st.Sessions != 0 {
			t.Errorf("after the end there are %d polls and %d sessions", st.Polls, st.Sessions)
		}
	})
	return s, h.URL
}

// answered is what a device was told.
type answered struct {
	status int
	header http.Header
	body   string
}

func (a answered) String() string { return fmt.Sprintf("%d %q", a.status, a.body) }

// double is a device that polls for calls and for updates.
type double struct {
	base     string
	client   *http.Client
	commands chan transporttest.Received
	answers  chan transporttest.Answer
	updates  chan []byte
	ctx      context.Context
	drop     context.CancelFunc
	loops    sync.WaitGroup
}

func newDouble(t testing.TB, addr, token string) *double {
	d := &double{
		base: addr + "/api/v1/" + url.PathEscape(token), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}},
		commands: make(chan transporttest.Received, 64), answers: make(chan transporttest.Answer, 64), updates: make(chan []byte, 64),
	}
	d.ctx, d.drop = context.WithCancel(context.Background())
	t.Cleanup(func() {
		d.drop()
		d.loops.Wait()
		d.client.CloseIdleConnections()
	})
	return d
}

// ask sends one request and reads the answer.
func (d *double) ask(ctx context.Context, method, path string, body []byte) (answered, error) {
	r, err := http.NewRequestWithContext(ctx, method, d.base+path, bytes.NewReader(body))
	if err != nil {
		return answered{}, err
	}
	resp, err := d.client.Do(r)
	if err != nil {
		return answered{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answered{resp.StatusCode, resp.Header, string(text)}, err
}

// must is ask where the connection holds.
func (d *double) must(t testing.TB, method, path, body string) answered {
	t.Helper()
	a, err := d.ask(d.ctx, method, path, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// want is must with an answer that is known.
func (d *double) want(t testing.TB, method, path, body string, status int, text string) answered {
	t.Helper()
	a := d.must(t, method, path, body)
	if a.status != status || a.body != text {
		t.Fatalf("%s %s %.60q: %s, want %d %q", method, path, body, a, status, text)
	}
	return a
}

// poll polls in the background, once.
func (d *double) poll(path string) <-chan answered {
	got := make(chan answered, 1)
	d.loops.Go(func() {
		if a, err := d.ask(d.ctx, http.MethodGet, path, nil); err == nil {
			got <- a
		}
		close(got)
	})
	return got
}

// Subscribe polls for ever; an answer that is neither 200 nor 408 ends it.
func (d *double) Subscribe() error {
	d.loops.Go(func() {
		d.follow("/rpc?timeout=30000", func(body string) error {
			r, err := transporttest.Numbered([]byte(body))
			if err == nil {
				d.commands <- r
			}
			return err
		})
	})
	d.loops.Go(func() {
		d.follow("/attributes/updates?timeout=30000", func(body string) error {
			d.updates <- []byte(body)
			return nil
		})
	})
	return nil
}

func (d *double) follow(path string, take func(body string) error) {
	for {
		a, err := d.ask(d.ctx, http.MethodGet, path, nil)
		if err != nil || a.status != 200 && a.status != 408 {
			return
		}
		if a.status == 200 && take(a.body) != nil {
			panic("the server sent " + a.body)
		}
	}
}

func (d *double) Commands() <-chan transporttest.Received { return d.commands }
func (d *double) Ack(transporttest.Received)              {}
func (d *double) Answers() <-chan transporttest.Answer    { return d.answers }
func (d *double) Updates() <-chan []byte                  { return d.updates }
func (d *double) Gone() <-chan struct{}                   { return d.ctx.Done() }
func (d *double) Drop()                                   { d.drop() }
func (d *double) Stall()                                  {}
func (d *double) Resume()                                 {}

// send posts in the background; an answer but 200 is an error, and the body of that goes to then.
func (d *double) send(method, path string, body []byte, then func(body string)) <-chan error {
	acked := make(chan error, 1)
	d.loops.Go(func() {
		a, err := d.ask(d.ctx, method, path, body)
		if err == nil && a.status != 200 {
			err = fmt.Errorf("the server answers %s", a)
		}
		if err == nil && then != nil {
			then(a.body)
		}
		acked <- err
	})
	return acked
}

func (d *double) Reply(wire int32, payload []byte) <-chan error {
	return d.send(http.MethodPost, fmt.Sprint("/rpc/", wire), payload, nil)
}

func (d *double) Telemetry(payload []byte) <-chan error {
	return d.send(http.MethodPost, "/telemetry", payload, nil)
}

func (d *double) answer(body string) { d.answers <- transporttest.Answer{Payload: []byte(body)} }

func (d *double) Call(_ int32, method, params string) <-chan error {
	return d.send(http.MethodPost, "/rpc", fmt.Appendf(nil, `{"method":%q,"params":%s}`, method, params), d.answer)
}

func (d *double) AskAttributes(_ int32, client, shared string) <-chan error {
	return d.send(http.MethodGet, "/attributes?clientKeys="+url.QueryEscape(client)+"&sharedKeys="+shared, nil, d.answer)
}

// Foreign posts to a path that this server does not have.
func (d *double) Foreign() bool {
	<-d.send(http.MethodPost, "/claim", []byte("{}"), nil)
	return true
}

func TestTransport(t *testing.T) {
	transporttest.Run(t, transporttest.Fixture{
		Start: func(t testing.TB, auth transports.Authenticator, in transports.Inbound) transporttest.Dial {
			_, addr := start(t, auth, in, func(c *httpdevice.Config) { c.Body = suiteBody })
			return func(token string) (transporttest.Device, error) {
				d := newDouble(t, addr, token)
				// The token is looked at before the body is read: what comes of a body that nobody can read tells whether it is known.
				a, err := d.ask(d.ctx, http.MethodPost, "/telemetry", []byte("{"))
				if err == nil && a.status == http.StatusUnauthorized {
					err = fmt.Errorf("the server answers %s", a)
				}
				return d, err
			}
		},
		Features: transporttest.Features{
			Evidence: transports.EvidenceHTTPTaken, ProvesItself: true, AnswersData: true, ClientCalls: true, AsksForData: true,
			UpdatesData: true, PayloadMax: suiteBody, ForeignPaths: true,
		},
	})
}

// waitFor waits until a condition of the server's counters holds.
func waitFor(t testing.TB, s *httpdevice.Server, what string, holds func(httpdevice.Stats) bool) {
	t.Helper()
	late, look := time.After(20*time.Second), time.NewTicker(time.Millisecond)
	defer look.Stop()
	for !holds(s.Stats()) {
		select {
		case <-look.C:
		case <-late:
			t.Fatalf("not reached: %s; %+v", what, s.Stats())
		}
	}
}

// next waits for the answer to a poll.
func next(t testing.TB, from <-chan answered) answered {
	t.Helper()
	select {
	case a, ok := <-from:
		if !ok {
			t.Fatal("the poll ended without an answer")
		}
		return a
	case <-time.After(20 * time.Second):
		t.Fatal("the poll has no answer")
	}
	panic("unreachable")
}

func long(n int) string { return `{"method":"m","params":"` + strings.Repeat("x", n) + `"}` }
