package openidconnect

import (
	"fmt"
	"strings"
)

// didYouMean names the valid name nearest to a misspelt one, for the end of an error text.
func didYouMean(name string, valid []string) string {
	best, distance := "", 0
	for _, candidate := range valid {
		d := editDistance(strings.ToLower(name), strings.ToLower(candidate))
		if best == "" || d < distance || d == distance && candidate < best {
			best, distance = candidate, d
		}
	}
	if best == "" || distance > max(2, len(name)/2) {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// editDistance is the number of insertions, deletions and replacements (Levenshtein) from a to b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			above := row[j+1]
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(above+1, row[j]+1, diagonal+cost)
			diagonal = above
		}
	}
	return row[len(b)]
}
