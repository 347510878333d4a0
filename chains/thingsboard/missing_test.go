package thingsboard

// Missing are the classes with a hint.
func Missing() []string {
	var out []string
	for _, name := range sortedKeys(mends) {
		out = append(out, classPrefix+name)
	}
	return out
}
