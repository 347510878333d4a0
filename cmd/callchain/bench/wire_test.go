package bench

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// scripted answers each request on a connection with the next text, and tells what it was sent.
func scripted(t *testing.T, answers ...string) (server string, got chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	got = make(chan string, len(answers))
	go func() {
		next := 0
		for next < len(answers) {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			rd := bufio.NewReader(nc)
			for next < len(answers) {
				r, err := http.ReadRequest(rd)
				if err != nil {
					break
				}
				body, _ := io.ReadAll(r.Body) // what is missing shows in the comparison
				got <- r.Method + " " + r.URL.Path + " " + r.Host + " " + r.Header.Get("X-Authorization") + " " + string(body)
				io.WriteString(nc, answers[next])
				next++
				if strings.Contains(answers[next-1], "close") {
					nc.Close()
				}
			}
		}
	}()
	return "http://" + l.Addr().String(), got
}

func TestConnReadsAnswers(t *testing.T) {
	server, got := scripted(t,
		"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\ncontent-length: 2\r\n\r\n{}",
		"HTTP/1.1 504 Gateway Timeout\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
		"HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
	)
	c, err := dial(server)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	r := request(c.host, "tok", "/api/x", `{"a":1}`)
	for _, want := range []struct {
		status int
		body   string
	}{{200, "{}"}, {504, "hello world"}, {503, ""}, {200, "x"}} {
		status, err := c.do(r)
		if err != nil || status != want.status || string(c.body) != want.body {
			t.Errorf("got %d %q, %v, want %d %q", status, c.body, err, want.status, want.body)
		}
		if sent := <-got; sent != "POST /api/x "+c.host+` Bearer tok {"a":1}` {
			t.Errorf("sent %s", sent)
		}
	}
}

func TestConnRefusesWhatIsNoHTTP(t *testing.T) {
	for _, answer := range []string{"SSH-2.0-OpenSSH close\r\n", "HTTP/1.1 abc Nothing close\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: close\r\n\r\n"} {
		server, _ := scripted(t, answer)
		c, err := dial(server)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.do(request(c.host, "", "/", "")); err == nil {
			t.Errorf("%q was taken", answer)
		}
		c.close()
	}
}
