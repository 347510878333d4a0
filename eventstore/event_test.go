package eventstore_test

import (
	"encoding/hex"
	"errors"
	"testing"

	"github.com/google/uuid"

	"callchain/eventstore"
)

func sample() eventstore.Event {
	return eventstore.Event{
		Stream: "rpc/018f2c1e-0a5b-7c3d-8e4f-0123456789ab/6ba7b810-9dad-41d1-80b4-00c04fd430c8", Began: 1, Version: 2, Partition: 3, Seq: 4,
		Type: "Queued", TypeVersion: 1, At: 5, Occurred: 6, Tenant: uuid.UUID{1}, Device: uuid.UUID{2}, Actor: "user:a", Cause: "rest", Hops: 7,
		Trace: [16]byte{3}, ChainVersion: "root@1", AppendID: uuid.UUID{4}, KeyID: "k", Data: []byte(`{"a":1}`),
	}
}

// The digest is stored with every event: these values must never change. They were computed by another program from the envelope's page.
func TestDigestIsFixed(t *testing.T) {
	e := sample()
	const want = "1443ca9bb3b49c1fcef367682872f51719ab2e5261ede6b66e557600ec7bd1be"
	if got := e.Digest(eventstore.Hash{9}); hex.EncodeToString(got[:]) != want {
		t.Errorf("Digest = %x, want %s: stored events could not be verified any more", got, want)
	}
	const head = "ff55c97976a840b4ced964ed49e3794594ba3f675238b5fd25d282b60f70a194"
	if got := eventstore.Link(eventstore.Hash{1}, eventstore.Hash{2}); hex.EncodeToString(got[:]) != head {
		t.Errorf("Link = %x, want %s", got, head)
	}
}

func TestDigestCoversEveryFieldButTheAppend(t *testing.T) {
	base := sample()
	was := base.Digest(eventstore.Hash{})
	for name, change := range map[string]func(e *eventstore.Event){
		"Stream": func(e *eventstore.Event) { e.Stream += "x" }, "Began": func(e *eventstore.Event) { e.Began++ },
		"Version": func(e *eventstore.Event) { e.Version++ }, "Partition": func(e *eventstore.Event) { e.Partition++ },
		"Seq": func(e *eventstore.Event) { e.Seq++ }, "Type": func(e *eventstore.Event) { e.Type += "x" },
		"TypeVersion": func(e *eventstore.Event) { e.TypeVersion++ }, "At": func(e *eventstore.Event) { e.At++ },
		"Occurred": func(e *eventstore.Event) { e.Occurred++ }, "Tenant": func(e *eventstore.Event) { e.Tenant[15]++ },
		"Device": func(e *eventstore.Event) { e.Device[15]++ }, "Actor": func(e *eventstore.Event) { e.Actor += "x" },
		"Cause": func(e *eventstore.Event) { e.Cause += "x" }, "Hops": func(e *eventstore.Event) { e.Hops++ },
		"Trace": func(e *eventstore.Event) { e.Trace[15]++ }, "ChainVersion": func(e *eventstore.Event) { e.ChainVersion += "x" },
		"KeyID": func(e *eventstore.Event) { e.KeyID += "x" }, "Data": func(e *eventstore.Event) { e.Data = []byte(`{"a":2}`) },
		// The same characters, cut elsewhere.
		"a border": func(e *eventstore.Event) { e.Actor, e.Cause = "user:ar", "est" },
	} {
		e := sample()
		change(&e)
		if e.Digest(eventstore.Hash{}) == was {
			t.Errorf("another %s gives the same digest", name)
		}
	}
	if base.Digest(eventstore.Hash{1}) == was {
		t.Error("another hash before gives the same digest")
	}
	base.AppendID, base.Hash = uuid.UUID{}, eventstore.Hash{}
	if base.Digest(eventstore.Hash{}) != was {
		t.Error("the append's id changes the digest: a batch that is appended again would change its hashes")
	}
}

func TestColumnsTakeTheirKindOnly(t *testing.T) {
	values := map[eventstore.Kind]any{
		eventstore.Int: int64(1), eventstore.Text: "t", eventstore.Bytes: []byte{255}, eventstore.UUID: uuid.UUID{1},
		eventstore.JSON: []byte(`1`), eventstore.Bool: true,
	}
	for kind := range values {
		for of, value := range values {
			err := eventstore.Column{Name: "c", Kind: kind}.Check(value)
			var refused *eventstore.RefusedError
			switch {
			case kind == of && err != nil:
				t.Errorf("a column of kind %d refuses its own %T: %v", kind, value, err)
			case kind == eventstore.JSON && of == eventstore.Bytes: // both are []byte: told by the contents
				if !errors.As(err, &refused) {
					t.Errorf("bytes that are not JSON = %v, want a refusal", err)
				}
			case kind == eventstore.Bytes && of == eventstore.JSON: // any bytes will do
			case kind != of && (err == nil || errors.As(err, &refused)):
				t.Errorf("a column of kind %d and a %T = %v, want a plain error", kind, value, err)
			}
		}
	}
	if err := (eventstore.Column{}).Check(1); err == nil {
		t.Error("an int is taken: the kinds have int64")
	}
}
