package mqtt

import (
	"context"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"callchain/transports/transporttest"
)

// FuzzConnection feeds a server what a device might send after a good CONNECT (mode 3, 4, 5) or from the start (other modes). It
// must neither panic nor hang, and the session must end.
func FuzzConnection(f *testing.F) {
	for _, mode := range []byte{0, 4, 5} {
		f.Add(mode, []byte{0xc0, 0, 0x82, 7, 0, 1, 0, 0, 1, 'a', 1})
		f.Add(mode, []byte{0x32, 10, 0, 3, 'v', '2', '/', 0, 1, 0, '{', '}'})
		f.Add(mode, []byte{0x82, 4, 0, 1, 5, 11})
	}
	for kind, cases := range packets.TPacketData {
		for _, c := range cases {
			if kind != packets.Connect {
				f.Add(byte(4), c.RawBytes)
				f.Add(byte(5), c.RawBytes)
			} else {
				f.Add(byte(0), c.RawBytes)
			}
		}
	}
	cfg := Default()
	cfg.CloseTimeout = 20 * time.Millisecond
	f.Fuzz(func(t *testing.T, mode byte, sent []byte) {
		engine := transporttest.NewEngine()
		s, err := New(cfg, engine, engine, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := net.Pipe()
		c := newConn(s, ours)
		served := make(chan struct{})
		go func() {
			defer close(served)
			if c.welcome(context.Background()) {
				for c.serve() {
				}
			}
			c.finish()
		}()
		go func() {
			// The server may close before everything is read.
			_, _ = io.Copy(io.Discard, theirs)
		}()
		if _, err := theirs.Write(append(opener(mode), sent...)); err == nil {
			_ = theirs.Close() // the end of what the device has to say
		}
		<-served
		connects, ends := len(engine.Events(transporttest.Connect)), len(engine.Events(transporttest.Disconnect))
		if connects != ends {
			t.Fatalf("%d sessions began and %d ended", connects, ends)
		}
	})
}

// opener is a CONNECT of the version that mode names.
func opener(mode byte) []byte {
	switch mode {
	case 3:
		return []byte{0x10, 17, 0, 6, 'M', 'Q', 'I', 's', 'd', 'p', 3, 0x82, 0, 0, 0, 0, 0, 1, 'd'}
	case 4:
		return []byte{0x10, 15, 0, 4, 'M', 'Q', 'T', 'T', 4, 0x82, 0, 0, 0, 0, 0, 1, 'd'}
	case 5:
		return []byte{0x10, 16, 0, 4, 'M', 'Q', 'T', 'T', 5, 0x82, 0, 0, 0, 0, 0, 0, 1, 'd'}
	}
	return nil
}
