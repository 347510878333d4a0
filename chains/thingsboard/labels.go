package thingsboard

import (
	"slices"
	"strings"

	"github.com/google/uuid"
)

// Labels are the relations along which a chain goes back to the one that called it, each once, sorted.
func (m *Metadata) Labels() []string {
	out := []string{}
	for _, n := range m.Nodes {
		if n.Type == outputClass && strings.TrimSpace(n.Name) != "" {
			out = append(out, n.Name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Renamed are the labels that a new content of the chain calls otherwise, and how: a node "output" that is known by its id got
// another name. A label that another node still has is none of them.
func (m *Metadata) Renamed(next *Metadata) map[string]string {
	was := map[uuid.UUID]string{}
	for _, n := range m.Nodes {
		if n.Type == outputClass && n.ID != nil {
			was[n.ID.ID] = n.Name
		}
	}
	out, still := map[string]string{}, next.Labels()
	for _, n := range next.Nodes {
		if n.Type != outputClass || n.ID == nil {
			continue
		}
		if old, known := was[n.ID.ID]; known && old != n.Name && !slices.Contains(still, old) {
			out[old] = n.Name
		}
	}
	return out
}

// Relabel gives the connections behind nodes that lead into a chain the new names of its labels, and tells whether there were any.
func (m *Metadata) Relabel(chain uuid.UUID, renamed map[string]string) bool {
	changed := false
	for i, c := range m.Connections {
		if c.FromIndex < 0 || c.FromIndex >= len(m.Nodes) || m.Nodes[c.FromIndex].Target() != chain {
			continue
		}
		if label, ok := renamed[c.Type]; ok {
			m.Connections[i].Type, changed = label, true
		}
	}
	return changed
}
