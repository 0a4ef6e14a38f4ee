package redis

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// shown finds this storage in the Caddyfiles and the JSON of a page. What is around it is checked by the tests of the handler, which put
// another storage in its place.
var shown = regexp.MustCompile(`(?m)^[ \t]*storage (redis[^{}\n]*(?:\{\n(?:[^{}]|\{[a-z]+\.[^{}\s]+\})*\})?)|` +
	`^[ \t]*"storage": (\{\s*"module": "redis"(?:[^{}]|\{[a-z]+\.[^{}\s]+\})*\})`)

// placeholder is what stands for a secret in a page.
var placeholder = regexp.MustCompile(`\{env\.([A-Z_]+)\}`)

// TestStoragesInPages: every storage that the documentation shows can be copied as it stands: it is read and loads, without a server in
// reach, and the JSON beside a Caddyfile says the same.
func TestStoragesInPages(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join("..", "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	deeper, err := filepath.Glob(filepath.Join("..", "docs", "*", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	pages = append(pages, deeper...)
	found, objects := 0, 0
	for _, page := range append(pages, filepath.Join("..", "README.md"), "README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		var before *Store
		for _, match := range shown.FindAllStringSubmatch(string(text), -1) {
			for _, name := range placeholder.FindAllStringSubmatch(match[0], -1) {
				t.Setenv(name[1], "resolved")
			}
			found++
			read := new(Store)
			if object := match[2]; object != "" {
				objects++
				var members map[string]json.RawMessage
				if err := json.Unmarshal([]byte(object), &members); err != nil {
					t.Fatalf("%s: %v\n%s", page, err, object)
				}
				delete(members, "module")
				if err := remarshal(members, read); err != nil {
					t.Errorf("%s: %v\n%s", page, err, object)
				}
				if before != nil && !reflect.DeepEqual(read, before) {
					t.Errorf("%s: the Caddyfile before it says %+v\n%s", page, before, object)
				}
			} else if err := read.UnmarshalCaddyfile(caddyfile.NewTestDispenser(match[1])); err != nil {
				t.Errorf("%s: %v\n%s", page, err, match[1])
			}
			config := make(settings)
			if err := remarshal(read, &config); err != nil {
				t.Fatal(err)
			}
			if _, err := load(t, config); err != nil {
				t.Errorf("%s: %v\n%s", page, err, match[0])
			}
			before = read
		}
	}
	if found < 4 || objects < 1 {
		t.Errorf("%d only, %d of them in JSON", found, objects)
	}
}

func remarshal(from, to any) error {
	text, err := json.Marshal(from)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, to)
}
