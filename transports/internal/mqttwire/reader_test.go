package mqttwire

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"
)

// stream is three packets: a ping, a PUBLISH of 10,000 bytes, a PUBACK.
func stream() ([]byte, Message) {
	m := Message{Topic: []byte("v1/devices/me/telemetry"), Payload: bytes.Repeat([]byte("x"), 10_000), ID: 7, QoS: 1}
	b := AppendMessage([]byte{Pingreq << 4, 0}, m, V311)
	return AppendAck(b, 9, 0, V311), m
}

func TestReaderCutsPacketsHoweverTheBytesArrive(t *testing.T) {
	raw, want := stream()
	sources := map[string]io.Reader{
		"at once":       bytes.NewReader(raw),
		"byte by byte":  iotest.OneByteReader(bytes.NewReader(raw)),
		"half by half":  iotest.HalfReader(bytes.NewReader(raw)),
		"data with EOF": iotest.DataErrReader(bytes.NewReader(raw)),
	}
	for name, src := range sources {
		t.Run(name, func(t *testing.T) {
			var d Reader
			d.Reset(src, 65536)
			defer d.Close()
			if h, body, err := d.Next(); err != nil || h != Pingreq<<4 || len(body) != 0 {
				t.Fatalf("first packet: %x %q %v", h, body, err)
			}
			h, body, err := d.Next()
			if err != nil {
				t.Fatal(err)
			}
			m, err := ParseMessage(h, body, V311)
			if err != nil || !bytes.Equal(m.Topic, want.Topic) || !bytes.Equal(m.Payload, want.Payload) || m.ID != 7 || m.QoS != 1 {
				t.Fatalf("second packet: %v, %d bytes, id %d", err, len(m.Payload), m.ID)
			}
			_, body, err = d.Next()
			if id, code, ackErr := ParseAck(body); err != nil || ackErr != nil || id != 9 || code != 0 {
				t.Fatalf("third packet: id %d code %d %v %v", id, code, err, ackErr)
			}
			if _, _, err := d.Next(); !errors.Is(err, io.EOF) {
				t.Fatalf("after the last packet: %v, want EOF", err)
			}
		})
	}
}

func TestReaderRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		raw  []byte
		want error
	}{
		{"a length of five bytes", []byte{0x30, 0x80, 0x80, 0x80, 0x80, 1}, ErrMalformed},
		{"a length of four bytes that goes on", []byte{0x30, 0xff, 0xff, 0xff, 0xff}, ErrMalformed},
		{"one byte over the limit", []byte{0x30, 101}, ErrTooLarge},
		{"an end inside the length", []byte{0x30, 0x80}, io.ErrUnexpectedEOF},
		{"an end inside the body", []byte{0x30, 5, 1, 2}, io.ErrUnexpectedEOF},
		{"nothing", nil, io.EOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			var d Reader
			d.Reset(bytes.NewReader(c.raw), 100)
			if _, _, err := d.Next(); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
		})
	}
}

// An announced length costs no memory before its bytes arrive.
func TestReaderGrowsWithWhatArrives(t *testing.T) {
	var d Reader
	head := append([]byte{Publish << 4}, AppendLength(nil, 1<<20)...)
	d.Reset(bytes.NewReader(append(head, make([]byte, 10_000)...)), 1<<20)
	if _, _, err := d.Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	if len(d.buf) > 2*10_000+mediumBuffer {
		t.Fatalf("the buffer has %d bytes after 10,000 of 1 MiB arrived", len(d.buf))
	}
}

// After a large packet and a small one the connection rests with the small buffer again.
func TestReaderShrinks(t *testing.T) {
	raw, _ := stream()
	r, w := io.Pipe()
	go func() {
		for packet := range slices.Values([][]byte{raw, {Pingreq << 4, 0}}) {
			if _, err := w.Write(packet); err != nil {
				return // the test has failed and closed its end
			}
		}
		w.CloseWithError(io.EOF)
	}()
	var d Reader
	d.Reset(r, 65536)
	for range 4 {
		if _, _, err := d.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := d.Next(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if len(d.buf) != smallBuffer || d.lent != nil {
		t.Fatalf("the resting buffer has %d bytes", len(d.buf))
	}
}

func FuzzReader(f *testing.F) {
	raw, _ := stream()
	f.Add(raw)
	f.Add([]byte{0x30, 0xff, 0xff, 0xff, 0x7f, 1, 2, 3})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var d Reader
		d.Reset(iotest.HalfReader(bytes.NewReader(raw)), 4096)
		defer d.Close()
		for {
			h, body, err := d.Next()
			if err != nil {
				return
			}
			if len(body) > 4096 || len(d.buf) > 2*mediumBuffer {
				t.Fatalf("body of %d bytes, buffer of %d", len(body), len(d.buf))
			}
			for _, version := range []byte{V311, V5} {
				m, err := ParseMessage(h&0x0f|Publish<<4, body, version)
				if err != nil {
					continue
				}
				again := AppendMessage(nil, m, version)
				if len(again) != Size(m, version) {
					t.Fatalf("Size says %d, encoded are %d", Size(m, version), len(again))
				}
				var back Reader
				back.Reset(bytes.NewReader(again), len(again))
				h2, body2, err := back.Next()
				if err != nil {
					t.Fatalf("reading what was encoded: %v", err)
				}
				m2, err := ParseMessage(h2, body2, version)
				if err != nil || !bytes.Equal(m2.Payload, m.Payload) || !bytes.Equal(m2.Topic, m.Topic) || m2.ID != m.ID {
					t.Fatalf("%+v became %+v (%v)", m, m2, err)
				}
			}
		}
	})
}
