package bench

import (
	"context"
	"fmt"
)

// answeringChain answers every call of a device at once.
const answeringChain = `name: %s
first: answer
nodes:
  - name: answer
    type: transform
    config:
      msg: '{"time": ts}'
    to: {Success: reply}
  - name: reply
    type: rpc call reply
`

// answeringProfile makes a device profile whose chain answers the devices' calls, and gives its name.
func (r *run) answeringProfile(ctx context.Context) (string, error) {
	chain, err := r.Client.CreateChain(ctx, fmt.Appendf(nil, answeringChain, r.name))
	if err != nil {
		return "", fmt.Errorf("making the chain that answers: %w", err)
	}
	r.undo = append(r.undo, func(ctx context.Context) { r.removed(r.Client.DeleteChain(ctx, chain.ID)) })
	p, err := r.Client.CreateProfile(ctx, r.name, chain.ID, nil)
	if err != nil {
		return "", fmt.Errorf("making the device profile: %w", err)
	}
	r.undo = append(r.undo, func(ctx context.Context) { r.removed(r.Client.DeleteProfile(ctx, p.ID.ID)) })
	return p.Name, nil
}

func (r *run) removed(err error) {
	if err != nil {
		r.Log("what was made for the run could not be removed: %v", err)
	}
}
