package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"callchain/cmd/callchain/settings"

	"github.com/google/uuid"
)

func TestLogFormats(t *testing.T) {
	id := uuid.MustParse("019ab2f4-5a3e-7c11-8d52-2f1c5d1d9a10")
	for format, want := range map[string]string{
		"json": `{"level":"WARN","msg":"gone","session":"019ab2f4-5a3e-7c11-8d52-2f1c5d1d9a10","addr":"127.0.0.1:80","after":"1.5s","error":"broken","events":3}`,
		"text": `level=WARN msg=gone session=019ab2f4-5a3e-7c11-8d52-2f1c5d1d9a10 addr=127.0.0.1:80 after=1.5s error=broken events=3`,
	} {
		var out bytes.Buffer
		log := newLog(&app{Process: Process{Err: &out}}, settings.Log{Format: format, Level: "warn"})
		log.Info("not wanted")
		log.Warn("gone", "session", id, "addr", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80}, "after", 1500*time.Millisecond,
			"error", errors.New("broken"), "events", 3)
		when, rest, _ := strings.Cut(out.String(), "level")
		if got := strings.TrimSpace(out.String()[len(when):]); format == "text" && got != want {
			t.Errorf("%s: %s, want %s", format, got, want)
		}
		if format == "json" && `{"level`+strings.TrimSpace(rest) != want {
			t.Errorf("%s: %s, want %s", format, out.String(), want)
		}
		if !strings.Contains(when, "time") {
			t.Errorf("%s: a line without its time: %s", format, out.String())
		}
	}
}

// readyThenStop is where a server writes its log; it stops the server that is ready.
type readyThenStop struct {
	mu   sync.Mutex
	text bytes.Buffer
	stop context.CancelFunc
}

func (r *readyThenStop) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if bytes.Contains(p, []byte(`"msg":"ready"`)) {
		r.stop()
	}
	return r.text.Write(p)
}

// TestServerLogsInJSON: behind the settings, which are YAML, each line is JSON whose values are texts, as in docs/observability.md.
func TestServerLogsInJSON(t *testing.T) {
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	out := &readyThenStop{stop: stop}
	args := []string{
		"serve", "--log.format", "json", "--data.dir", t.TempDir(), "--http.addr", "127.0.0.1:0", "--mqtt.addr", "127.0.0.1:0", "--coap.addr", "127.0.0.1:0",
	}
	status := Run(ctx, Process{Args: args, In: strings.NewReader(""), Out: out, Err: out, Version: "v1"})
	var said []string
	for line := range strings.Lines(out.text.String()) {
		if !strings.HasPrefix(line, "{") {
			continue
		}
		var values map[string]string
		if err := json.Unmarshal([]byte(line), &values); err != nil {
			t.Errorf("%v: %s", err, line)
		}
		said = append(said, values["msg"])
	}
	want := "the first administrator was made, ready, shutting down, stopped"
	if got := strings.Join(said, ", "); status != 0 || got != want {
		t.Errorf("status %d, the lines are %q, want %q", status, got, want)
	}
}
