package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"callchain/cmd/callchain/client"
)

// nodeOf is a client for a node that answers with handle; nil: for one that cannot be reached.
func nodeOf(t *testing.T, handle http.HandlerFunc) *client.Client {
	t.Helper()
	s := httptest.NewServer(handle)
	if handle == nil {
		s.Close()
	} else {
		t.Cleanup(s.Close)
	}
	c, err := client.New(s.URL, "token")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func watchOf(nodes ...*client.Client) *watch {
	w := &watch{ClusterOptions: ClusterOptions{Clients: nodes, Duration: time.Hour}, devices: []string{"d0"}, last: make([]time.Time, 1), begin: time.Now()}
	w.result.Failed = map[string]int64{}
	return w
}

// A call whose node is dead goes to the next one, with the same key, so that it is carried out once whatever the first had done.
func TestWatchSendsACallAgainThroughAnotherNode(t *testing.T) {
	var keys []string
	alive := nodeOf(t, func(rw http.ResponseWriter, r *http.Request) {
		var in client.CallRequest
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			t.Error(err)
		}
		keys = append(keys, r.Header.Get("Idempotency-Key"))
		rw.Header().Set(client.HeaderCall, "c1")
		rw.Write(in.Params)
	})
	w := watchOf(nodeOf(t, nil), alive)
	w.call(t.Context(), 2) // of two nodes and one device: through the first
	want := ClusterTotal{Sent: 1, Succeeded: 1, Again: 1}
	if w.now.ClusterTotal != want || len(w.returned) != 1 || w.returned[0] != "c1" || len(keys) != 1 || keys[0] == "" {
		t.Errorf("got %+v, returned %v, keys %v", w.now, w.returned, keys)
	}
}

func TestWatchTellsHowCallsEnd(t *testing.T) {
	status, body := 200, `{"n":9}`
	w := watchOf(nodeOf(t, func(rw http.ResponseWriter, _ *http.Request) {
		rw.WriteHeader(status)
		io.WriteString(rw, body)
	}))
	w.call(t.Context(), 1) // the answer to call 9
	status, body = 503, `{}`
	w.call(t.Context(), 1)
	status, body = 504, `{"code":"response_timeout"}`
	w.call(t.Context(), 1)
	w.Clients = []*client.Client{nodeOf(t, nil)}
	w.call(t.Context(), 1)
	want := ClusterTotal{Sent: 4, Refused: 1, Failed: 3}
	failures := map[string]int64{"wrong answer": 1, "504 response_timeout": 1, "no node answered": 1}
	if w.now.ClusterTotal != want || fmt.Sprint(w.result.Failed) != fmt.Sprint(failures) || len(w.returned) != 0 {
		t.Errorf("got %+v, %v, returned %v", w.now, w.result.Failed, w.returned)
	}
}

// What was returned as a success and is not known, or not carried out in time, is lost; what takes a moment is not.
func TestWatchFindsLostCalls(t *testing.T) {
	var asked atomic.Int64
	known := nodeOf(t, func(rw http.ResponseWriter, r *http.Request) {
		switch path.Base(r.URL.Path) {
		case "unknown":
			rw.WriteHeader(404)
		case "waiting":
			io.WriteString(rw, `{"phase":"queued"}`)
		case "slow":
			if asked.Add(1) == 1 {
				io.WriteString(rw, `{"phase":"sent"}`)
				return
			}
			fallthrough
		default:
			io.WriteString(rw, `{"phase":"succeeded"}`)
		}
	})
	w := watchOf(nodeOf(t, nil), known)
	w.returned = []string{"good", "unknown", "slow", "waiting"}
	w.settle(t.Context(), timer(3*settlePause))
	lost := w.result.Lost
	if w.result.Checked != 4 || len(lost) != 2 || !strings.HasPrefix(lost[0], "unknown: ") || lost[1] != "waiting: it is queued " {
		t.Errorf("of %d calls are lost: %q", w.result.Checked, lost)
	}
}

func TestWatchMeasuresTheLongestSilence(t *testing.T) {
	w := watchOf()
	w.devices, w.last = []string{"d0", "d1"}, make([]time.Time, 2)
	w.begin, w.Duration = time.Now().Add(-10*time.Second), 9*time.Second
	w.ended(0, "c", nil) // ten seconds after the beginning
	w.silences(time.Now())
	if got := w.result.Silence; got < 10 || got > 11 {
		t.Errorf("nothing succeeded for %.1f s, want 10", got)
	}
	if got := w.result.DeviceSilence; got < 10 || got > 11 {
		t.Errorf("at one device nothing succeeded for %.1f s, want 10", got)
	}
}

func TestClusterReport(t *testing.T) {
	var out strings.Builder
	fmt.Fprintln(&out, ClusterHead(2))
	fmt.Fprintln(&out, ClusterSecond{Second: 1, ClusterTotal: ClusterTotal{Sent: 60, Succeeded: 59, Refused: 1}, Owned: []int{32, 32}, Connected: []int{15, 15}})
	fmt.Fprintln(&out, ClusterSecond{Second: 2, ClusterTotal: ClusterTotal{Sent: 60, Succeeded: 9, Again: 30}, Owned: []int{-1, 32}, Connected: []int{0, 30}, Marks: []string{"kill -9"}})
	r := ClusterResult{Total: ClusterTotal{120, 68, 1, 51, 30}, Failed: map[string]int64{"504 response_timeout": 51}, Silence: 0.31, DeviceSilence: 6.42, Checked: 68, Lost: []string{"c: it is queued"}}
	r.Print(&out)
	want := ` sec   sent     ok    503 failed  again   partitions 1/2   devices 1/2
   1     60     59      1      0      0   32/32            15/15
   2     60      9      0      0     30   -/32             0/30          <- kill -9
120 calls sent: 68 succeeded, 1 refused, 51 failed; 30 sent again through another node
failed: 504 response_timeout: 51
longest time without a success: 0.3 s; of one device: 6.4 s
68 calls whose success was returned: 1 lost
  lost: c: it is queued
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}
