package chains

import (
	"strings"
)

// checkShape finds nodes that no message reaches, and ways that end for nothing.
func (c *compiler) checkShape() {
	if c.program.first >= 0 && len(c.d.Nodes) > 1 {
		c.checkReach()
	}
	for i, n := range c.d.Nodes {
		if kind := c.specs[i]; kind.Type != "" && !kind.Terminal && len(n.To) == 0 {
			c.add(n.src.position(), n.Name, `nothing is behind it, so a %s does nothing here; add "to: {%s: …}"`, kind.Type, c.usualRelation(i))
		}
	}
}

func (c *compiler) usualRelation(i int) string {
	for _, r := range c.specs[i].Relations {
		if !strings.EqualFold(r, "Failure") {
			return r
		}
	}
	return "relation"
}

// checkCycles walks the ways depth first and tells each that leads back into itself.
func (c *compiler) checkCycles() {
	w := cycleWalk{compiler: c, state: make([]uint8, len(c.d.Nodes))}
	for i := range c.d.Nodes {
		w.visit(i)
	}
}

type cycleWalk struct {
	*compiler
	state []uint8 // 0 unseen, 1 on the path, 2 done
	path  []int
}

func (w *cycleWalk) visit(i int) {
	if w.state[i] != 0 {
		return
	}
	w.state[i] = 1
	w.path = append(w.path, i)
	for _, next := range w.edges[i] {
		if w.state[next] == 1 {
			w.tell(i, next)
			continue
		}
		w.visit(next)
	}
	w.path = w.path[:len(w.path)-1]
	w.state[i] = 2
}

func (w *cycleWalk) tell(from, to int) {
	var names []string
	for k := len(w.path) - 1; k >= 0; k-- {
		names = append([]string{w.d.Nodes[w.path[k]].Name}, names...)
		if w.path[k] == to {
			break
		}
	}
	names = append(names, w.d.Nodes[to].Name)
	n := w.d.Nodes[from]
	w.add(n.src.get("to").position(), n.Name, "messages would run in a circle: %s; cut it at one place", strings.Join(names, " → "))
}

func (c *compiler) checkReach() {
	reached := make([]bool, len(c.d.Nodes))
	todo := []int{c.program.first}
	for len(todo) > 0 {
		i := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if !reached[i] {
			reached[i] = true
			todo = append(todo, c.edges[i]...)
		}
	}
	for i, n := range c.d.Nodes {
		if !reached[i] && c.index[n.Name] == i {
			c.add(n.src.position(), n.Name, "no message gets here; lead a relation to it, or take it out")
		}
	}
}
