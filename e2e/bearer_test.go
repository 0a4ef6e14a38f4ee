package e2e

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
)

// tamper adds a scope to a JWT and leaves its signature as it is.
func tamper(t *testing.T, token string) string {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("the token has %d parts, not the 3 of a signed JWT", len(parts))
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(payload), "orders:read", "orders:read orders:write", 1)
	if changed == string(payload) {
		t.Fatal("the token has no scope to change")
	}
	parts[1] = base64.RawURLEncoding.EncodeToString([]byte(changed))
	return strings.Join(parts, ".")
}

func TestJWT(t *testing.T) {
	eachProvider(t, func(t *testing.T, p identityProvider) {
		s := load(t, p.issuer(),
			"audience "+apiAudience, "required_scopes orders:read", "claim_header X-Client-Id client_id")
		token := mustFetch(t, p, reader)

		// The second time it comes from the cache.
		for _, what := range []string{"a token", "the same token"} {
			answer := s.expect(t, what, token, "200", "")
			for name, want := range map[string]string{"X-Client-Id": reader.ID, "X-User": reader.ID} {
				if got := answer.UpstreamHeader(name); got != want {
					t.Errorf("%s: the upstream's %s is %q, want %q", what, name, got, want)
				}
			}
			for claim, want := range map[string]string{"iss": p.issuer(), "sub": reader.ID, "client_id": reader.ID} {
				if got := answer.Claim(claim); got != want {
					t.Errorf("%s: %s in X-Userinfo is %q, want %q", what, claim, got, want)
				}
			}
		}
		for _, test := range []struct{ what, token, outcome, reason string }{
			{"no token", "", "401", "no_credentials"},
			{"a changed token", tamper(t, token), "401 invalid_token", "bad_signature"},
			{"no token at all", "nonsense", "401 invalid_token", "malformed_token"},
			{"a token without the scope", mustFetch(t, p, guest), "403 insufficient_scope", "insufficient_scope"},
			{"a token for another API", mustFetch(t, p, elsewhere), "401 invalid_token", "wrong_audience"},
		} {
			s.expect(t, test.what, test.token, test.outcome, test.reason)
		}
	})
}

func TestScopes(t *testing.T) {
	eachProvider(t, func(t *testing.T, p identityProvider) {
		token := mustFetch(t, p, reader)
		for scopes, outcome := range map[string]string{
			"orders:list orders:read":  "200",
			"orders:list orders:write": "403 insufficient_scope",
			"order":                    "403 insufficient_scope",
		} {
			s := load(t, p.issuer(), "audience "+apiAudience, "required_scopes "+scopes)
			answer := s.expect(t, scopes, token, outcome, "")
			challenge := answer.Header.Get("WWW-Authenticate")
			if outcome != "200" && !strings.Contains(challenge, `scope="`+scopes+`"`) {
				t.Errorf("%s: the challenge does not name them: %s", scopes, challenge)
			}
		}
	})
}

// TestTokenType has one provider that marks its access tokens as such, and one that does not.
func TestTokenType(t *testing.T) {
	for _, test := range []struct {
		name            string
		start           func(*testing.T) identityProvider
		outcome, reason string
	}{
		{"oidc-provider", newNodeProvider, "200", ""},
		{"zitadel", newZitadelProvider, "401 invalid_token", "wrong_token_type"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := test.start(t)
			token := mustFetch(t, p, reader)
			load(t, p.issuer(), "audience "+apiAudience).expect(t, "any type", token, "200", "")
			load(t, p.issuer(), "audience "+apiAudience, "token_type at+jwt").
				expect(t, "at+jwt", token, test.outcome, test.reason)
		})
	}
}

// TestOtherProvider presents tokens of one provider to a site that trusts another.
func TestOtherProvider(t *testing.T) {
	zitadel, node := newZitadelProvider(t), newNodeProvider(t)
	for _, test := range []struct{ trusted, other identityProvider }{{zitadel, node}, {node, zitadel}} {
		s := load(t, test.trusted.issuer(), "audience "+apiAudience)
		s.expect(t, "its own token", mustFetch(t, test.trusted, reader), "200", "")
		s.expect(t, "the other's token", mustFetch(t, test.other, reader), "401 invalid_token", "wrong_issuer")
	}
}

func introspecting() []string {
	return []string{
		"client_id " + api.ID, "client_secret " + api.Secret, "required_scopes orders:read",
		"claim_header X-Client-Id client_id",
	}
}

func TestOpaque(t *testing.T) {
	eachProvider(t, func(t *testing.T, p identityProvider) {
		s := load(t, p.issuer(), append(introspecting(), "audience "+apiAudience)...)
		token := mustFetch(t, p, opaqueReader)
		for _, what := range []string{"a token", "the same token"} {
			answer := s.expect(t, what, token, "200", "")
			// A service's introspection answer need not have a subject; its client_id says who it is.
			for name, want := range map[string]string{"X-Client-Id": opaqueReader.ID, "X-User": opaqueReader.ID} {
				if got := answer.UpstreamHeader(name); got != want {
					t.Errorf("%s: the upstream's %s is %q, want %q", what, name, got, want)
				}
			}
			if got := answer.Claim("scope"); got != "orders:read" {
				t.Errorf("%s: scope in X-Userinfo is %q", what, got)
			}
		}

		revoked := mustFetch(t, p, opaqueReader)
		revoke(t, p.issuer(), opaqueReader, revoked)
		for _, test := range []struct{ what, token, outcome, reason string }{
			{"a JWT beside opaque tokens", mustFetch(t, p, reader), "200", ""},
			{"a token without the scope", mustFetch(t, p, opaqueGuest), "403 insufficient_scope", "insufficient_scope"},
			// The provider does not tell this API about it.
			{"a token for another API", mustFetch(t, p, opaqueElsewhere), "401 invalid_token", "inactive"},
			{"a revoked token", revoked, "401 invalid_token", "inactive"},
			{"a made-up token", "nonsense", "401 invalid_token", "inactive"},
		} {
			s.expect(t, test.what, test.token, test.outcome, test.reason)
		}
	})
}

// TestOpaqueAudience has a site that is not the API which the provider knows it as.
func TestOpaqueAudience(t *testing.T) {
	eachProvider(t, func(t *testing.T, p identityProvider) {
		token := mustFetch(t, p, opaqueReader)
		load(t, p.issuer(), append(introspecting(), "audience "+apiAudience)...).expect(t, "its audience", token, "200", "")
		load(t, p.issuer(), append(introspecting(), "audience "+elsewhereAudience)...).
			expect(t, "another audience", token, "401 invalid_token", "wrong_audience")
	})
}

// TestIntrospectionCredentials has a site that the provider does not let introspect. That is not the caller's fault.
func TestIntrospectionCredentials(t *testing.T) {
	eachProvider(t, func(t *testing.T, p identityProvider) {
		token := mustFetch(t, p, opaqueReader)
		s := load(t, p.issuer(), "client_id "+api.ID, "client_secret wrong", "audience "+apiAudience)
		answer := s.get(t, token)
		if answer.Status != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" {
			t.Errorf("got %s with Retry-After %q, want 503\n%s",
				answer.Outcome(), answer.Header.Get("Retry-After"), answer.Body)
		}
	})
}
