package engine

import "bytes"

// The names of all keys of a scope are kept as one text, each ended by a zero byte, which no key contains.

func addName(list []byte, name string) []byte {
	entry := append([]byte(name), 0)
	if bytes.HasPrefix(list, entry) || bytes.Contains(list, append([]byte{0}, entry...)) {
		return list
	}
	return append(list[:len(list):len(list)], entry...)
}

func splitNames(list []byte) []string {
	var out []string
	for len(list) > 0 {
		end := bytes.IndexByte(list, 0)
		out = append(out, string(list[:end]))
		list = list[end+1:]
	}
	return out
}
