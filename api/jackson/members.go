package jackson

// members remembers where the members of one object were written, so that a repeated name can take the place of the first.
type members struct {
	few      [8]member
	many     []member
	n        int
	index    map[string]int // from indexFrom members on, so that large objects are not searched name by name
	repeated bool
}

// member is where a name (with its quotes) and a value lie in the output.
type member struct{ name, nameEnd, value, valueEnd int }

// indexFrom is the number of members from which an index is kept.
const indexFrom = 32

func (m *members) at(i int) *member {
	if i < len(m.few) {
		return &m.few[i]
	}
	return &m.many[i-len(m.few)]
}

func (m *members) find(out []byte, name, nameEnd int) int {
	if m.index != nil {
		if i, ok := m.index[string(out[name:nameEnd])]; ok {
			return i
		}
		return -1
	}
	for i := range m.n {
		if k := m.at(i); string(out[k.name:k.nameEnd]) == string(out[name:nameEnd]) {
			return i
		}
	}
	return -1
}

func (m *members) add(out []byte, k member) {
	if m.n < len(m.few) {
		m.few[m.n] = k
	} else {
		m.many = append(m.many, k)
	}
	m.n++
	switch {
	case m.index != nil:
		m.index[string(out[k.name:k.nameEnd])] = m.n - 1
	case m.n >= indexFrom:
		m.index = make(map[string]int, 2*indexFrom)
		for i := range m.n {
			k := m.at(i)
			m.index[string(out[k.name:k.nameEnd])] = i
		}
	}
}

// settle writes the object that begins at from anew if a name came twice: each name once, in the order of their first
// appearances, with its last value. Doing it once at the end keeps hostile repetitions from costing more than one copy.
func (m *members) settle(out []byte, from int) []byte {
	if !m.repeated {
		return out
	}
	old := append([]byte(nil), out[from:]...)
	out = append(out[:from], '{')
	for i := range m.n {
		if i > 0 {
			out = append(out, ',')
		}
		k := m.at(i)
		out = append(append(out, old[k.name-from:k.nameEnd-from]...), ':')
		out = append(out, old[k.value-from:k.valueEnd-from]...)
	}
	return append(out, '}')
}
