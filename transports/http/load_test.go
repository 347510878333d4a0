package httpdevice_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	httpdevice "callchain/transports/http"
	"callchain/transports/transporttest"
)

// inUse is what the process holds after a collection: heap and stacks.
func inUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// TestManyIdlePolls: thousands of devices wait in little memory, each can be given a call, and nothing is left of them afterwards.
func TestManyIdlePolls(t *testing.T) {
	const most = 40 << 10 // bytes of a poll, with the client's end of the connection, which is in this process, too
	devices := 2000
	if testing.Short() {
		devices = 200
	}
	h := newHouse(t, func(c *httpdevice.Config) { c.Linger = time.Millisecond })
	goroutines, before := runtime.NumGoroutine(), inUse()
	conns := make([]net.Conn, devices)
	for i := range conns {
		c, err := net.Dial("tcp", strings.TrimPrefix(h.addr, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "GET /api/v1/d%d/rpc?timeout=300000 HTTP/1.1\r\nHost: x\r\n\r\n", i)
		conns[i] = c
	}
	h.waits(int64(devices))
	h.engine.Until(t, "all are subscribed", func(all []transporttest.Event) bool {
		return len(all) == 2*devices
	})
	each := (int64(inUse()) - int64(before)) / int64(devices)
	t.Logf("%d polls: %d bytes each, with the test's own records", devices, each)
	if each > most && !raceEnabled {
		t.Errorf("a poll takes %d bytes, %d at most are allowed", each, most)
	}
	for _, i := range []int{0, devices / 2, devices - 1} {
		h.engine.Session(t, fmt.Sprint("d", i)).Link.Send(command(int32(i)))
		resp, err := http.ReadResponse(bufio.NewReader(conns[i]), nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("device %d: %v %v", i, resp, err)
		}
		resp.Body.Close()
	}
	for _, c := range conns {
		_ = c.Close() // the server notices
	}
	waitFor(t, h.server, "all have gone", func(s httpdevice.Stats) bool { return s.Polls == 0 && s.Sessions == 0 })
	late := time.After(20 * time.Second)
	for runtime.NumGoroutine() > goroutines+5 {
		select {
		case <-late:
			t.Fatalf("%d goroutines are left of %d polls, there were %d", runtime.NumGoroutine(), devices, goroutines)
		case <-time.After(time.Millisecond):
		}
	}
}
