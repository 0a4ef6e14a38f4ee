package openidconnect

import (
	"bytes"
	"encoding/json"
	goflag "flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/standard" // the directives beside ours
)

var update = goflag.Bool("update", false, "write the lower part of the files in testdata/adapt anew")

// goldenSeparator stands between the Caddyfile and what becomes of it.
const goldenSeparator = "\n----------\n"

// golden is one file of testdata/adapt. Those named error.<field>.<case> must fail, with an error that names the field.
type golden struct {
	name, path      string
	input, expected string
	field           string // of an error
}

func goldens(t *testing.T) []golden {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", "adapt", "*.caddyfiletest"))
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		t.Fatal("no golden files")
	}
	var all []golden
	for _, path := range paths {
		content := strings.ReplaceAll(readFile(t, path), "\r\n", "\n")
		input, expected, ok := strings.Cut(content, goldenSeparator)
		if !ok {
			t.Fatalf("%s: no line of dashes", path)
		}
		g := golden{path: path, name: strings.TrimSuffix(filepath.Base(path), ".caddyfiletest")}
		g.input, g.expected = input+"\n", strings.TrimSuffix(expected, "\n")
		if rest, isError := strings.CutPrefix(g.name, "error."); isError {
			g.field, _, _ = strings.Cut(rest, ".")
		}
		all = append(all, g)
	}
	return all
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// adaptStrictly turns a Caddyfile into JSON as "caddy adapt" does; warnings, such as about its format, are errors here.
func adaptStrictly(t *testing.T, text string) ([]byte, error) {
	t.Helper()
	adapted, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), nil)
	for _, warning := range warnings {
		t.Errorf("warning: %s", warning)
	}
	return adapted, err
}

func TestAdapt(t *testing.T) {
	t.Parallel()
	for _, g := range goldens(t) {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			adapted, err := adaptStrictly(t, g.input)
			var got string
			switch {
			case g.field != "" && err == nil:
				t.Fatalf("adapted without an error: %s", adapted)
			case g.field != "":
				got = err.Error()
				checkErrorText(t, got, g.field)
			case err != nil:
				t.Fatal(err)
			default:
				checkRoundTrip(t, adapted)
				got = indent(t, adapted)
			}
			if *update {
				if err := os.WriteFile(g.path, []byte(g.input[:len(g.input)-1]+goldenSeparator+got+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != g.expected {
				t.Error(firstDifference(got, g.expected))
			}
		})
	}
}

// firstDifference shows where two texts part.
func firstDifference(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range a {
		if i >= len(b) || a[i] != b[i] {
			return fmt.Sprintf("from line %d on, got\n%s\nwant\n%s", i+1,
				strings.Join(a[i:min(i+5, len(a))], "\n"), strings.Join(b[min(i, len(b)):min(i+5, len(b))], "\n"))
		}
	}
	return fmt.Sprintf("ends early, want\n%s", strings.Join(b[len(a):], "\n"))
}

func indent(t *testing.T, text []byte) string {
	t.Helper()
	var indented bytes.Buffer
	if err := json.Indent(&indented, text, "", "\t"); err != nil {
		t.Fatal(err)
	}
	return indented.String()
}

var errorPlace = regexp.MustCompile(`, at Caddyfile:[1-9][0-9]*\b`)

// checkErrorText holds every error to what a reader needs: the place and the name of the setting.
func checkErrorText(t *testing.T, text, field string) {
	t.Helper()
	if !errorPlace.MatchString(text) {
		t.Errorf("no file and line in %q", text)
	}
	if !regexp.MustCompile(`(^|[^\w])` + regexp.QuoteMeta(field) + `($|[^\w])`).MatchString(text) {
		t.Errorf("no %q in %q", field, text)
	}
}

// checkRoundTrip reads every handler in adapted JSON as Caddy will, and writes it again: nothing may get lost, and nothing of the
// parser may be needed.
func checkRoundTrip(t *testing.T, adapted []byte) {
	t.Helper()
	found := handlersIn(t, adapted)
	if len(found) == 0 {
		t.Error("no openid_connect handler in the result")
	}
	for _, raw := range found {
		h := new(Handler)
		if err := h.UnmarshalJSON(raw); err != nil {
			t.Errorf("%v: %s", err, raw)
			continue
		}
		if err := h.check(); err != nil {
			t.Errorf("%v: %s", err, raw)
		}
		written, err := json.Marshal(h)
		if err != nil {
			t.Errorf("%v: %s", err, raw)
			continue
		}
		if !sameJSON(t, raw, written) {
			t.Errorf("%s\nis written again as\n%s", raw, written)
		}
	}
}

// handlersIn returns the openid_connect handlers anywhere in a configuration, without the key that names them.
func handlersIn(t *testing.T, config []byte) [][]byte {
	t.Helper()
	var document any
	if err := json.Unmarshal(config, &document); err != nil {
		t.Fatal(err)
	}
	var found [][]byte
	var walk func(any)
	walk = func(value any) {
		switch value := value.(type) {
		case []any:
			for _, element := range value {
				walk(element)
			}
		case map[string]any:
			if value["handler"] == directive {
				delete(value, "handler")
				raw, err := json.Marshal(value)
				if err != nil {
					t.Fatal(err)
				}
				found = append(found, raw)
			}
			for _, member := range value {
				walk(member)
			}
		}
	}
	walk(document)
	return found
}

func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var one, other any
	if err := json.Unmarshal(a, &one); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &other); err != nil {
		t.Fatal(err)
	}
	return reflect.DeepEqual(one, other)
}

// TestAdaptCoversGrammar makes sure that no subdirective goes without an example of its JSON.
func TestAdaptCoversGrammar(t *testing.T) {
	t.Parallel()
	shown := make(map[string]bool)
	for _, g := range goldens(t) {
		if g.field != "" {
			continue
		}
		for line := range strings.Lines(g.input) {
			if fields := strings.Fields(line); len(fields) > 0 {
				shown[fields[0]] = true
			}
		}
	}
	names, inner := grammar(t)
	for _, block := range inner {
		names = append(names, block...)
	}
	for _, name := range names {
		if !shown[name] {
			t.Errorf("%s is in no golden file", name)
		}
	}
}

// TestUnmarshalCaddyfile: other modules read the directive through caddyfile.Unmarshaler, where matchers can only be paths.
func TestUnmarshalCaddyfile(t *testing.T) {
	t.Parallel()
	h := new(Handler)
	d := caddyfile.NewTestDispenser(`openid_connect https://id.example.com {
		bearer_only
		audience api
		unauth_action pass /health
	}`)
	if err := h.UnmarshalCaddyfile(d); err != nil {
		t.Fatal(err)
	}
	if h.Issuer != "https://id.example.com" || len(h.UnauthRules) != 1 || string(h.UnauthRules[0].MatchRaw[0]["path"]) != `["/health"]` {
		t.Errorf("got %+v", h)
	}
	if d.Next() {
		t.Errorf("left %q unread", d.Val())
	}
	// what a placeholder will be is not known yet
	h, err := parse("issuer https://id.example.com\nclient_id app\nunauth_action {env.ACTION}\nunauth_action {env.ACTION} /x\nbearer_token_from {env.PLACE} token")
	if err != nil || h.UnauthAction != "{env.ACTION}" || h.UnauthRules[0].Action != "{env.ACTION}" || h.BearerTokenFrom[0].In != "{env.PLACE}" {
		t.Errorf("got %+v, %v", h, err)
	}
	_, err = parse("issuer https://id.example.com\nbearer_only\naudience api\nunauth_action pass @health")
	if err == nil || !strings.Contains(err.Error(), `"@health" is not a path matcher`) {
		t.Errorf("a named matcher that nobody defined: %v", err)
	}
}
