package openidconnect

import (
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestSettingsAreDocumented: the reference has every setting by its name, once, and no setting that there is not, also in its tables.
func TestSettingsAreDocumented(t *testing.T) {
	t.Parallel()
	page := readFile(t, filepath.Join("docs", "configuration.md"))
	blocks := map[string]map[string]int{
		"session":            jsonFields(reflect.TypeFor[SessionConfig]()),
		"protected_resource": jsonFields(reflect.TypeFor[ProtectedResource]()),
	}
	want := keys(subdirectives)
	for field, name := range otherNames {
		if _, ok := subdirectives[field]; !ok && (name == "" || name == "unauth_action") {
			want = append(want, field)
		}
	}
	for block, members := range blocks {
		for member := range members {
			want = append(want, block+" "+member)
		}
	}
	var got []string
	for _, match := range regexp.MustCompile("(?m)^### `([a-z_]+)`(?: `([a-z_]+)`)?$").FindAllStringSubmatch(page, -1) {
		got = append(got, strings.TrimSpace(match[1]+" "+match[2]))
	}
	for _, name := range want {
		if !slices.Contains(got, name) {
			t.Errorf("the reference does not have %s", name)
		}
	}
	for i, name := range got {
		if !slices.Contains(want, name) || slices.Contains(got[:i], name) {
			t.Errorf("the reference has %s, which there is not, or twice", name)
		}
	}
	// the first cell of a row is one setting or several
	count := 0
	for _, heading := range []string{"## Contradictions", "## Defaults at a glance"} {
		for _, row := range regexp.MustCompile(`(?m)^\| (.*)$`).FindAllStringSubmatch(section(t, page, heading), -1) {
			cell, _, _ := strings.Cut(strings.ReplaceAll(row[1], `\|`, ""), " | ")
			for _, match := range regexp.MustCompile("`([a-z]+_[a-z_]+|jwks|audience|prompt|discovery|timeout|secret)[^`]*`").FindAllStringSubmatch(cell, -1) {
				count++
				_, ofHandler := subdirectives[match[1]]
				_, ofSession := blocks["session"][match[1]]
				if !ofHandler && !ofSession && match[1] != "return_to" {
					t.Errorf("the reference has %s, which there is not", match[1])
				}
			}
		}
	}
	if count < 50 {
		t.Errorf("%d settings in tables only", count)
	}
}

// TestDefaultsAreDocumented: a default in the table of all defaults is the one that the setting has in its own entry.
func TestDefaultsAreDocumented(t *testing.T) {
	t.Parallel()
	page := readFile(t, filepath.Join("docs", "configuration.md"))
	entries := make(map[string]string)
	for _, entry := range strings.Split(page, "\n### ")[1:] {
		names, text, _ := strings.Cut(entry, "\n")
		if _, standard, ok := strings.Cut(text, "\n- Default: `"); ok {
			standard, _, _ = strings.Cut(standard, "`")
			fields := strings.Fields(strings.ReplaceAll(names, "`", ""))
			entries[fields[len(fields)-1]] = standard
		}
	}
	count := 0
	row := regexp.MustCompile("(?m)^\\| `([a-z_]+)`[^|]* \\| `([^`]+)`")
	for _, match := range row.FindAllStringSubmatch(section(t, page, "## Defaults at a glance"), -1) {
		standard, ok := entries[match[1]]
		if !ok || strings.HasPrefix(standard, "/") && strings.HasSuffix(match[2], standard) {
			continue // a text, or a path below another
		}
		count++
		if match[2] != standard {
			t.Errorf("%s is %s by default in the table, and %s in its entry", match[1], match[2], standard)
		}
	}
	if count < 10 {
		t.Errorf("%d defaults compared only", count)
	}
}
