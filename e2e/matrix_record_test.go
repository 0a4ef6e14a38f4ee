package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// matrixRecord is what TestMatrix has found out.
type matrixRecord []*matrixRow

type matrixRow struct {
	Provider string `json:"provider"`
	Version  string `json:"version"`
	// Flow is how people log in: with Chromium, or with HTTP requests alone.
	Flow      string            `json:"flow"`
	Checks    map[string]string `json:"checks"`
	Caddyfile string            `json:"caddyfile"`
}

// The documentation, where the record stays and where the page shows it.
var (
	matrixFile = filepath.Join("..", "docs", "provider-matrix.json")
	matrixPage = filepath.Join("..", "docs", "provider-matrix.md")
)

func newMatrixRecord(providers []*matrixProvider) matrixRecord {
	var record matrixRecord
	for _, m := range providers {
		record = append(record, &matrixRow{Provider: m.name, Version: m.version, Flow: "Chromium", Checks: make(map[string]string)})
	}
	return record
}

// complete tells whether every check was tried with every provider.
func (r matrixRecord) complete() bool {
	return !slices.ContainsFunc(r, func(row *matrixRow) bool { return len(row.Checks) != len(matrixChecks) })
}

// write puts the record into the documentation.
func (r matrixRecord) write(t *testing.T) {
	t.Helper()
	if !r.complete() {
		t.Fatal("a part of the matrix is no table to write")
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(matrixPage)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := r.fillIn(string(page))
	if err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string][]byte{matrixFile: append(text, '\n'), matrixPage: []byte(shown)} {
		if err := os.WriteFile(file, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// compare expects that the documentation says the same. Versions may differ.
func (r matrixRecord) compare(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(matrixFile)
	if err != nil {
		t.Fatal(err)
	}
	var documented matrixRecord
	decode(t, text, &documented)
	for i, row := range r {
		if len(row.Checks) == 0 {
			continue // left out by -run
		}
		if i >= len(documented) || documented[i].Provider != row.Provider {
			t.Fatalf("%s does not have %s in its place; write it anew with -write-matrix", matrixFile, row.Provider)
		}
		for check, outcome := range row.Checks {
			if known := documented[i].Checks[check]; known != outcome {
				t.Errorf("%s with %s: %s, but the documentation says %q", check, row.Provider, outcome, known)
			}
		}
		if documented[i].Caddyfile != row.Caddyfile {
			t.Errorf("the Caddyfile for %s is not the one in the documentation:\n%s", row.Provider, row.Caddyfile)
		}
	}
	page, err := os.ReadFile(matrixPage)
	if err != nil {
		t.Fatal(err)
	}
	if shown, err := documented.fillIn(string(page)); err != nil || shown != string(page) {
		t.Errorf("%s does not show what is in %s (%v); write it anew with -write-matrix", matrixPage, matrixFile, err)
	}
}

// generated is a part of the page that the test writes.
var generated = regexp.MustCompile(`(?s)(<!-- (table|caddyfile [^\n]*) -->\n).*?(<!-- end -->)`)

// fillIn replaces those parts of the page.
func (r matrixRecord) fillIn(page string) (string, error) {
	parts := map[string]string{"table": r.table()}
	for _, row := range r {
		parts["caddyfile "+row.Provider] = "\n```caddyfile\n" + row.Caddyfile + "```\n\n"
	}
	page = generated.ReplaceAllStringFunc(page, func(found string) string {
		match := generated.FindStringSubmatch(found)
		content, ok := parts[match[2]]
		if !ok {
			return found
		}
		delete(parts, match[2])
		return match[1] + content + match[3]
	})
	if len(parts) != 0 {
		return "", fmt.Errorf("the page has no place for %q", slices.Sorted(maps.Keys(parts)))
	}
	return page, nil
}

// table has a row for each check.
func (r matrixRecord) table() string {
	var b strings.Builder
	line := func(first string, cell func(*matrixRow) string) {
		fmt.Fprintf(&b, "| %s |", first)
		for _, row := range r {
			fmt.Fprintf(&b, " %s |", cell(row))
		}
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	line("", func(row *matrixRow) string { return row.Provider })
	line("---", func(*matrixRow) string { return "---" })
	line("version", func(row *matrixRow) string { return row.Version })
	line("flow", func(row *matrixRow) string { return row.Flow })
	for _, check := range matrixChecks {
		line(check.name, func(row *matrixRow) string { return row.Checks[check.name] })
	}
	b.WriteByte('\n')
	return b.String()
}

// loginSettings are the subdirectives of the site where people log in.
func (m *matrixProvider) loginSettings(p *loginProvider) []string {
	settings := []string{"set_access_token_header on", "claim_header X-Groups groups"}
	if p.offlineOption != "" {
		settings = append(settings, p.offlineOption)
	}
	return settings
}

// tokenSettings are those of the site for JWTs.
func (m *matrixProvider) tokenSettings() []string { return []string{"audience " + apiAudience} }

// introspectionSettings are those of the site that has the provider asked.
func (m *matrixProvider) introspectionSettings(p *loginProvider) []string {
	return append([]string{"audience " + apiAudience}, m.introspection(p)...)
}

// documentedCaddyfile is that of the three sites, with names that people can read.
func (m *matrixProvider) documentedCaddyfile(p *loginProvider) string {
	site := func(address, upstream string, settings ...string) string {
		return fmt.Sprintf("%s {\n\topenid_connect %s {\n\t\t%s\n\t}\n\treverse_proxy %s\n}\n",
			address, p.issuer, strings.Join(settings, "\n\t\t"), upstream)
	}
	login := append([]string{
		"client_id " + p.client, "client_secret " + secret, strings.TrimSpace("scope openid profile " + p.scopes),
	}, m.loginSettings(p)...)
	tokens := append([]string{"bearer_only"}, m.tokenSettings()...)
	introspected := append([]string{"bearer_only"}, m.introspectionSettings(p)...)
	text := strings.Join([]string{
		site("app.example.com", "localhost:8080", login...),
		site("api.example.com", "localhost:9000", tokens...),
		site("opaque.example.com", "localhost:9000", introspected...),
	}, "\n")
	replacements := []string{apiAudience, "https://api.example.com", secret, "{env.OIDC_CLIENT_SECRET}"}
	if p.introspectionEndpoint != "" {
		replacements = append(replacements, p.introspectionEndpoint, m.documentedIntrospection)
	}
	return strings.NewReplacer(append(replacements, p.issuer, m.documented)...).Replace(text)
}
