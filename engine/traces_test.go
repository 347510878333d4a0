package engine_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"callchain/chains"
	"callchain/engine/projection"
	"callchain/eventstore"
	"callchain/nodes/builtin"
)

// traces are the stored traces, the oldest first, one line each.
func (r *rig) traces() []string {
	r.t.Helper()
	rows, err := r.store.Rows(context.Background(), eventstore.Query{Table: projection.Traces})
	if err != nil {
		r.t.Fatal(err)
	}
	var list []projection.Trace
	for _, row := range rows {
		t, err := projection.ReadTrace(row)
		if err != nil {
			r.t.Fatal(err)
		}
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b projection.Trace) int {
		return cmp.Or(cmp.Compare(a.At, b.At), strings.Compare(a.ID.String(), b.ID.String()))
	})
	out := make([]string, len(list))
	for i, t := range list {
		out[i] = fmt.Sprintf("%s %s %s %s %s%s", t.Body.Name, t.Direction, t.Body.Type, t.Body.Data, t.Body.Relation, t.Body.Error)
		if t.Tenant != tenant || t.Body.EntityType != "DEVICE" || t.At == 0 || t.Failed != (t.Body.Error != "") {
			r.t.Errorf("%s is %+v", out[i], t)
		}
	}
	return out
}

func (r *rig) telemetry(d *device, text string) {
	r.t.Helper()
	r.engine.Inbound().Telemetry(d.session, []byte(text), r.mustBe("telemetry", nil))
	synctest.Wait()
}

// What fails is traced always, all else only where a chain asks for it, and only until then.
func TestTraces(t *testing.T) {
	inBubble(t, func(r *rig) {
		d := r.connect("d1", "A")
		r.telemetry(d, `{"a":1}`)
		if got := r.traces(); len(got) > 0 {
			t.Fatalf("nobody asked for %q", got)
		}
		r.telemetry(d, `{}`)
		want := []string{"store IN POST_TELEMETRY_REQUEST {} ", "store OUT POST_TELEMETRY_REQUEST {} FailureMsg body is empty"}
		if got := r.traces(); !slices.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
		r.chain = r.debugged("store", time.Now().Add(time.Minute))
		r.telemetry(d, `{"a":2}`)
		pass(2 * time.Minute)
		r.telemetry(d, `{"a":3}`)
		want = append(want, `store IN POST_TELEMETRY_REQUEST {"a":2} `, `store OUT POST_TELEMETRY_REQUEST {"a":2} Success`)
		if got := r.traces(); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// debugged is the root chain with a node that is traced until a time.
func (r *rig) debugged(node string, until time.Time) *chains.Program {
	r.t.Helper()
	d, err := chains.Parse("chain.yaml", []byte(strings.Replace(rootChain, "type: broken", "type: log", 1)))
	if err != nil {
		r.t.Fatal(err)
	}
	for i := range d.Nodes {
		if d.Nodes[i].Name == node {
			d.Nodes[i].Debug.Until = until.UnixMilli()
		}
	}
	p, err := chains.Compile(d, builtin.Registry(), named("chain"), 2)
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

// A node has a bounded number of rows; the newest stay, also those of another process.
func TestTracesAreBounded(t *testing.T) {
	inBubble(t, func(r *rig) {
		d := r.connect("d1", "A")
		for range projection.TraceSlots {
			r.telemetry(d, `{}`)
		}
		if got := r.traces(); len(got) != projection.TraceSlots {
			t.Errorf("%d rows, want %d", len(got), projection.TraceSlots)
		}
		again := r.again()
		d = again.connect("d1", "B")
		pass(10 * time.Second)
		again.telemetry(d, `{"new":null}`)
		got := again.traces()
		if len(got) != projection.TraceSlots || !strings.HasPrefix(got[len(got)-1], "store OUT POST_TELEMETRY_REQUEST {\"new\"") {
			t.Errorf("%d rows, the last ones are %q", len(got), got[len(got)-5:])
		}
	})
}
