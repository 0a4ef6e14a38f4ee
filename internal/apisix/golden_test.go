package apisix_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/apisix"
)

func goldenNames(t testing.TB) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("testdata", "*.json"))
	if err != nil || len(names) < 6 {
		t.Fatalf("%d plugins: %v", len(names), err)
	}
	return names
}

// TestGoldens: whole plugins as people have them. Beside each is the Caddyfile that it becomes, with the outcomes below it as comments.
func TestGoldens(t *testing.T) {
	keyFile := environment(t)
	for _, name := range goldenNames(t) {
		t.Run(filepath.Base(name), func(t *testing.T) {
			conversion := convert(t, readFile(t, name))
			load(t, keyFile, conversion.Caddyfile)
			checkRemarks(t, conversion)
			checkSecrets(t, conversion)
			var got bytes.Buffer
			got.WriteString(conversion.Caddyfile + "\n----------\n")
			encoder := json.NewEncoder(&got)
			encoder.SetEscapeHTML(false)
			for _, attribute := range conversion.Attributes {
				if err := encoder.Encode(attribute); err != nil {
					t.Fatal(err)
				}
			}
			golden := strings.TrimSuffix(name, ".json") + ".golden"
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if want := readFile(t, golden); want != got.String() {
				t.Errorf("%s differs; -update writes it anew. Got\n%s", golden, got.String())
			}
		})
	}
}

// TestEveryAttributeIsSet: one of the goldens has all of them.
func TestEveryAttributeIsSet(t *testing.T) {
	t.Parallel()
	conversion := convert(t, readFile(t, filepath.Join("testdata", "everything.json")))
	for _, attribute := range apisix.Attributes() {
		if outcomeOf(conversion, attribute.Name).Name == "" {
			t.Errorf("%s is not in it", attribute.Name)
		}
	}
}
