package streamkey_test

import (
	"testing"

	"callchain/eventstore/streamkey"
)

const (
	a = "018f2c1e-0a5b-7c3d-8e4f-0123456789ab"
	b = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
)

func TestPackedStreamsComeBackAsTheyWere(t *testing.T) {
	for stream, size := range map[string]int{
		"rpc/" + a + "/" + b:        33,
		"rpc/" + a + "/" + b + "/x": 35,
		"device/" + a:               17,
		"device/" + a + "/12":       20,
		"run/" + b:                  17,
		"system/7":                  9,
		"window/c/n/" + a:           48,
		"":                          1,
		// Not canonical: kept as text, else another name would come back.
		"device/018F2C1E-0a5b-7c3d-8e4f-0123456789ab": 44,
		"rpc/" + a + "x" + b:                          78,
		"rpc/" + a:                                    41,
		"run/018f2c1e+0a5b-7c3d-8e4f-0123456789ab":    41,
	} {
		key := streamkey.Pack(stream)
		if len(key) != size {
			t.Errorf("Pack(%q) takes %d bytes, want %d", stream, len(key), size)
		}
		if back, err := streamkey.Unpack(key); err != nil || back != stream {
			t.Errorf("Unpack(Pack(%q)) = %q, %v", stream, back, err)
		}
	}
}

func FuzzPack(f *testing.F) {
	f.Add("rpc/" + a + "/" + b)
	f.Add("device/" + a + "/3")
	f.Fuzz(func(t *testing.T, stream string) {
		back, err := streamkey.Unpack(streamkey.Pack(stream))
		if err != nil || back != stream {
			t.Fatalf("Unpack(Pack(%q)) = %q, %v", stream, back, err)
		}
	})
}

func TestMalformedKeysAreErrors(t *testing.T) {
	for _, key := range [][]byte{nil, {9}, {1, 2, 3}, {2}} {
		if s, err := streamkey.Unpack(key); err == nil {
			t.Errorf("Unpack(%x) = %q, want an error", key, s)
		}
	}
}
