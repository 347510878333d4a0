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

// distance is the number of letters to insert, delete or replace (Levenshtein).
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return max(len(a), len(b))
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
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
