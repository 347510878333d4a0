package sqlite

import (
	"context"
	"fmt"
	"testing"

	"callchain/eventstore"

	"github.com/google/uuid"
)

func BenchmarkSpread(b *testing.B) {
	for _, parts := range []int{1, 30} {
		b.Run(fmt.Sprint(parts), func(b *testing.B) {
			ctx := context.Background()
			s, err := Open(ctx, Options{Path: b.TempDir() + "/x.db"})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			nums := make([]int32, 64)
			for i := range nums {
				nums[i] = int32(i)
			}
			cps, err := s.Claim(ctx, "n", nums)
			if err != nil {
				b.Fatal(err)
			}
			tenant := uuid.New()
			data := []byte(`{"response":{"json":{"ok":true,"a":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}}}`)
			for b.Loop() {
				batch := eventstore.Batch{ID: uuid.New()}
				for i := range parts {
					cp := cps[(i*2+int(batch.ID[0]))%64]
					pb := eventstore.PartitionBatch{Expect: cp}
					for range 45 / parts {
						cp.Seq++
						id, _ := uuid.NewV7()
						pb.Events = append(pb.Events, eventstore.Event{Stream: "rpc/" + tenant.String() + "/" + id.String(), Began: 1, Version: 1, Partition: cp.Partition, Seq: cp.Seq, Type: "Requested", TypeVersion: 1, At: 5, Occurred: 5, Tenant: tenant, Device: tenant, Actor: "system", Cause: "rest", Data: data})
					}
					cp.Append = batch.ID
					pb.Next = cp
					cps[cp.Partition] = cp
					batch.Partitions = append(batch.Partitions, pb)
				}
				if f, err := s.Append(ctx, batch); err != nil || len(f) > 0 {
					b.Fatal(f, err)
				}
			}
		})
	}
}
