package provider

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// What a provider says that it supports is taken where it has the right type, and where not it is as if nothing was said.
func TestSupported(t *testing.T) {
	t.Parallel()
	lists := map[string]func(m *Metadata) []string{
		"id_token_signing_alg_values_supported": func(m *Metadata) []string { return m.IDTokenSigningAlgs },
		"prompt_values_supported":               func(m *Metadata) []string { return m.PromptValues },
		"response_modes_supported":              func(m *Metadata) []string { return m.ResponseModes },
		"token_endpoint_auth_methods_supported": func(m *Metadata) []string { return m.TokenAuthMethods },
	}
	flags := map[string]func(m *Metadata) bool{
		"authorization_response_iss_parameter_supported": func(m *Metadata) bool { return m.IssParameterSupported },
		"require_pushed_authorization_requests":          func(m *Metadata) bool { return m.RequiresPAR },
	}
	many := strings.Repeat(`"a",`, 2*maxMetadataList) + `"a"`
	p := New(Config{})
	parse := func(member, value string) *Metadata {
		t.Helper()
		metadata, err := p.parseMetadata([]byte(`{"issuer":"https://op.example","`+member+`":`+value+`}`), "https://op.example/d")
		if err != nil {
			t.Fatalf("%s: %.80s: %v", member, value, err)
		}
		return metadata
	}
	for value, want := range map[string][]string{
		`["RS256","a b",""]`: {"RS256", "a b", ""},
		`["a"]`:              {"a"},
		`["a",1,null,["b"]]`: {"a"},
		`[]`:                 nil,
		`null`:               nil,
		`"a"`:                nil,
		`1`:                  nil,
		`true`:               nil,
		`{"a":"b"}`:          nil,
		`[` + many + `]`:     slices.Repeat([]string{"a"}, maxMetadataList),
	} {
		for member, field := range lists {
			metadata := parse(member, value)
			if got := field(metadata); !slices.Equal(got, want) {
				t.Errorf("%s: %.80s: %v", member, value, got)
			}
			for other, field := range lists {
				if got := field(metadata); other != member && got != nil {
					t.Errorf("%s goes to %s", member, other)
				}
			}
		}
	}
	for value, want := range map[string]bool{`true`: true, `false`: false, `"true"`: false, `1`: false, `null`: false, `[true]`: false, `{}`: false} {
		for member, field := range flags {
			metadata := parse(member, value)
			if got := field(metadata); got != want {
				t.Errorf("%s: %s: %t", member, value, got)
			}
			if metadata.IssParameterSupported && metadata.RequiresPAR {
				t.Errorf("%s sets the other too", member)
			}
		}
	}
}

// The one mistake that everybody makes is named: an issuer with a slash too many or too few.
func TestIssuerSlash(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"", "/", "/realms/demo", "/realms/demo/"} {
		op := optest.New(t, optest.WithIssuerPath(path))
		if _, err := newProvider(t, op, nil).Metadata(t.Context()); err != nil {
			t.Fatalf("as it is: %v", err)
		}
		configured := op.Issuer() + "/"
		if strings.HasSuffix(path, "/") {
			configured = strings.TrimSuffix(op.Issuer(), "/")
		}
		// the document of both is at the same place
		_, err := newProvider(t, op, func(c *Config) { c.Issuer = configured }).Metadata(t.Context())
		if !errors.Is(err, ErrIssuerMismatch) {
			t.Fatalf("%q: %v", configured, err)
		}
		for _, want := range []string{`expected issuer "` + configured + `"`, `got "` + op.Issuer() + `"`, "differ only in the slash at the end"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q is missing in: %v", want, err)
			}
		}
	}
}
