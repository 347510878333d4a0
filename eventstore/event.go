package eventstore

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"

	"github.com/google/uuid"
)

// Hash is a SHA-256 digest; the zero Hash stands before the first event of a stream or partition.
type Hash [sha256.Size]byte

// Event is one stored fact in envelope v1 (docs/decisions/0001-event-envelope.md).
// Times are microseconds since 1970-01-01T00:00:00Z.
type Event struct {
	Stream       string // "rpc/<tenant>/<call>", "device/<id>", "run/<id>", "window/…", "system/<partition>"
	Began        int64  // At of the stream's first event: decides the month in which the stream is kept
	Version      int64  // 1, 2, … within the stream, without gaps
	Partition    int32
	Seq          int64 // 1, 2, … within the partition, without gaps
	Type         string
	TypeVersion  int16
	At           int64 // when the owner took the command; never goes backwards within a partition
	Occurred     int64 // when it happened by the sender's clock; At if the sender told no time
	Tenant       uuid.UUID
	Device       uuid.UUID // uuid.Nil if the fact concerns no device
	Actor        string    // "user:<id>", "device:<id>", "chain:<id>", "system"
	Cause        string    // what led to it: "rest", "mqtt", "node:<chain>/<node>", "timer", "recovery"
	Hops         int16     // how often life-cycle facts have re-entered a chain on the way here
	Trace        [16]byte  // W3C trace id, zero if none
	ChainVersion string    // "<chain>@<version>" of the chain that made it, empty if none
	AppendID     uuid.UUID // the append that stored it
	KeyID        string    // key of the encrypted personal fields in Data, empty if none
	Data         []byte    // JSON object, owned by the event: not changed after it was handed over
	Hash         Hash      // Digest of this event after the hash of the stream's previous one
}

// Digest is the hash of e in its stream: SHA-256 over prev and the stored bytes of the envelope's fields, in the
// envelope's order. Strings and Data are preceded by their length, so that no two events share one input.
// AppendID is left out: a batch that is appended again after a torn connection keeps its hashes.
func (e *Event) Digest(prev Hash) Hash {
	h := sha256.New()
	h.Write(prev[:])
	e.writeTo(h)
	var out Hash
	h.Sum(out[:0])
	return out
}

func (e *Event) writeTo(h hash.Hash) {
	buf := make([]byte, 0, 512)
	buf = appendText(buf, e.Stream)
	buf = binary.BigEndian.AppendUint64(buf, uint64(e.Began))
	buf = binary.BigEndian.AppendUint64(buf, uint64(e.Version))
	buf = binary.BigEndian.AppendUint32(buf, uint32(e.Partition))
	buf = binary.BigEndian.AppendUint64(buf, uint64(e.Seq))
	buf = appendText(buf, e.Type)
	buf = binary.BigEndian.AppendUint16(buf, uint16(e.TypeVersion))
	buf = binary.BigEndian.AppendUint64(buf, uint64(e.At))
	buf = binary.BigEndian.AppendUint64(buf, uint64(e.Occurred))
	buf = append(buf, e.Tenant[:]...)
	buf = append(buf, e.Device[:]...)
	buf = appendText(buf, e.Actor)
	buf = appendText(buf, e.Cause)
	buf = binary.BigEndian.AppendUint16(buf, uint16(e.Hops))
	buf = append(buf, e.Trace[:]...)
	buf = appendText(buf, e.ChainVersion)
	buf = appendText(buf, e.KeyID)
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(e.Data)))
	h.Write(buf)
	h.Write(e.Data)
}

func appendText(buf []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(buf, uint32(len(s))), s...)
}

// Link is the next head of a partition's chain: the hash over the head so far and the hash of the event at its seq.
func Link(head, event Hash) Hash {
	var both [2 * sha256.Size]byte
	copy(both[:sha256.Size], head[:])
	copy(both[sha256.Size:], event[:])
	return sha256.Sum256(both[:])
}
