package postgres_test

import (
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// wire stands between the store and the server and does to their connections what networks do.
type wire struct {
	server string
	armed  atomic.Bool // the next answer to a commit ends its connection instead of reaching the store
	cut    atomic.Int32
	closed atomic.Bool // new connections are refused, old ones ended

	passed  atomic.Int64 // bytes towards the server
	left    atomic.Int64 // bytes that still pass towards the server before the wire holds the rest back; -1: no end
	holding chan struct{}
	release func()
	goOn    <-chan struct{}
	wg      sync.WaitGroup
}

// commitTag is the server's tag after the append's statement, which ends in a SELECT of the partitions that advanced.
const commitTag = "SELECT 1\x00"

func newWire(t *testing.T, database string) (w *wire, through string) {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	goOn := make(chan struct{})
	w = &wire{server: u.Host, holding: make(chan struct{}), goOn: goOn, release: sync.OnceFunc(func() { close(goOn) })}
	w.left.Store(-1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u.Host = l.Addr().String()
	w.wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return // closed by the cleanup
			}
			w.wg.Go(func() { w.carry(client) })
		}
	})
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		w.resume()
		w.wg.Wait()
	})
	return w, u.String()
}

func (w *wire) carry(client net.Conn) {
	defer client.Close()
	if w.closed.Load() {
		return
	}
	server, err := net.Dial("tcp", w.server)
	if err != nil {
		return
	}
	defer server.Close()
	w.wg.Go(func() {
		// A copy ends with an error when the other direction has closed the connections.
		_, _ = io.Copy(limited{server, w}, client)
		server.Close()
	})
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if n > 0 && strings.Contains(string(buf[:n]), commitTag) && w.armed.CompareAndSwap(true, false) {
			w.cut.Add(1)
			return
		}
		if n > 0 {
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// limited writes to the server until the wire holds.
type limited struct {
	net.Conn
	w *wire
}

func (l limited) Write(b []byte) (int, error) {
	done := 0
	if left := l.w.left.Load(); left >= 0 && left < int64(len(b)) {
		l.w.left.Store(-1)
		n, err := l.Conn.Write(b[:left])
		if err != nil {
			return n, err
		}
		done = n
		close(l.w.holding)
		<-l.w.goOn
	} else if left >= 0 {
		l.w.left.Store(left - int64(len(b)))
	}
	l.w.passed.Add(int64(len(b)))
	n, err := l.Conn.Write(b[done:])
	return done + n, err
}

// pauseAfter lets n bytes pass and then holds the client's connection; one connection must be in use.
func (w *wire) pauseAfter(n int64) { w.left.Store(n) }

func (w *wire) isPaused() bool {
	select {
	case <-w.holding:
		return true
	default:
		return false
	}
}

func (w *wire) resume() { w.release() }

func (w *wire) refuse(on bool) { w.closed.Store(on) }
