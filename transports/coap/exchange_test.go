package coap

import (
	"net"
	"testing"
	"time"

	coapnet "github.com/plgd-dev/go-coap/v3/net"
	"github.com/plgd-dev/go-coap/v3/udp/client"
)

// TestAbandonedBeforeItBegan: an exchange that is given up between its making and its beginning sends nothing. Only a test of the
// package itself can stop between the two.
func TestAbandonedBeforeItBegan(t *testing.T) {
	s, err := New(Default(), nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	s.socket = coapnet.NewUDPConn("udp", conn)
	t.Cleanup(func() {
		if err := s.socket.Close(); err != nil {
			t.Error(err)
		}
	})
	ep := newEndpoint(s, &client.Conn{}, conn.LocalAddr().(*net.UDPAddr), time.Now())
	over := func(how outcome, _ time.Time) { t.Errorf("an outcome is reported: %d", how) }
	x := &exchange{ep: ep, mid: ep.nextMID(), packet: []byte{0x40, 0, 0, 1}, over: over}
	if x.abandon() {
		t.Error("an exchange that has not begun was open")
	}
	if x.begin() {
		t.Error("an abandoned exchange began")
		x.abandon()
	}
	if sent := s.Stats().PacketsOut; sent != 0 || len(ep.exchanges) != 0 {
		t.Errorf("%d packets were sent, and %d exchanges are open", sent, len(ep.exchanges))
	}
}
