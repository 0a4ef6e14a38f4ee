package apisix_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/apisix"
)

// The plugins that one attribute is added to.
const (
	browser    = `{"client_id":"app","client_secret":"hidden-client-secret","discovery":"https://id.example.com/.well-known/openid-configuration"}`
	introspect = `{"client_id":"app","client_secret":"hidden-client-secret","discovery":"https://id.example.com/.well-known/openid-configuration","bearer_only":true}`
	verify     = `{"client_id":"app","discovery":"https://id.example.com/.well-known/openid-configuration","bearer_only":true,"use_jwks":true}`
	both       = `{"client_id":"app","client_secret":"hidden-client-secret","discovery":"https://id.example.com/.well-known/openid-configuration","use_jwks":true}`
	withKey    = `{"client_id":"app","client_rsa_private_key":"{{key}}","discovery":"https://id.example.com/.well-known/openid-configuration",
		"token_endpoint_auth_method":"private_key_jwt"}`
	inRedis = `{"client_id":"app","client_secret":"hidden-client-secret","discovery":"https://id.example.com/.well-known/openid-configuration",
		"session":{"storage":"redis","redis":{"password":"hidden-redis-password","ssl":true}}}`
)

// caution stands at the top where more people may get in than before.
const caution = "# CAUTION: what is refused or changed may have kept people out; without rules for it, more people get in."

// with is a plugin with one attribute more, or without it where the value is empty.
func with(t testing.TB, base, name, value string) string {
	t.Helper()
	var plugin map[string]any
	key := strings.TrimSuffix(strings.TrimPrefix(string(must(json.Marshal(privateKey))), `"`), `"`)
	if err := json.Unmarshal([]byte(strings.ReplaceAll(base, "{{key}}", key)), &plugin); err != nil {
		t.Fatal(err)
	}
	parts, at := strings.Split(name, "."), plugin
	for _, part := range parts[:len(parts)-1] {
		inner, ok := at[part].(map[string]any)
		if !ok {
			inner = make(map[string]any)
			at[part] = inner
		}
		at = inner
	}
	if last := parts[len(parts)-1]; value == "" {
		delete(at, last)
	} else {
		at[last] = json.RawMessage(value)
	}
	return string(must(json.Marshal(plugin)))
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func text(value string) string { return string(must(json.Marshal(value))) }

// attributeCase is one attribute with a value: what becomes of it, and which lines the Caddyfile then has; a line that begins with "-" it
// must not have.
type attributeCase struct {
	name, base, value string
	outcome           apisix.Outcome
	lines             []string
}

const (
	translated = apisix.Translated
	changed    = apisix.Changed
	refused    = apisix.Refused
	noOp       = apisix.NoOp
)

// TestAttributes: every attribute alone, with the values that make a difference.
func TestAttributes(t *testing.T) {
	keyFile := environment(t)
	cases := slices.Concat(providerCases(), bearerCases(), loginCases(), sessionCases(), otherCases())
	tried := make(map[string]bool)
	for i, test := range cases {
		tried[test.name] = true
		t.Run(fmt.Sprintf("%03d %s", i, test.name), func(t *testing.T) {
			conversion := convert(t, with(t, test.base, test.name, test.value))
			got := outcomeOf(conversion, test.name)
			if got.Outcome != test.outcome {
				t.Errorf("%s becomes %+v, not %s", test.value, got, test.outcome)
			}
			if test.outcome != translated && got.Note == "" {
				t.Errorf("%s without a reason", test.outcome)
			}
			checkLines(t, conversion.Caddyfile, test.lines)
			checkRemarks(t, conversion)
			checkSecrets(t, conversion)
			load(t, keyFile, conversion.Caddyfile)
		})
	}
	for _, attribute := range apisix.Attributes() {
		if !tried[attribute.Name] {
			t.Errorf("%s is not tried", attribute.Name)
		}
	}
}

// checkLines looks for lines, and for the absence of those that begin with "-".
func checkLines(t *testing.T, caddyfile string, lines []string) {
	t.Helper()
	var have []string
	for line := range strings.Lines(caddyfile) {
		have = append(have, strings.TrimSpace(line))
	}
	for _, line := range lines {
		unwanted, not := strings.CutPrefix(line, "-")
		switch {
		case not && slices.ContainsFunc(have, func(line string) bool { return line == unwanted || strings.HasPrefix(line, unwanted+" ") }):
			t.Errorf("has %q:\n%s", unwanted, caddyfile)
		case !not && !slices.Contains(have, line):
			t.Errorf("no %q:\n%s", line, caddyfile)
		}
	}
}

// checkRemarks: what has changed or is refused stands in the file too.
func checkRemarks(t *testing.T, conversion *apisix.Conversion) {
	t.Helper()
	for _, attribute := range conversion.Attributes {
		if attribute.Outcome == changed || attribute.Outcome == refused {
			if !strings.Contains(conversion.Caddyfile, fmt.Sprintf("# %s: %s: ", attribute.Outcome, attribute.Name)) {
				t.Errorf("nothing about %s in\n%s", attribute.Name, conversion.Caddyfile)
			}
		}
	}
}

// hidden are the secrets of the plugins in these tests.
var hidden = []string{"hidden", "MIGHAgEAMBMG", "PRIVATE KEY"}

// checkSecrets: no secret of the input is in the output, nor its beginning.
func checkSecrets(t *testing.T, conversion *apisix.Conversion) {
	t.Helper()
	output := string(must(json.Marshal(conversion)))
	for _, secret := range hidden {
		if strings.Contains(output, secret) {
			t.Errorf("%q is in %s", secret, output)
		}
	}
}

// TestAttributeNames: the table has exactly the attributes of the plugin, and those that pass through it, each once.
func TestAttributeNames(t *testing.T) {
	t.Parallel()
	lists := strings.Split(readFile(t, "testdata/attributes.txt"), "\n\n")
	if len(lists) != 2 {
		t.Fatalf("%d lists", len(lists))
	}
	schema, passThrough := strings.Fields(lists[0]), strings.Fields(lists[1])
	if len(schema) != 103 || len(passThrough) != 17 {
		t.Fatalf("%d and %d names", len(schema), len(passThrough))
	}
	want := append(slices.Clone(schema), passThrough...)
	var got []string
	for _, attribute := range apisix.Attributes() {
		got = append(got, attribute.Name)
		switch attribute.Outcome {
		case translated, changed:
			if attribute.Setting == "" && !strings.HasPrefix(attribute.Name, "par") && !strings.HasPrefix(attribute.Name, "dpop") &&
				attribute.Name != "claim_validator" {
				t.Errorf("%s becomes nothing", attribute.Name)
			}
		case refused, noOp:
			if attribute.Note == "" {
				t.Errorf("%s: no reason", attribute.Name)
			}
		default:
			t.Errorf("%s: outcome %q", attribute.Name, attribute.Outcome)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if len(slices.Compact(got)) != len(want) {
		t.Error("a name is there twice")
	}
}
