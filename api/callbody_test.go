package api

import (
	"errors"
	"testing"
	"time"

	"callchain/api/jackson"

	"github.com/google/uuid"
)

func TestDeadline(t *testing.T) {
	limits := Timeouts{Minimum: 5 * time.Second, Default: 10 * time.Second}
	for _, c := range []struct {
		body string
		want time.Duration // from now
	}{
		{`{"method":"m"}`, 10 * time.Second},
		{`{"method":"m","timeout":1}`, 5 * time.Second},
		{`{"method":"m","timeout":-1}`, 5 * time.Second},
		{`{"method":"m","timeout":"7000"}`, 7 * time.Second},
		{`{"method":"m","timeout":60000,"expirationTime":1783000002000}`, 2 * time.Second},
		{`{"method":"m","expirationTime":0}`, -1783000000 * time.Second},
		{`{"method":"m","expirationTime":-5}`, -1783000000 * time.Second},
	} {
		b, err := decodeCall([]byte(c.body))
		if err != nil {
			t.Fatal(err)
		}
		if got := b.deadline(begun, limits).Sub(begun); got != c.want {
			t.Errorf("%s: %v, want %v", c.body, got, c.want)
		}
	}
	for _, body := range []string{`{"method":"m","timeout":9223372036854775807}`, `{"method":"m","expirationTime":9223372036854775807}`} {
		b, err := decodeCall([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if got := b.deadline(begun, limits); got.UnixMilli() != lastMillis {
			t.Errorf("%s: %v, want the end of the year 9999", body, got)
		}
	}
}

// FuzzDecodeCall: whatever comes, the decoder says yes with JSON that can be handed on, or no with a 400.
func FuzzDecodeCall(f *testing.F) {
	for _, s := range []string{
		`{"method":"m","params":{"a":[1.50,1e3]},"timeout":"5","expirationTime":1e12,"retries":null,"persistent":"true"}`,
		`{"method":{"a":1},"requestUUID":"aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee","additionalInfo":[1,"x"]}`,
		`{"method":1,"onOffline":"fail","submitOrder":"on_ack"}`, `[1]`, `null`, `{"method":`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		b, err := decodeCall(in)
		var refused *apiError
		if errors.As(err, &refused) {
			if refused.status != 400 || refused.detail == "" {
				t.Fatalf("%q: %+v", in, refused)
			}
			return
		}
		if err != nil || !b.hasMethod {
			t.Fatalf("%q: %v", in, err)
		}
		for _, raw := range [][]byte{b.params, b.info} {
			if raw == nil {
				continue
			}
			if again, err := jackson.Append(nil, raw); err != nil || string(again) != string(raw) {
				t.Fatalf("%q: handed on %q: %v", in, raw, err)
			}
		}
		if at := b.deadline(begun, DefaultConfig().Timeouts); at.UnixMilli() > lastMillis || at.UnixMilli() < 0 {
			t.Fatalf("%q: deadline %v", in, at)
		}
		if b.id != uuid.Nil && len(b.id.String()) != 36 {
			t.Fatalf("%q: id %v", in, b.id)
		}
	})
}
