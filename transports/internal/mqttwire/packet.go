package mqttwire

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Packet types: the upper half of the first byte (section 2.1.2 of MQTT 5, 2.2.1 of MQTT 3.1.1).
const (
	Connect     byte = 1
	Connack     byte = 2
	Publish     byte = 3
	Puback      byte = 4
	Pubrec      byte = 5
	Pubrel      byte = 6
	Pubcomp     byte = 7
	Subscribe   byte = 8
	Suback      byte = 9
	Unsubscribe byte = 10
	Unsuback    byte = 11
	Pingreq     byte = 12
	Pingresp    byte = 13
	Disconnect  byte = 14
	Auth        byte = 15
)

// Protocol levels of CONNECT.
const (
	V31  byte = 3
	V311 byte = 4
	V5   byte = 5
)

// Message is a PUBLISH packet. Slices of a parsed one point into the packet.
type Message struct {
	Topic      []byte
	Payload    []byte
	Properties []byte // MQTT 5, encoded, without their length
	ID         uint16 // 0 with QoS 0
	QoS        byte
	Dup        bool
	Retain     bool
}

// ParseMessage reads the body of a PUBLISH whose first byte is header. It fails with ErrMalformed; the text of the topic and the
// properties are not judged.
func ParseMessage(header byte, body []byte, version byte) (Message, error) {
	m := Message{QoS: header >> 1 & 3, Dup: header&8 != 0, Retain: header&1 != 0}
	if m.QoS == 3 {
		return Message{}, fmt.Errorf("%w: QoS 3", ErrMalformed) // [MQTT-3.3.1-4]
	}
	var ok bool
	if m.Topic, body, ok = cutString(body); !ok {
		return Message{}, fmt.Errorf("%w: the topic of a PUBLISH is cut short", ErrMalformed)
	}
	if m.QoS > 0 {
		if len(body) < 2 {
			return Message{}, fmt.Errorf("%w: a PUBLISH without packet identifier", ErrMalformed)
		}
		m.ID, body = binary.BigEndian.Uint16(body), body[2:]
		if m.ID == 0 { // [MQTT-2.3.1-1], [MQTT-2.2.1-3] in MQTT 5
			return Message{}, fmt.Errorf("%w: packet identifier 0", ErrMalformed)
		}
	}
	if version == V5 {
		if m.Properties, body, ok = CutProperties(body); !ok {
			return Message{}, fmt.Errorf("%w: the properties of a PUBLISH are cut short", ErrMalformed)
		}
	}
	m.Payload = body
	return m, nil
}

// CutProperties splits MQTT 5 properties with their length off the front of b.
func CutProperties(b []byte) (properties, rest []byte, ok bool) {
	length, n, err := decodeLength(b)
	if err != nil || n == 0 || len(b) < n+length {
		return nil, nil, false
	}
	return b[n : n+length], b[n+length:], true
}

// CutString splits a string with its two bytes of length off the front of b.
func CutString(b []byte) (s, rest []byte, ok bool) { return cutString(b) }

func cutString(b []byte) (s, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := 2 + int(binary.BigEndian.Uint16(b))
	if len(b) < n {
		return nil, nil, false
	}
	return b[2:n], b[n:], true
}

// ParseAck reads the body of a PUBACK: packet identifier and reason code (0 when it is left out, section 3.4.2.1 of MQTT 5).
func ParseAck(body []byte) (id uint16, code byte, err error) {
	if len(body) < 2 {
		return 0, 0, fmt.Errorf("%w: a PUBACK without packet identifier", ErrMalformed)
	}
	if len(body) > 2 {
		code = body[2]
	}
	return binary.BigEndian.Uint16(body), code, nil
}

// Size tells how many bytes AppendMessage adds for m.
func Size(m Message, version byte) int {
	n := remaining(m, version)
	return 1 + lengthSize(n) + n
}

func remaining(m Message, version byte) int {
	n := 2 + len(m.Topic) + len(m.Payload)
	if m.QoS > 0 {
		n += 2
	}
	if version == V5 {
		n += lengthSize(len(m.Properties)) + len(m.Properties)
	}
	return n
}

// AppendMessage encodes m as a PUBLISH of the protocol version. The topic must be shorter than 64 KiB.
func AppendMessage(dst []byte, m Message, version byte) []byte {
	first := Publish<<4 | m.QoS<<1
	if m.Dup {
		first |= 8
	}
	if m.Retain {
		first |= 1
	}
	dst = AppendLength(append(dst, first), remaining(m, version))
	dst = AppendString(dst, m.Topic)
	if m.QoS > 0 {
		dst = binary.BigEndian.AppendUint16(dst, m.ID)
	}
	if version == V5 {
		dst = append(AppendLength(dst, len(m.Properties)), m.Properties...)
	}
	return append(dst, m.Payload...)
}

// AppendAck encodes a PUBACK. Code 0 is left out, and earlier versions than 5 have none.
func AppendAck(dst []byte, id uint16, code, version byte) []byte {
	if code == 0 || version != V5 {
		return append(dst, Puback<<4, 2, byte(id>>8), byte(id))
	}
	return append(dst, Puback<<4, 3, byte(id>>8), byte(id), code)
}

// AppendLength encodes n as a variable byte integer (section 1.5.5 of MQTT 5).
func AppendLength(dst []byte, n int) []byte {
	for n > 0x7f {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n))
}

func lengthSize(n int) int {
	size := 1
	for ; n > 0x7f; n >>= 7 {
		size++
	}
	return size
}

// AppendString encodes s, cut at 65,535 bytes, with its two bytes of length.
func AppendString[S ~string | ~[]byte](dst []byte, s S) []byte {
	n := min(len(s), math.MaxUint16)
	return append(binary.BigEndian.AppendUint16(dst, uint16(n)), s[:n]...)
}
