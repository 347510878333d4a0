// Package stored reads the definitions of chains in every form in which they are kept.
package stored

import (
	"callchain/chains"
	"callchain/chains/thingsboard"
	"callchain/nodes"

	"github.com/google/uuid"
)

// Text is a definition as it is kept.
type Text struct {
	File   string // for messages
	Format string // thingsboard.Format; anything else is YAML or JSON, as chains.Parse tells them apart
	Body   []byte
}

// Definition is what a chain does. The error is chains.Problems if the chain has mistakes.
func (t Text) Definition(kinds nodes.Registry) (chains.Definition, error) {
	if t.Format != thingsboard.Format {
		return chains.Parse(t.File, t.Body)
	}
	c, err := thingsboard.Parse(t.Body)
	if err != nil {
		return chains.Definition{}, err
	}
	d, problems := c.Definition(t.File, kinds)
	if len(problems) > 0 {
		return d, problems
	}
	return d, nil
}

// Compile makes a program of a chain. The error is chains.Problems if the chain has mistakes.
func (t Text) Compile(kinds nodes.Registry, id uuid.UUID, version int) (*chains.Program, error) {
	if t.Format == thingsboard.Format {
		c, err := thingsboard.Parse(t.Body)
		if err != nil {
			return nil, err
		}
		return c.Compile(t.File, kinds, id, version)
	}
	d, err := chains.Parse(t.File, t.Body)
	if err != nil {
		return nil, err
	}
	return chains.Compile(d, kinds, id, version)
}

// ThingsBoard is a chain in ThingsBoard's form: as it was written, or made of the definition.
func (t Text) ThingsBoard(kinds nodes.Registry, id uuid.UUID) (thingsboard.Chain, error) {
	if t.Format == thingsboard.Format {
		return thingsboard.Parse(t.Body)
	}
	d, err := chains.Parse(t.File, t.Body)
	if err != nil {
		return thingsboard.Chain{}, err
	}
	return thingsboard.FromDefinition(d, kinds, id)
}
