package coap_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"callchain/transports"
	"callchain/transports/coap"
	"callchain/transports/transporttest"
)

// part is a step of an upload: blocks of 16 bytes.
type part struct {
	num  int
	more bool
	body string
	want codes.Code
}

// TestUploads: payloads that come in blocks.
func TestUploads(t *testing.T) {
	const a, b = `{"a":1,"b":"0123`, `456789abcdef0123`
	for _, c := range []struct {
		name  string
		parts []part
		whole string
	}{
		{"in order", []part{{0, true, a, codes.Continue}, {1, true, b, codes.Continue}, {2, false, `"}`, codes.Created}}, a + b + `"}`},
		{"one block", []part{{0, false, `{"a":1}`, codes.Created}}, `{"a":1}`},
		{"begun again", []part{{0, true, b, codes.Continue}, {0, true, a, codes.Continue}, {1, false, `"}`, codes.Created}}, a + `"}`},
		{"out of order", []part{{0, true, a, codes.Continue}, {2, true, b, codes.RequestEntityIncomplete}, {1, false, `"}`, codes.Created}}, a + `"}`},
		{"without a beginning", []part{{1, false, `"}`, codes.RequestEntityIncomplete}}, ""},
		{"after the end", []part{{0, true, a, codes.Continue}, {1, false, `"}`, codes.Created}, {1, false, `"}`, codes.RequestEntityIncomplete}}, a + `"}`},
		{"a short block", []part{{0, true, a[:15], codes.BadRequest}}, ""},
		{"a long block", []part{{0, true, a + "x", codes.BadRequest}}, ""},
		{"an empty block", []part{{0, true, a, codes.Continue}, {1, false, ``, codes.BadRequest}}, ""},
		{"not JSON", []part{{0, true, a, codes.Continue}, {1, false, `x`, codes.BadRequest}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t, nil)
			p := h.peer()
			for _, s := range c.parts {
				m := p.ask(t, p.request(codes.POST, telemetry("d"), s.body, blockOpt(message.Block1, s.num, s.more, 0)))
				if m.Code != s.want {
					t.Fatalf("block %d is answered %s, want %s", s.num, m, s.want)
				}
				echo := int64(s.num << 4)
				if s.want == codes.Continue {
					echo |= 8
				}
				if s.want == codes.RequestEntityIncomplete {
					echo = -1
				}
				if m.number(message.Block1) != echo {
					t.Fatalf("block %d is answered %s, want Block1 %#x", s.num, m, echo)
				}
			}
			if c.whole == "" {
				h.happened(transporttest.Telemetry, 0)
			} else if ev := h.engine.Next(t, transporttest.Telemetry); string(ev.Payload) != c.whole {
				t.Fatalf("%s arrived, want %s", ev.Payload, c.whole)
			}
		})
	}
}

// TestUploadTooLarge: the first block too many is answered 4.13 with the largest size, and nothing of the upload is kept.
func TestUploadTooLarge(t *testing.T) {
	h := newHouse(t, func(c *coap.Config) { c.MaxPayload, c.TransferBytes = 128, 128 })
	p := h.peer()
	body := strings.Repeat("x", 64)
	too := func(m message.Message) {
		t.Helper()
		if a := h.answers(p, m, codes.RequestEntityTooLarge, ""); a.number(message.Size1) != 128 {
			t.Fatalf("%s came, want Size1 128", a)
		}
	}
	for num := range 2 {
		h.answers(p, p.request(codes.POST, telemetry("d"), body, blockOpt(message.Block1, num, true, 2)), codes.Continue, "")
	}
	too(p.request(codes.POST, telemetry("d"), body, blockOpt(message.Block1, 2, true, 2)))
	h.answers(p, p.request(codes.POST, telemetry("d"), body, blockOpt(message.Block1, 3, true, 2)), codes.RequestEntityIncomplete, "")
	too(p.request(codes.POST, telemetry("d"), strings.Repeat("x", 129)))
	// All memory for transfers is free again.
	for num := range 2 {
		h.answers(p, p.request(codes.POST, telemetry("d"), body, blockOpt(message.Block1, num, true, 2)), codes.Continue, "")
	}
	h.happened(transporttest.Telemetry, 0)
}

// fetch gets the blocks from num on and returns what they hold, and the answer to the last.
func (p *peer) fetch(t testing.TB, code codes.Code, path string, num int, szx uint32) ([]byte, packet) {
	t.Helper()
	var body []byte
	for ; ; num++ {
		a := p.ask(t, p.request(code, path, "", blockOpt(message.Block2, num, false, szx)))
		v := a.number(message.Block2)
		if a.Code != codes.Content || v>>4 != int64(num) || v&7 != int64(szx) {
			t.Fatalf("block %d is answered %s", num, a)
		}
		if body = append(body, a.Payload...); v&8 == 0 {
			return body, a
		}
	}
}

// TestDownload: an answer that does not fit is fetched in blocks, of the size that the device wants.
func TestDownload(t *testing.T) {
	body := []byte(`{"x":"` + strings.Repeat("0123456789", 300) + `"}`)
	for _, szx := range []uint32{0, 2, 6} {
		h := newHouse(t, nil)
		p := h.peer()
		m := p.request(codes.POST, calls("d"), `{"method":"m","params":{}}`, blockOpt(message.Block2, 0, false, szx))
		p.send(m)
		ev := h.engine.Next(t, transporttest.Call)
		h.engine.Link(t, ev.Session).Respond(transports.Response{Request: ev.Number, Body: body})
		first := h.hears(p, message.Acknowledgement, codes.Content, string(m.Token), -1)
		if first.number(message.Block2) != int64(8|szx) || first.number(message.Size2) != int64(len(body)) || len(first.Payload) != 16<<szx {
			t.Fatalf("the first block is %s", first)
		}
		rest, last := p.fetch(t, codes.POST, calls("d"), 1, szx)
		if got := append(first.Payload, rest...); !bytes.Equal(got, body) {
			t.Fatalf("%d bytes came, want %d", len(got), len(body))
		}
		e1, err1 := first.Options.GetBytes(message.ETag)
		e2, err2 := last.Options.GetBytes(message.ETag)
		if err1 != nil || err2 != nil || !bytes.Equal(e1, e2) {
			t.Errorf("ETags %x and %x", e1, e2)
		}
		again, _ := p.fetch(t, codes.POST, calls("d"), 1, szx) // its answer may have been lost
		if !bytes.Equal(again, rest) {
			t.Error("the rest differs the second time")
		}
		// Beyond the end, of another resource, and of another peer there is nothing.
		past := blockOpt(message.Block2, len(body)>>(4+szx)+1, false, szx)
		h.answers(p, p.request(codes.POST, calls("d"), "", past), codes.RequestEntityIncomplete, "")
		h.answers(p, p.request(codes.POST, calls("d")+"?x=1", "", blockOpt(message.Block2, 1, false, szx)), codes.RequestEntityIncomplete, "")
		other := h.peer()
		h.answers(other, other.request(codes.POST, calls("d"), "", blockOpt(message.Block2, 1, false, szx)), codes.RequestEntityIncomplete, "")
		h.answers(p, p.request(codes.POST, calls("unknown"), "", blockOpt(message.Block2, 1, false, szx)), codes.Unauthorized, "")
	}
}

// TestLongCommand: a notification of several blocks has left when the device has acknowledged the first and asked for all others;
// nothing proves that the last one came. Only then the next one follows.
func TestLongCommand(t *testing.T) {
	for _, early := range []bool{false, true} { // early: the ACK comes after all blocks
		t.Run(fmt.Sprint("ACK last ", early), func(t *testing.T) {
			h := newHouse(t, nil)
			p := h.peer()
			m := p.request(codes.GET, calls("d"), "", opt(message.Observe, 0), blockOpt(message.Block2, 0, false, 5))
			p.ask(t, m)
			s := h.engine.Session(t, "d")
			one, two := long(1, 3000), command(2)
			s.Link.Send(one)
			s.Link.Send(two)
			first := h.hears(p, message.Confirmable, codes.Content, string(m.Token), 1)
			if first.number(message.Block2) != 8|5 || len(first.Payload) != 512 {
				t.Fatalf("%s came", first)
			}
			if !early {
				p.ack(first.MessageID)
				h.reported(p, s)
				h.happened(transporttest.Acknowledged, 0)
			}
			rest, _ := p.fetch(t, codes.GET, calls("d"), 1, 5)
			if body := string(first.Payload) + string(rest); body != fmt.Sprintf(`{"id":1,"method":"m","params":%s}`, one.Params) {
				t.Fatalf("%s came", body)
			}
			if early {
				h.reported(p, s)
				h.happened(transporttest.Acknowledged, 0)
				p.ack(first.MessageID)
			}
			h.evident(one, transports.EvidenceWritten)
			p.ack(h.hears(p, message.Confirmable, codes.Content, string(m.Token), 2).MessageID)
			h.acknowledged(two)
			h.happened(transporttest.Written, 2)
		})
	}
}

// TestLongCommandOutOfOrder: the last block alone is no evidence of the others. Blocks that come twice, or in another size, are none
// left out.
func TestLongCommandOutOfOrder(t *testing.T) {
	for _, kind := range []message.Type{message.Confirmable, message.NonConfirmable} {
		t.Run(kind.String(), func(t *testing.T) {
			h := newHouse(t, nil)
			p := h.peer()
			m := p.request(codes.GET, calls("d"), "", opt(message.Observe, 0))
			m.Type = kind
			p.send(m)
			p.hear(t)
			s := h.engine.Session(t, "d")
			one, two := long(1, 4500), command(2) // 1024 bytes a block: 0 to 4
			s.Link.Send(one)
			s.Link.Send(two)
			p.ack(h.hears(p, kind, codes.Content, string(m.Token), 1).MessageID)
			block := func(num int, szx uint32) {
				t.Helper()
				if a := p.ask(t, p.request(codes.GET, calls("d"), "", blockOpt(message.Block2, num, false, szx))); a.number(message.Block2)>>4 != int64(num) {
					t.Fatalf("block %d is answered %s", num, a)
				}
			}
			for _, num := range []int{4, 1, 1, 3, 4} {
				block(num, 6)
			}
			block(4, 5) // the first half of 2
			block(5, 5)
			block(3, 6)
			h.reported(p, s)
			h.happened(transporttest.Acknowledged, 0)
			block(4, 6)
			h.evident(one, transports.EvidenceWritten)
			p.ack(h.hears(p, kind, codes.Content, string(m.Token), 2).MessageID)
			if ev := h.engine.Next(t, transporttest.Written); ev.Call != one.Call || !ev.Ack {
				t.Fatalf("written %+v, want an evidence to follow", ev)
			}
		})
	}
}

// TestLongCommandNotFetched: the device takes the first block and no other. The call failed, and the next one follows. As long as it
// has not acknowledged the first block, the others wait for it.
func TestLongCommandNotFetched(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(c *coap.Config) {
		c.TransferIdle, c.AckTimeout = time.Millisecond, 300*time.Millisecond
	})
	p, s := h.observer("d")
	one, two := long(1, 3000), command(2)
	s.Link.Send(one)
	s.Link.Send(two)
	var first packet
	for range 4 { // the last comes after 2.1 seconds: idle transfers were looked for meanwhile
		first = h.hears(p, message.Confirmable, codes.Content, "c", 1)
	}
	h.happened(transporttest.Failed, 0)
	if a := p.ask(t, p.request(codes.GET, calls("d"), "", blockOpt(message.Block2, 1, false, 6))); a.Code != codes.Content {
		t.Fatalf("%s came", a)
	}
	p.ack(first.MessageID)
	h.fails(one, "coap_not_fetched")
	p.ack(h.hears(p, message.Confirmable, codes.Content, "c", 2).MessageID)
	h.acknowledged(two)
	h.happened(transporttest.Acknowledged, 1)
	h.happened(transporttest.Disconnect, 0)
}
