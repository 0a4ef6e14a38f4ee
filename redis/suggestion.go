package redis

import (
	"fmt"
	"slices"
	"strings"
)

// didYouMean, as the handler has it, whose code this module does without, names the valid name nearest to a misspelt one, for the end of an error text.
func didYouMean(name string, valid []string) string {
	slices.Sort(valid)
	name = strings.ToLower(name)
	best := slices.MinFunc(valid, func(a, b string) int { return editDistance(name, a) - editDistance(name, b) })
	if editDistance(name, best) > max(2, len(name)/2) {
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
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(diagonal+1, row[j]+1, replaced)
		}
	}
	return row[len(b)]
}

func keys[T any](m map[string]T) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	return names
}
