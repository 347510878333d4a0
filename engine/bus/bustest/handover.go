package bustest

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// hangs: the others get the hanging node's partitions; when it is back it gets a new assignment, without Revoked for what it lost. Then all share again.
func hangs(t *testing.T, p *groupPlace) {
	a, b := p.join(t, "a"), p.join(t, "b")
	p.shared(t, a, b)
	_, assigned, revoked := a.notes()
	a.lose(true)
	on := a.Hang()
	p.shared(t, b)
	if _, now, _ := a.notes(); now != assigned {
		t.Error("a node that hangs got an assignment")
	}
	on()
	until(t, "the node that is back gets its assignment", func() bool {
		_, now, _ := a.notes()
		return now > assigned
	})
	a.lose(false)
	p.shared(t, a, b)
	if _, _, now := a.notes(); !slices.Equal(now, revoked) {
		t.Errorf("it was asked to give up %v; that was lost before", now)
	}
}

// brokersRestart: nobody loses anything, and nobody is asked to give up anything.
func brokersRestart(t *testing.T, p *groupPlace) {
	if p.Down == nil {
		t.Skip("this fixture cannot let the brokers go away")
	}
	a, b := p.join(t, "a"), p.join(t, "b")
	p.shared(t, a, b)
	hasA, _, revokedA := a.notes()
	hasB, _, revokedB := b.notes()
	up := p.Down(t)
	<-time.After(3 * time.Second) // longer than between two signs of life
	up()
	began := time.Now()
	c := p.join(t, "c") // it shows that the group works again
	p.shared(t, a, b, c)
	t.Logf("the group worked again after %s", time.Since(began).Round(time.Millisecond))
	for _, n := range []struct {
		*node
		had, revoked []int32
	}{{a, hasA, revokedA}, {b, hasB, revokedB}} {
		has, _, revoked := n.notes()
		for _, i := range has {
			if !slices.Contains(n.had, i) {
				t.Errorf("%s got %d, which it did not have before", n.name, i)
			}
		}
		if gave := len(revoked) - len(n.revoked); gave+len(has) != len(n.had) {
			t.Errorf("%s had %d partitions, was asked to give up %d and has %d", n.name, len(n.had), gave, len(has))
		}
	}
}

// handoverWaits: nobody gets a partition before the one who had it has given it up.
func handoverWaits(t *testing.T, p *groupPlace) {
	a := p.join(t, "a")
	p.shared(t, a)
	a.holdRevoked()
	b := p.join(t, "b")
	until(t, "the first is asked to give up", func() bool {
		_, _, revoked := a.notes()
		return len(revoked) > 0
	})
	<-time.After(3 * time.Second) // longer than a handover that does not wait
	if has, _, _ := b.notes(); len(has) > 0 {
		t.Errorf("the second has %v already", has)
	}
	a.releaseRevoked()
	p.shared(t, a, b)
}

// leaves: a leaving node's partitions are revoked, and the others get them after that, but before it would count as lost.
func leaves(t *testing.T, p *groupPlace) {
	a, b := p.join(t, "a"), p.join(t, "b")
	p.shared(t, a, b)
	had, _, before := a.notes()
	a.leave()
	began := time.Now()
	p.shared(t, b)
	if took := time.Since(began); took > leaveLong {
		t.Errorf("the others had its partitions after %s", took)
	} else {
		t.Logf("the others had its partitions after %s", took.Round(time.Millisecond))
	}
	if _, _, revoked := a.notes(); len(revoked) != len(before)+len(had) {
		t.Errorf("it was asked to give up %v, it had %v", revoked[len(before):], had)
	}
	b.holdRevoked()
	left := make(chan struct{})
	go func() { defer close(left); b.leave() }()
	c := p.join(t, "c")
	<-time.After(time.Second) // longer than a handover that does not wait
	if has, _, _ := c.notes(); len(has) > 0 {
		t.Errorf("another has %v, and the one who leaves has not given it up", has)
	}
	b.releaseRevoked()
	<-left
	p.shared(t, c)
}

// stubborn: a node that does not give up in time loses the revoked partitions, and still has its others.
func stubborn(t *testing.T, p *groupPlace) {
	a := p.join(t, "a")
	p.shared(t, a)
	a.holdRevoked()
	a.lose(true) // its time is over when that of the group is: either may be seen first
	b := p.join(t, "b")
	p.shared(t, a, b)
}

// arrival: no more partitions move than must, and the rest stays without calls.
func arrival(t *testing.T, p *groupPlace) {
	a := p.join(t, "a")
	p.shared(t, a)
	b := p.join(t, "b")
	began := time.Now()
	p.shared(t, a, b)
	t.Logf("the second had its part after %s", time.Since(began).Round(time.Millisecond))
	hasA, _, revoked := a.notes()
	if hasB, _, _ := b.notes(); !slices.Equal(hasB, revoked) {
		t.Errorf("the first gave up %v, the second has %v", revoked, hasB)
	}
	c := p.join(t, "c")
	p.shared(t, a, b, c)
	stays, _, _ := a.notes()
	for _, i := range stays {
		if !slices.Contains(hasA, i) {
			t.Errorf("%d came to the first when a third arrived", i)
		}
	}
	if _, _, all := b.notes(); len(all)+len(stays) > 2*int(p.partitions)/2 {
		t.Errorf("the second gave up %d", len(all))
	}
}

// together: two that arrive at once share, too.
func together(t *testing.T, p *groupPlace) {
	a, b := p.join(t, "a"), p.join(t, "b")
	p.shared(t, a, b)
	c, d := p.join(t, "c"), p.join(t, "d")
	p.shared(t, a, b, c, d)
	go c.leave() // and two that leave at once
	d.leave()
	c.leave()
	p.shared(t, a, b)
}

// tenNodes come one after the other, and most of them leave; somebody has each partition in the end.
func tenNodes(t *testing.T, p *groupPlace) {
	var nodes []*node
	for i := range 10 {
		nodes = append(nodes, p.join(t, fmt.Sprintf("n%d", i)))
	}
	p.shared(t, nodes...)
	for _, n := range nodes[:7] {
		n.leave()
	}
	p.shared(t, nodes[7:]...)
}

// renewed: the group goes on, and new members get their part.
func renewed(t *testing.T, p *groupPlace) {
	if p.Renew == nil {
		t.Skip("this fixture has nothing of the partitions that could be removed")
	}
	a := p.join(t, "a")
	p.shared(t, a)
	p.Renew(t)
	b := p.join(t, "b")
	p.shared(t, a, b)
	a.leave()
	p.shared(t, b)
}
