package openidconnect

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestPagesAreInTheIndex: every page is found by its task. Those of a folder are found on the page of its name.
func TestPagesAreInTheIndex(t *testing.T) {
	t.Parallel()
	pages := slices.Concat(must(filepath.Glob(filepath.Join("docs", "*.md"))), must(filepath.Glob(filepath.Join("docs", "*", "*.md"))))
	for _, page := range pages {
		name := strings.TrimPrefix(filepath.ToSlash(page), "docs/")
		index := []string{filepath.Join("docs", "README.md"), "README.md"}
		if folder, _, nested := strings.Cut(name, "/"); nested {
			index = []string{filepath.Join("docs", folder+".md")}
		}
		for _, in := range index {
			link := name
			if in == "README.md" {
				link = "docs/" + name
			}
			if in != page && !strings.Contains(readFile(t, in), "]("+link+")") {
				t.Errorf("%s does not lead to %s", in, page)
			}
		}
	}
	if len(pages) < 20 {
		t.Errorf("%d pages only", len(pages))
	}
}

// TestFoldersAreInTheLayout: the README says what each folder is for, and names none that there is not.
func TestFoldersAreInTheLayout(t *testing.T) {
	t.Parallel()
	layout := section(t, readFile(t, "README.md"), "## Development")
	named := make(map[string]bool)
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*?) \\|").FindAllStringSubmatch(layout, -1) {
		for _, match := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			named[match[1]] = true
		}
	}
	for _, entry := range must(filepath.Glob(filepath.Join("*", "*"))) {
		folder, below := filepath.Split(entry)
		folder = strings.TrimSuffix(filepath.ToSlash(folder), "/")
		if strings.HasPrefix(folder, ".") {
			continue
		}
		if folder == "internal" || folder == "cmd" {
			folder += "/" + below
		}
		if !named[folder] {
			t.Errorf("the layout does not have %s", folder)
			named[folder] = true
		}
	}
	for folder := range named {
		if matches := must(filepath.Glob(filepath.FromSlash(folder))); len(matches) == 0 {
			t.Errorf("the layout has %s, which there is not", folder)
		}
	}
}

// TestFilesAreInTheLayout: who looks for something finds its file.
func TestFilesAreInTheLayout(t *testing.T) {
	t.Parallel()
	layout := section(t, readFile(t, "CONTRIBUTING.md"), "## Layout")
	for _, name := range must(filepath.Glob("*.go")) {
		if !strings.HasSuffix(name, "_test.go") && !strings.HasPrefix(name, "check_") && !strings.Contains(layout, "`"+name+"`") {
			t.Errorf("the layout does not have %s", name)
		}
	}
}

// TestSecurityModelNamesTestsThatExist: who wants to see the proof of a row finds it.
func TestSecurityModelNamesTestsThatExist(t *testing.T) {
	t.Parallel()
	attacks := section(t, readFile(t, filepath.Join("docs", "security-model.md")), "## What somebody could try, and what stops it")
	named := regexp.MustCompile("`([a-z_]+_test\\.go|internal/[a-z]+)`").FindAllStringSubmatch(attacks, -1)
	for _, match := range named {
		if len(must(filepath.Glob(filepath.FromSlash(match[1])))) == 0 {
			t.Errorf("docs/security-model.md names %s, which there is not", match[1])
		}
	}
	if len(named) < 20 {
		t.Errorf("%d tests only", len(named))
	}
}
