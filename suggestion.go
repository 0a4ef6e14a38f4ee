package openidconnect

import (
	"fmt"
	"strings"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/suggestion"
)

// didYouMean names the valid name nearest to a misspelt one, for the end of an error text.
func didYouMean(name string, valid []string) string {
	best, distance := "", 0
	for _, candidate := range valid {
		d := suggestion.Distance(strings.ToLower(name), strings.ToLower(candidate))
		if best == "" || d < distance || d == distance && candidate < best {
			best, distance = candidate, d
		}
	}
	if best == "" || distance > max(2, len(name)/2) {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}
