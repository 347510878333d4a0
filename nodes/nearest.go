package nodes

import (
	"fmt"
	"strings"
)

// Nearest is the word of a list that somebody probably meant, or nothing: it differs in letter case only, in at most two
// letters and a third of them, or one is the beginning of the other.
func Nearest(word string, among []string) string {
	best, least := "", 3
	for _, candidate := range among {
		d := distance(strings.ToLower(word), strings.ToLower(candidate))
		if d < least && d*3 <= max(len(word), 3) {
			best, least = candidate, d
		}
	}
	if best != "" || len(word) < 3 {
		return best
	}
	for _, candidate := range among {
		if len(candidate) >= 3 && (hasPrefixFold(candidate, word) || hasPrefixFold(word, candidate)) {
			return candidate
		}
	}
	return ""
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// distance is the number of letters to insert, delete, replace or swap with their neighbour (Damerau-Levenshtein, optimal
// string alignment).
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return max(len(a), len(b))
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(row[j-1]+1, last[j]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// hint is the mend for a misspelt word: the nearest one, or all if they are few.
func hint(word string, among []string) string {
	if n := Nearest(word, among); n != "" {
		return fmt.Sprintf("; did you mean %q?", n)
	}
	if len(among) > 0 && len(among) <= 8 {
		return "; there are: " + strings.Join(among, ", ")
	}
	return ""
}

func contains(list []string, word string) bool {
	for _, w := range list {
		if strings.EqualFold(w, word) {
			return true
		}
	}
	return false
}
