package replay_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"callchain/engine/projection"
	"callchain/engine/replay"
	"callchain/engine/rpc"
	"callchain/eventstore"

	"github.com/google/uuid"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const lives = 100

// TestEveryCallIsHandedOverInItsLastState: with facts after the end of a call, too, it is last handed over in the state of its row.
func TestEveryCallIsHandedOverInItsLastState(t *testing.T) {
	stores(t, func(t *testing.T, s eventstore.Store) {
		h := newHistory(t, s)
		h.lives(lives)
		last, first := map[uuid.UUID]projection.Call{}, 0
		var read int64
		o := replay.Options{Workers: 2, Page: 50, Progress: func(events, of int64) { read = events }}
		sum, err := replay.Calls(t.Context(), s, o, func(c *projection.Call, again bool) error {
			last[c.State.ID] = *c
			if !again {
				first++
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if sum.Calls != lives || first != lives || sum.Open != 12 || sum.Broken != 0 || sum.Events != read {
			t.Errorf("replayed %+v, %d calls handed over, progress reported %d events", sum, first, read)
		}
		for id, c := range h.calls {
			got := last[id]
			a, errA := got.Row()
			b, errB := c.call.Row()
			if errA != nil || errB != nil || fmt.Sprint(a.Values) != fmt.Sprint(b.Values) {
				t.Errorf("call %s is handed over as\n%v (%v)\nits events give\n%v (%v)", id, a.Values, errA, b.Values, errB)
			}
		}
	})
}

func TestCheckFindsNothingInASoundStore(t *testing.T) {
	stores(t, func(t *testing.T, s eventstore.Store) {
		h := newHistory(t, s)
		h.lives(lives)
		sum, reports := h.checked()
		if len(reports) > 0 || sum.Different != 0 || sum.Calls != lives || sum.Rows != lives-6 { // of 12 open calls 6 are light
			t.Errorf("Check = %+v, %v", sum, reports)
		}
	})
}

// TestCheckNamesWhatDiffers breaks one row at a time.
func TestCheckNamesWhatDiffers(t *testing.T) {
	ended, light, late := named("call 4"), named("call 9"), named("call 14") // 9 is open
	for _, tt := range []struct {
		name   string
		damage func(*history)
		want   []string
		equal  int64
	}{
		{"phase", func(h *history) { h.change(ended, "phase", "failed") }, []string{"column phase is failed, the events give succeeded"}, 93},
		{"response", func(h *history) { h.change(ended, "response", []byte(`1`)) }, []string{`column response is "1", the events give "{\"error\":`}, 93},
		{"wire", func(h *history) { h.change(ended, "wire", nil) }, []string{"column wire is NULL, the events give 4"}, 93},
		{"missing", func(h *history) { h.write(ended, nil) }, []string{"the table has no row, the events give a row"}, 93},
		{"surplus", func(h *history) { h.copyTo(ended, named("nobody")) }, []string{"call " + named("nobody").String(), "the table has a row, the events give no row"}, 94},
		{"one missing, one surplus", func(h *history) { h.copyTo(ended, named("nobody")); h.write(ended, nil) }, []string{"no row, the events", "give no row"}, 93},
		{"of an open light call", func(h *history) { h.copyTo(ended, light) }, []string{"the table has a row, the events give no row"}, 94},
		{"fact beside the end", func(h *history) { h.rows = false; h.addFacts(late, rpc.Removed{}); h.commit() }, []string{"column version is 6, the events give 7"}, 93},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stores(t, func(t *testing.T, s eventstore.Store) {
				h := newHistory(t, s)
				h.lives(lives)
				tt.damage(h)
				sum, reports := h.checked()
				text := strings.Join(reports, "\n")
				for _, want := range tt.want {
					if !strings.Contains(text, want) {
						t.Errorf("reported is\n%s\nwant %q in it", text, want)
					}
				}
				if sum.Different == 0 || sum.Rows != tt.equal {
					t.Errorf("Check = %+v, want %d equal rows", sum, tt.equal)
				}
			})
		})
	}
}

// change sets one column of a call's row.
func (h *history) change(call uuid.UUID, column string, value any) {
	values := slices.Clone(h.values(call))
	values[projection.Calls.Index(column)] = value
	h.write(call, values)
}

// copyTo writes the row of a call under another id.
func (h *history) copyTo(from, to uuid.UUID) {
	values := slices.Clone(h.values(from))
	values[1] = to
	h.write(to, values)
}

func TestRebuildRestoresTheRows(t *testing.T) {
	stores(t, func(t *testing.T, s eventstore.Store) {
		h := newHistory(t, s)
		h.lives(lives)
		for i := range lives {
			h.write(named(fmt.Sprint("call ", i)), nil)
		}
		h.copyTo(named("call 4"), named("nobody"))
		if sum, _ := h.checked(); sum.Rows != 0 || sum.Different != lives-6+1 {
			t.Fatalf("after the rows were dropped, Check = %+v", sum)
		}
		done, err := replay.Rebuild(t.Context(), s, "rebuild", replay.Options{})
		if err != nil || done.Written != lives-6 || done.Removed != 1 || done.Calls != lives {
			t.Errorf("Rebuild = %+v, %v", done, err)
		}
		if sum, reports := h.checked(); sum.Different != 0 || sum.Rows != lives-6 {
			t.Errorf("after the rebuild, Check = %+v, %v", sum, reports)
		}
		var problems []eventstore.Problem
		if _, err := eventstore.Verify(t.Context(), s, func(p eventstore.Problem) { problems = append(problems, p) }); err != nil || problems != nil {
			t.Errorf("the rebuild harmed the log: %v, %v", problems, err)
		}
	})
}

// TestRebuildFencesAnOwner: whoever owned the partitions before the rebuild appends no more.
func TestRebuildFencesAnOwner(t *testing.T) {
	s := embedded(t)
	h := newHistory(t, s)
	h.lives(3)
	if _, err := replay.Rebuild(t.Context(), s, "rebuild", replay.Options{}); err != nil {
		t.Fatal(err)
	}
	h.addFacts(named("call 99"), rpc.Requested{Method: "m"})
	p := *h.at[int32(named("call 99")[0]%partitions)]
	fenced, err := s.Append(t.Context(), eventstore.Batch{ID: uuid.New(), Partitions: []eventstore.PartitionBatch{p}})
	if err != nil || len(fenced) != 1 {
		t.Errorf("an owner from before the rebuild appends: %v, %v", fenced, err)
	}
}

// unknown is a fact of a later version.
type unknown struct{ rpc.Fact }

func (unknown) Name() string { return "Teleported" }

func TestACallThatCannotBeFoldedIsReportedOnceAndLeftOut(t *testing.T) {
	stores(t, func(t *testing.T, s eventstore.Store) {
		h := newHistory(t, s)
		bad := named("bad")
		h.addFacts(bad, rpc.Requested{Method: "m"}, unknown{rpc.Removed{}}, rpc.Queued{})
		h.lives(30)
		h.addFacts(bad, rpc.Sent{}, rpc.Cancelled{}, rpc.Removed{})
		h.commit()
		var broken []string
		o := replay.Options{Broken: func(stream string, err error) { broken = append(broken, fmt.Sprintf("%s: %v", stream, err)) }}
		sum, err := replay.Calls(t.Context(), s, o, func(c *projection.Call, _ bool) error {
			if c.State.ID == bad {
				t.Errorf("the broken call is handed over: %+v", c.State)
			}
			return nil
		})
		if err != nil || sum.Broken != 1 || sum.Calls != 31 || len(broken) != 1 || !strings.Contains(broken[0], bad.String()) || !strings.Contains(broken[0], "Teleported") {
			t.Errorf("Calls = %+v, %v; reported as broken: %v", sum, err, broken)
		}
	})
}

func TestAnErrorOrACancelEndsTheReplay(t *testing.T) {
	s := embedded(t)
	newHistory(t, s).lives(lives)
	enough := errors.New("enough")
	for range 20 { // the readers are ahead by chance
		if _, err := replay.Calls(t.Context(), s, replay.Options{Page: 10}, func(*projection.Call, bool) error { return enough }); !errors.Is(err, enough) {
			t.Fatalf("Calls = %v, want the receiver's error", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := replay.Check(ctx, s, replay.Options{Page: 10, Progress: func(int64, int64) { cancel() }}, func(replay.Difference) {}); !errors.Is(err, context.Canceled) {
			t.Fatalf("Check = %v, want the context's error", err)
		}
	}
}
