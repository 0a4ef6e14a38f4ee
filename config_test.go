package openidconnect

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

// TestPluginObject: what users of the APISIX plugin bring along is a handler as it stands.
func TestPluginObject(t *testing.T) {
	t.Parallel()
	h, err := loadHandler(t, `{"handler":"openid_connect","client_id":"my-api","client_secret":"secret",
		"discovery":"https://id.example.com/.well-known/openid-configuration","scope":"openid profile email","bearer_only":true}`)
	if err != nil {
		t.Fatal(err)
	}
	if h.ClientID != "my-api" || h.ClientSecret != "secret" || h.Scope != "openid profile email" || !h.BearerOnly ||
		h.Discovery != "https://id.example.com/.well-known/openid-configuration" {
		t.Errorf("got %+v", h)
	}
	if !reflect.DeepEqual(h.runtime.policy.audiences, []string{"my-api"}) || !h.runtime.introspection.configured {
		t.Errorf("got audiences %q, introspection %t", h.runtime.policy.audiences, h.runtime.introspection.configured)
	}
}

// TestPluginNames: attributes that have another name or shape in APISIX mean the same here.
func TestPluginNames(t *testing.T) {
	t.Parallel()
	load := func(t *testing.T, members string) *runtime {
		t.Helper()
		h, err := loadHandler(t, handlerObject(members))
		if err != nil {
			t.Fatal(err)
		}
		return h.runtime
	}
	key := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(key, []byte(privateKeyPEM), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		members string
		is      func(*runtime) bool
	}{
		"iat_slack":             {`"iat_slack":120`, func(rt *runtime) bool { return rt.policy.skew == 2*time.Minute }},
		"timeout":               {`"timeout":3`, func(rt *runtime) bool { return rt.provider.config.Timeout == 3*time.Second }},
		"ssl_verify off":        {`"ssl_verify":false`, func(rt *runtime) bool { return rt.provider.config.InsecureSkipVerify }},
		"ssl_verify on":         {`"ssl_verify":true`, func(rt *runtime) bool { return !rt.provider.config.InsecureSkipVerify }},
		"ssl_verify by default": {`"realm":"a"`, func(rt *runtime) bool { return !rt.provider.config.InsecureSkipVerify }},
		"token_signing_alg_values_expected": {
			`"token_signing_alg_values_expected":"ES256"`,
			func(rt *runtime) bool { return reflect.DeepEqual(rt.policy.algorithms, []string{"ES256"}) },
		},
		"required_scopes": {
			`"required_scopes":["a","b"]`,
			func(rt *runtime) bool { return reflect.DeepEqual(rt.authorization.requiredScopes, []string{"a", "b"}) },
		},
		"jwk_expires_in": {
			`"jwk_expires_in":3600`,
			func(rt *runtime) bool { return rt.provider.config.KeysLifetime == time.Hour },
		},
		"introspection_interval": {
			`"introspection_interval":0`,
			func(rt *runtime) bool { return rt.introspection.interval.or(-1) == 0 },
		},
		"introspection_expiry_claim": {
			`"introspection_expiry_claim":"expires"`,
			func(rt *runtime) bool { return rt.introspection.expiryClaim == "expires" },
		},
		"introspection_addon_headers": {
			`"introspection_addon_headers":["x-tenant"]`,
			func(rt *runtime) bool { return reflect.DeepEqual(rt.introspection.headers, []string{"X-Tenant"}) },
		},
		"client_rsa_private_key": {
			`"token_endpoint_auth_method":"private_key_jwt","client_rsa_private_key":"` + filepath.ToSlash(key) + `"`,
			func(rt *runtime) bool { return rt.introspection.configured },
		},
		"set_access_token_header": {
			`"set_access_token_header":true`,
			func(rt *runtime) bool { return rt.headers.accessToken && !rt.headers.accessTokenAuthorizes },
		},
		"access_token_in_authorization_header": {
			`"set_access_token_header":true,"access_token_in_authorization_header":true`,
			func(rt *runtime) bool { return rt.headers.accessToken && rt.headers.accessTokenAuthorizes },
		},
		"set_userinfo_header":            {`"set_userinfo_header":false`, func(rt *runtime) bool { return !rt.headers.userinfo }},
		"set_userinfo_header by default": {`"realm":"a"`, func(rt *runtime) bool { return rt.headers.userinfo }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if rt := load(t, test.members); !test.is(rt) {
				t.Errorf("%s has another meaning: %+v", test.members, rt)
			}
		})
	}
	t.Run("jwt_verification_cache_ignore", func(t *testing.T) {
		t.Parallel()
		ignored, none := load(t, `"jwt_verification_cache_ignore":true`), load(t, `"token_cache":0`)
		if ignored.tokens != none.tokens {
			t.Error("not the same as a token_cache of 0")
		}
		if ignored.tokens == load(t, `"realm":"a"`).tokens {
			t.Error("the same as the default")
		}
	})
}

func TestJSONForms(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		members string
		written string // the same, as it is written again
	}{
		"seconds":               {`"timeout":5`, `"timeout":"5s"`},
		"fraction of seconds":   {`"timeout":0.25`, `"timeout":"250ms"`},
		"no seconds":            {`"clock_skew":0`, `"clock_skew":"0s"`},
		"duration":              {`"timeout":"90s"`, `"timeout":"1m30s"`},
		"days":                  {`"jwk_expires_in":"1d"`, `"jwk_expires_in":"24h0m0s"`},
		"string for a list":     {`"audience":"api"`, `"audience":["api"]`},
		"list":                  {`"audience":["api","b"]`, `"audience":["api","b"]`},
		"value of a rule":       {`"required_claims":[{"claim":"a","values":"b"}]`, `"required_claims":[{"claim":"a","values":["b"]}]`},
		"path for a header":     {`"claim_headers":{"X-A":"a.b"}`, `"claim_headers":{"X-A":"a.b"}`},
		"object for a header":   {`"claim_headers":{"X-A":{"claim":"a"}}`, `"claim_headers":{"X-A":"a"}`},
		"header with JSON":      {`"claim_headers":{"X-A":{"claim":"a","json":true}}`, `"claim_headers":{"X-A":{"claim":"a","json":true}}`},
		"cache of nothing":      {`"token_cache":0`, `"token_cache":0`},
		"flag that is off":      {`"set_userinfo_header":false`, `"set_userinfo_header":false`},
		"matchers of a rule":    {`"unauth_rules":[{"action":"pass","match":{"path":["/a"]}}]`, `"unauth_rules":[{"match":{"path":["/a"]},"action":"pass"}]`},
		"resource of its own":   {`"protected_resource":{}`, `"protected_resource":{}`},
		"placeholders are kept": {`"client_secret":"{env.SECRET}"`, `"client_secret":"{env.SECRET}"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			read := func(members string) *Handler {
				h := new(Handler)
				if err := h.UnmarshalJSON([]byte(`{"issuer":"https://id.example.com","bearer_only":true,"client_id":"my-api",` + members + `}`)); err != nil {
					t.Fatal(err)
				}
				return h
			}
			written, err := json.Marshal(read(test.members))
			if err != nil {
				t.Fatal(err)
			}
			want := `{"issuer":"https://id.example.com","bearer_only":true,"client_id":"my-api",` + test.written + `}`
			if !sameJSON(t, written, []byte(want)) {
				t.Errorf("got  %s\nwant %s", written, want)
			}
			if !reflect.DeepEqual(read(test.members), read(test.written)) {
				t.Error("what is written means something else")
			}
		})
	}
}

func TestUnmarshalJSONRefusesTrailingData(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{"realm":"a"}{"realm":"b"}`, `{"realm":"a"}]`, `[]`, `"a"`, `{`, ``} {
		if err := new(Handler).UnmarshalJSON([]byte(text)); err == nil {
			t.Errorf("no error for %q", text)
		}
	}
}

func TestDidYouMean(t *testing.T) {
	t.Parallel()
	algorithms := []string{"RS256", "ES256", "HS256", "EdDSA"}
	for _, test := range []struct {
		name  string
		valid []string
		want  string
	}{
		{"isuer", []string{"issuer", "audience"}, `; did you mean "issuer"?`},
		{"ISSUER", []string{"issuer", "audience"}, `; did you mean "issuer"?`},
		{"rs256", algorithms, `; did you mean "RS256"?`},
		{"eddsa", algorithms, `; did you mean "EdDSA"?`},
		{"completely_different", []string{"issuer", "audience"}, ""},
		{"ab", []string{"ac", "ad"}, `; did you mean "ac"?`}, // the first of equals, whatever the order
		{"ab", []string{"ad", "ac"}, `; did you mean "ac"?`},
		{"x", nil, ""},
	} {
		if got := didYouMean(test.name, test.valid); got != test.want {
			t.Errorf("didYouMean(%q, %q) = %q, want %q", test.name, test.valid, got, test.want)
		}
	}
}
