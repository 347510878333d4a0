package e2e_test

import (
	"encoding/json"
	"errors"
	"time"

	"callchain/cmd/callchain/client"
	"callchain/cmd/callchain/fleet"
	"callchain/engine/rpc"
)

// complaintsMax bounds how many calls of one kind a failure tells of.
const complaintsMax = 5

// checkEnds looks at when calls ended, and whether answers that the server acknowledged to devices are stored.
func (x *trial) checkEnds(stored map[string]*folded) {
	late, lost := 0, 0
	byNumber := map[string]*folded{}
	for id, f := range stored {
		byNumber[callNumber(f.body.Params)] = f
		if !f.state.Phase.Terminal() || x.inTime(f) {
			continue
		}
		if late++; late <= complaintsMax {
			x.t.Errorf("call %s was due at %s and ended %s at %s\n%s", id, f.state.Expires.Time().Format(time.RFC3339Nano), f.state.Phase, f.ended.Time().Format(time.RFC3339Nano), x.facts(f))
		}
	}
	for number, at := range x.acked {
		f := byNumber[number]
		if f != nil && (f.state.Phase == rpc.PhaseSucceeded || f.late) {
			continue
		}
		if lost++; lost <= complaintsMax {
			x.t.Errorf("the answer to call %s was acknowledged to its device at %s; stored is\n%s", number, at.UTC().Format(time.RFC3339Nano), x.facts(f))
		}
	}
	x.t.Logf("%d answers were acknowledged to devices; of %d calls %d ended too late, %d acknowledged answers are not stored", len(x.acked), len(stored), late, lost)
}

// inTime tells whether a call ended by its deadline, or soon after the heal of the fault that kept it from doing so.
func (x *trial) inTime(f *folded) bool {
	due, ended := f.state.Expires.Time(), f.ended.Time()
	if ended.Before(due.Add(endedGrace)) {
		return true
	}
	for _, o := range x.past {
		if due.After(o.struck.Add(-endedGrace)) && ended.Before(o.healed.Add(endedGrace)) {
			return true
		}
	}
	return false
}

// callNumber is the number that the params of a load's call carry.
func callNumber(params []byte) string {
	var in struct {
		N json.Number `json:"n"`
	}
	if json.Unmarshal(params, &in) != nil {
		return ""
	}
	return in.N.String()
}

func numberOf(cmd fleet.Command) string {
	var in struct {
		Params json.RawMessage `json:"params"`
	}
	if json.Unmarshal(cmd.Payload, &in) != nil {
		return ""
	}
	return callNumber(in.Params)
}

// codeOf is the code of a refusal, empty if it has none.
func codeOf(err error) string {
	var e *client.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}
