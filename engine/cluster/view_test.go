package cluster_test

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"callchain/engine/cluster"

	"pgregory.net/rapid"
)

var begin = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

const self, a1, a2, b1 = "self/1", "a/1", "a/2", "b/1"

// testView is a View that receives heartbeats, one after the other, a period apart.
type testView struct {
	*cluster.View
	now time.Time
}

func newTestView(partitions int32) *testView {
	return &testView{cluster.NewView(self, partitions), begin}
}

func (v *testView) receive(process string, owns ...cluster.Claim) cluster.Changes {
	return v.Receive(cluster.Heartbeat{Process: process, Level: cluster.Level, Owns: owns}, v.now)
}

// pass lets time pass, in which these processes send heartbeats.
func (v *testView) pass(d time.Duration, processes ...string) (all cluster.Changes) {
	for end := v.now.Add(d); v.now.Before(end); {
		v.now = v.now.Add(cluster.HeartbeatPeriod)
		for _, p := range processes {
			all.Back = v.receive(p).Back || all.Back
		}
		all.Gone = append(all.Gone, v.Tick(v.now).Gone...)
	}
	return all
}

// TestPausedProcessDeclaresNobodyDead: a process that was paused must not take the silence for that of the others, and must send its own heartbeat again.
func TestPausedProcessDeclaresNobodyDead(t *testing.T) {
	v := newTestView(4)
	v.pass(time.Second, self, a1)
	v.now = v.now.Add(time.Minute)
	if news := v.Tick(v.now); len(news.Gone) > 0 {
		t.Errorf("it takes %v for dead after it was stopped itself", news.Gone)
	}
	if news := v.receive(self); !news.Back || len(news.Gone) > 0 {
		t.Errorf("after a pause its own heartbeat changes %+v", news)
	}
	if news := v.pass(cluster.DeadAfter-cluster.HeartbeatPeriod, self); len(news.Gone) > 0 {
		t.Errorf("%v had no time for a heartbeat", news.Gone)
	}
	if news := v.pass(2*cluster.HeartbeatPeriod, self); !slices.Equal(news.Gone, []string{a1}) {
		t.Errorf("gone are %v, want %s, which is silent", news.Gone, a1)
	}
}

func TestSilentNodeIsGone(t *testing.T) {
	v := newTestView(4)
	v.pass(time.Second, self, a1, b1)
	if news := v.pass(cluster.DeadAfter-cluster.HeartbeatPeriod, self, b1); len(news.Gone) > 0 {
		t.Errorf("gone too early: %v", news.Gone)
	}
	if news := v.pass(2*cluster.HeartbeatPeriod, self, b1); !slices.Equal(news.Gone, []string{a1}) {
		t.Errorf("gone are %v, want %s", news.Gone, a1)
	}
	if got := v.Others(); !slices.Equal(got, []string{b1}) {
		t.Errorf("the others are %v", got)
	}
	if news := v.receive(a1); len(news.Claimed) > 0 || !v.Alive(a1) {
		t.Errorf("heard again, it is not known: %+v", news)
	}
}

func TestNodeStartedAgain(t *testing.T) {
	v := newTestView(4)
	v.receive(self)
	v.receive(a1)
	if news := v.receive(a2); !slices.Equal(news.Gone, []string{a1}) {
		t.Errorf("gone are %v, want the run before", news.Gone)
	}
	if news := v.Receive(cluster.Heartbeat{Process: b1, Level: 1, Leaving: true}, v.now); len(news.Gone) > 0 {
		t.Errorf("one that was never heard is gone: %v", news.Gone)
	}
	if news := v.Receive(cluster.Heartbeat{Process: a2, Level: 1, Leaving: true}, v.now); !slices.Equal(news.Gone, []string{a2}) || v.Alive(a2) {
		t.Errorf("one that says goodbye: gone are %v", news.Gone)
	}
}

func TestNewestClaimCounts(t *testing.T) {
	v := newTestView(2)
	if news := v.receive(self, cluster.Claim{Partition: 0, Epoch: 3}); len(news.Claimed) > 0 {
		t.Errorf("its own claim is news: %v", news.Claimed)
	}
	claim := cluster.Claim{Partition: 0, Epoch: 4}
	if news := v.receive(a1, claim, cluster.Claim{Partition: 7, Epoch: 1}); !reflect.DeepEqual(news.Claimed, []cluster.Claim{claim}) {
		t.Errorf("claimed are %v", news.Claimed)
	}
	if news := v.receive(a1, claim); len(news.Claimed) > 0 {
		t.Errorf("what was heard before is news: %v", news.Claimed)
	}
	v.receive(b1, cluster.Claim{Partition: 0, Epoch: 2}) // was stopped, and does not know yet
	if owner, epoch := v.Owner(0); owner != a1 || epoch != 4 {
		t.Errorf("the owner is %s with epoch %d", owner, epoch)
	}
	if owner, _ := v.Owner(1); owner != "" {
		t.Errorf("nobody claimed partition 1, but %s is its owner", owner)
	}
}

func TestAgeCountsWhileItIsFresh(t *testing.T) {
	v := newTestView(1)
	v.Receive(cluster.Heartbeat{Process: a1, Level: 1, Owns: []cluster.Claim{{Partition: 0, Epoch: 1}}, Waiting: 1500, Data: 20}, v.now)
	if age, data := v.Waiting(0, v.now), v.Data(0, v.now); age != 1500*time.Millisecond || data != 20*time.Millisecond {
		t.Errorf("the ages are %s and %s", age, data)
	}
	if age := v.Waiting(0, v.now.Add(cluster.FreshFor+1)); age != 0 {
		t.Errorf("an age that was reported long ago still counts: %s", age)
	}
}

func TestLevelIsTheLowestOfThoseWhoLive(t *testing.T) {
	v := newTestView(1)
	v.receive(self)
	v.Receive(cluster.Heartbeat{Process: a1, Level: cluster.Level + 1}, v.now)
	if v.LowestLevel() != cluster.Level {
		t.Errorf("beside a later node the level is %d", v.LowestLevel())
	}
	v.Receive(cluster.Heartbeat{Process: b1, Level: cluster.Level - 1}, v.now)
	if v.LowestLevel() != cluster.Level-1 {
		t.Errorf("beside an earlier node the level is %d", v.LowestLevel())
	}
	v.Receive(cluster.Heartbeat{Process: b1, Level: cluster.Level - 1, Leaving: true}, v.now)
	if v.LowestLevel() != cluster.Level {
		t.Errorf("after it has left the level is %d", v.LowestLevel())
	}
}

// TestEveryOrderOfClaims: whatever order claims come in, the owner is who has the highest epoch.
func TestEveryOrderOfClaims(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := newTestView(1)
		order := rapid.Permutation([]int64{1, 2, 3, 4, 5}).Draw(t, "order")
		highest := int64(0)
		for _, epoch := range order {
			news := v.receive([]string{a1, b1}[epoch%2], cluster.Claim{Partition: 0, Epoch: epoch})
			if claimed := len(news.Claimed) == 1; claimed != (epoch > highest) {
				t.Fatalf("epoch %d after %d: news %v", epoch, highest, news.Claimed)
			}
			highest = max(highest, epoch)
			if owner, got := v.Owner(0); got != highest || owner != []string{a1, b1}[highest%2] {
				t.Fatalf("the owner is %s with epoch %d, want epoch %d", owner, got, highest)
			}
		}
	})
}

func TestBeatTravels(t *testing.T) {
	in := cluster.Heartbeat{Process: a1, Level: 1, Owns: []cluster.Claim{{Partition: 3, Epoch: 9}}, Waiting: 7, Data: 8, Leaving: true}
	text, err := in.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := cluster.ReadHeartbeat(text); err != nil || !reflect.DeepEqual(in, out) {
		t.Errorf("%+v came as %+v (%v)", in, out, err)
	}
	for _, bad := range []string{"", "{}", `{"process":"a/1"}`, `{"level":1}`, "[]"} {
		if _, err := cluster.ReadHeartbeat([]byte(bad)); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}
