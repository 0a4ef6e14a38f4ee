package apisix_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/apisix"
)

const page = "../../docs/migrate-from-apisix.md"

var pageLock sync.Mutex

// attributeTable is the table of the documentation.
func attributeTable() string {
	var b strings.Builder
	b.WriteString("| attribute | ours | what changes |\n|---|---|---|\n")
	for _, attribute := range apisix.Attributes() {
		ours := "`" + attribute.Setting + "`"
		switch {
		case attribute.Outcome == refused:
			ours = "refused"
		case attribute.Outcome == noOp:
			ours = "not needed"
		case attribute.Setting == "":
			ours = ""
		}
		b.WriteString("| `" + attribute.Name + "` | " + ours + " | " + attribute.Note + " |\n")
	}
	return b.String()
}

// TestTableInPage: the page has the table as it is.
func TestTableInPage(t *testing.T) {
	t.Parallel()
	replaceInPage(t, "attributes", attributeTable())
}

// TestExampleInPage: what the page shows is what the command prints.
func TestExampleInPage(t *testing.T) {
	t.Parallel()
	plugin := readFile(t, filepath.Join("testdata", "keycloak.json"))
	conversion := convert(t, plugin)
	var outcomes strings.Builder
	for _, attribute := range conversion.Attributes {
		line := fmt.Sprintf("%-10s  %s", attribute.Outcome, attribute.Name)
		if attribute.Note != "" {
			line += ": " + attribute.Note
		}
		outcomes.WriteString(line + "\n")
	}
	replaceInPage(t, "plugin", "```js\n"+plugin+"```\n")
	replaceInPage(t, "caddyfile", "```caddyfile\n"+conversion.Caddyfile+"```\n")
	replaceInPage(t, "outcomes", "```text\n"+outcomes.String()+"```\n")
}

// replaceInPage compares what stands between two markers with what should, and writes it anew with -update.
func replaceInPage(t *testing.T, name, want string) {
	t.Helper()
	pageLock.Lock()
	defer pageLock.Unlock()
	text := readFile(t, page)
	before, rest, ok := strings.Cut(text, "<!-- "+name+":begin -->\n")
	got, after, closed := strings.Cut(rest, "<!-- "+name+":end -->")
	if !ok || !closed {
		t.Fatalf("no markers for %s", name)
	}
	if got == want {
		return
	}
	if !*update {
		t.Errorf("%s: what stands between the markers of %s is not as it should be; -update writes it anew", page, name)
		return
	}
	text = before + "<!-- " + name + ":begin -->\n" + want + "<!-- " + name + ":end -->" + after
	if err := os.WriteFile(page, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
