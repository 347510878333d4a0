package coap_test

import (
	"fmt"
	"net"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/udp/coder"

	"callchain/transports/coap"
	"callchain/transports/transporttest"
)

// bareDevice is a socket that observes calls, with nothing of a test's own behind it. It says which packet it waits for.
type bareDevice struct {
	net.Conn
	buf [2048]byte
}

func observing(t testing.TB, addr, device string) *bareDevice {
	t.Helper()
	nc, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	d := &bareDevice{Conn: nc}
	t.Cleanup(func() {
		// A second time it fails, which is what was wanted.
		_ = nc.Close()
	})
	m := (&peer{}).request(codes.GET, calls(device), "", opt(message.Observe, 0))
	n, err := coder.DefaultCoder.Encode(m, d.buf[:])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Write(d.buf[:n]); err != nil {
		t.Fatal(err)
	}
	if got := d.next(t); codes.Code(got[1]) != codes.Valid {
		t.Fatalf("registering is answered %x", got)
	}
	return d
}

// next reads a packet.
func (d *bareDevice) next(t testing.TB) []byte {
	if err := d.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	n, err := d.Read(d.buf[:])
	if err != nil {
		t.Fatal(err)
	}
	return d.buf[:n]
}

// acknowledge reads a packet and acknowledges it.
func (d *bareDevice) acknowledge(t testing.TB) {
	got := d.next(t)
	if _, err := d.Write([]byte{0x60, 0, got[2], got[3]}); err != nil {
		t.Fatal(err)
	}
}

// inUse is what the process holds after a collection: heap and stacks.
func inUse() int {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}

// TestManyObservers: a thousand devices observe in little memory, each can be given a call, and nothing is left of them afterwards.
func TestManyObservers(t *testing.T) {
	const devices, bytesMax = 1000, 20_000 // with the test's end of the socket
	engine := &transporttest.Quick{Proved: make(chan uuid.UUID, 1)}
	goroutines := runtime.NumGoroutine()
	s, addr, stop := start(t, engine, engine, nil)
	before := inUse()
	all := make([]*bareDevice, devices)
	for i := range all {
		all[i] = observing(t, addr, fmt.Sprint("d", i))
	}
	each := (inUse() - before) / devices
	t.Logf("%d bytes an observing device, with the test's end of it", each)
	if each > bytesMax && !raceEnabled {
		t.Errorf("%d bytes an observing device, want %d at most", each, bytesMax)
	}
	for i, d := range all {
		c := command(int32(i))
		engine.Link(fmt.Sprint("d", i)).Send(c)
		d.acknowledge(t)
		if call := <-engine.Proved; call != c.Call {
			t.Fatalf("call %s is acknowledged, want %s", call, c.Call)
		}
	}
	if st := s.Stats(); st.Observers != devices || st.Sessions != devices || st.Endpoints != devices {
		t.Errorf("%+v", st)
	}
	stop()
	late, look := time.After(patience), time.NewTicker(time.Millisecond)
	defer look.Stop()
	for runtime.NumGoroutine() > goroutines {
		select {
		case <-late:
			t.Fatalf("%d goroutines are left, there were %d", runtime.NumGoroutine(), goroutines)
		case <-look.C:
		}
	}
}

// TestTroubleStaysWithItsDevice measures a healthy device's round trips beside devices that acknowledge nothing and one that floods.
func TestTroubleStaysWithItsDevice(t *testing.T) {
	const silent, turns = 20, 500
	engine := &transporttest.Quick{Proved: make(chan uuid.UUID, 1)}
	s, addr, _ := start(t, engine, engine, func(c *coap.Config) { c.QueueMessages = 20 })
	healthy := observing(t, addr, "healthy")
	for i := range silent {
		observing(t, addr, fmt.Sprint("silent-", i))
	}
	flooder := observing(t, addr, "flooder")
	post := (&peer{}).request(codes.POST, telemetry("flooder"), "{}")
	buf := make([]byte, 256)
	took := make([]time.Duration, turns)
	for i := range took {
		engine.Link(fmt.Sprint("silent-", i%silent)).Send(long(1, 500))
		for range 20 {
			post.MessageID++
			n, err := coder.DefaultCoder.Encode(post, buf)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := flooder.Write(buf[:n]); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		engine.Link("healthy").Send(command(int32(i)))
		healthy.acknowledge(t)
		<-engine.Proved
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	t.Logf("a healthy device's p50 is %s, p99 %s; %+v", took[turns/2], took[turns*99/100], s.Stats())
	// A lock or a queue that were shared would cost an AckTimeout.
	if p99, limit := took[turns*99/100], 500*time.Millisecond; p99 > limit {
		t.Errorf("a healthy device's p99 is %s beside silent and flooding ones, want %s at most", p99, limit)
	}
	if s.Stats().CommandsRefused == 0 {
		t.Error("no silent device's queue filled: the test tried nothing")
	}
}

// BenchmarkCommand is a command to a device up to the report of its ACK.
func BenchmarkCommand(b *testing.B) {
	engine := &transporttest.Quick{Proved: make(chan uuid.UUID, 1)}
	_, addr, _ := start(b, engine, engine, nil)
	d := observing(b, addr, "d")
	link := engine.Link("d")
	c := command(1)
	c.Params = []byte(`{"pin":7,"value":1}`)
	b.ReportAllocs()
	for b.Loop() {
		link.Send(c)
		d.acknowledge(b)
		<-engine.Proved
	}
}

// BenchmarkTelemetry is a device's message up to its answer.
func BenchmarkTelemetry(b *testing.B) {
	engine := &transporttest.Quick{}
	_, addr, _ := start(b, engine, engine, nil)
	d := observing(b, addr, "d")
	m := (&peer{}).request(codes.POST, telemetry("d"), `{"temperature":21.5,"humidity":40}`)
	buf := make([]byte, 256)
	n, err := coder.DefaultCoder.Encode(m, buf)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if buf[3]++; buf[3] == 0 {
			buf[2]++
		}
		if _, err := d.Write(buf[:n]); err != nil {
			b.Fatal(err)
		}
		d.next(b)
	}
}
