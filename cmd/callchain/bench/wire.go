package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"time"
)

// conn is a keep-alive HTTP/1.1 connection that sends requests as they stand and reads no more of an answer than it must:
// net/http as a load generator takes so much of the processor that it halves what is seen of the server.
type conn struct {
	host string
	nc   net.Conn
	rd   *bufio.Reader
	body []byte // of the last answer
}

// errAnswer: what came is no HTTP/1.1 answer.
var errAnswer = errors.New("the answer is not HTTP/1.1")

func dial(server string) (*conn, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "http" {
		return nil, fmt.Errorf("the benchmark needs a server at http://host:port, not %q", server)
	}
	c := &conn{host: u.Host, rd: bufio.NewReaderSize(nil, 4096)}
	return c, c.open()
}

func (c *conn) open() error {
	nc, err := net.DialTimeout("tcp", c.host, 10*time.Second)
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	c.nc = nc
	c.rd.Reset(nc)
	return nil
}

func (c *conn) close() {
	if c.nc != nil {
		_ = c.nc.Close() // nothing is read from it any more
		c.nc = nil
	}
}

// do sends one request and gives the status of its answer. A broken connection is made anew by the next call.
func (c *conn) do(request []byte) (int, error) {
	if c.nc == nil {
		if err := c.open(); err != nil {
			return 0, err
		}
	}
	status, keep, err := c.roundTrip(request)
	if err != nil || !keep {
		c.close()
	}
	return status, err
}

func (c *conn) roundTrip(request []byte) (status int, keep bool, err error) {
	if err := c.nc.SetDeadline(time.Now().Add(answerWait)); err != nil {
		return 0, false, err
	}
	if _, err := c.nc.Write(request); err != nil {
		return 0, false, err
	}
	line, err := c.line()
	if err != nil {
		return 0, false, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return 0, false, errAnswer
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, false, errAnswer
	}
	length, keep, err := c.header()
	if err != nil {
		return 0, false, err
	}
	return status, keep, c.readBody(length)
}

// line is one line without its end; it stays valid until the next read.
func (c *conn) line() ([]byte, error) {
	line, err := c.rd.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

// chunked stands for a body whose length is not told before it.
const chunked = -1

func (c *conn) header() (length int, keep bool, err error) {
	keep = true
	for {
		line, err := c.line()
		if err != nil || len(line) == 0 {
			return length, keep, err
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch len(name) {
		case len("Content-Length"):
			if bytes.EqualFold(name, []byte("Content-Length")) {
				if length, err = strconv.Atoi(string(value)); err != nil {
					return 0, false, errAnswer
				}
			}
		case len("Transfer-Encoding"):
			if bytes.EqualFold(name, []byte("Transfer-Encoding")) {
				length = chunked
			}
		case len("Connection"):
			if bytes.EqualFold(name, []byte("Connection")) && bytes.EqualFold(value, []byte("close")) {
				keep = false
			}
		}
	}
}

func (c *conn) readBody(length int) error {
	c.body = c.body[:0]
	if length != chunked {
		return c.take(length)
	}
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(string(line), 16, 32)
		if err != nil {
			return errAnswer
		}
		if err := c.take(int(n)); err != nil {
			return err
		}
		if _, err := c.line(); err != nil || n == 0 {
			return err
		}
	}
}

func (c *conn) take(n int) error {
	begin := len(c.body)
	c.body = append(c.body, make([]byte, n)...)
	_, err := io.ReadFull(c.rd, c.body[begin:])
	return err
}

// request formats a POST once for all the times that it is sent.
func request(host, token, path, body string) []byte {
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nX-Authorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		path, host, token, len(body), body)
}
