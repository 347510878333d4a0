package membership

import (
	"context"
	"errors"
	"time"

	"callchain/engine/bus"
	"callchain/engine/cluster"
	"callchain/engine/retry"
	"callchain/engine/step"
	"callchain/engine/submit"
	"callchain/engine/wire"
)

// answerClaims answers claims until ctx ends.
func (m *Membership) answerClaims(ctx context.Context) {
	for {
		if c, ok := m.nextClaim(); ok {
			m.answerClaim(ctx, c)
			continue
		}
		select {
		case <-m.claimsPending:
		case <-ctx.Done():
			return
		}
	}
}

// nextClaim takes a claim that is not answered yet.
func (m *Membership) nextClaim() (cluster.Claim, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p, c := range m.claims {
		delete(m.claims, p)
		return c, true
	}
	return cluster.Claim{}, false
}

// answerClaim reports the sessions and callers here to a new owner of a partition. It retries while that is the owner.
func (m *Membership) answerClaim(ctx context.Context, c cluster.Claim) {
	const again = 100 * time.Millisecond
	retry.Until(ctx, retry.Waits{First: again, Longest: again}, func(context.Context) error {
		m.mu.Lock()
		process, epoch := m.view.Owner(c.Partition)
		m.mu.Unlock()
		if epoch != c.Epoch || process == m.Process {
			return nil
		}
		return m.reportTo(c)
	}, nil)
}

// reportTo puts the sessions and callers into the partition's inbox. It fails if not all were taken.
func (m *Membership) reportTo(c cluster.Claim) error {
	mine := func(p int32) bool { return p == c.Partition }
	for _, s := range m.delivery.Local(mine) {
		for _, do := range s.Actions {
			_, err := m.Sender.Put(submit.Message{
				Lane: bus.RPC, Partition: c.Partition, Priority: true,
				Command: step.Command{Meta: submit.Meta("device:"+s.Device.String(), s.Transport), Device: s.Device, Do: step.RPC{Do: do}},
			})
			if err != nil {
				return err
			}
		}
		if !m.delivery.Has(s.Session) { // its end may be before that in the inbox
			if err := m.delivery.Disconnected(s.Partition, s.Device, s.Session); err != nil {
				return err
			}
		}
	}
	confirm := wire.Confirm{Process: m.Process, Partition: c.Partition, Epoch: c.Epoch}
	for _, one := range m.Callers.In(mine) {
		confirm.Callers = append(confirm.Callers, one.Caller)
	}
	return m.Sender.Inbox.Put(bus.Message{Partition: c.Partition, Lane: bus.RPC, Priority: true, Value: confirm})
}

// receive takes a message of another process.
func (m *Membership) receive(r bus.Record) {
	msg, err := cluster.ReadMessage(r.Value)
	switch {
	case err != nil:
		m.Log.Warn("message of another node unreadable", "error", err)
	case msg.Decided != nil:
		m.Sender.Decisions.Complete(msg.Decided.Waiter, errorOf(msg.Decided))
	case !m.delivery.Receive(&msg):
		m.Log.Warn("message of another node unknown", "error", errors.New("this program is older"))
	}
}

// Notify implements submit.Sender.Notify.
func (m *Membership) Notify(w step.Waiter, err error) {
	m.Send(w.Node, cluster.Message{Decided: decisionOf(w.ID, err)})
}
