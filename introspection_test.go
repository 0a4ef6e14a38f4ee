package openidconnect

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// newIntrospectionSite starts a site whose client may ask p about tokens.
func newIntrospectionSite(tb testing.TB, p *optest.Provider, settings string) *site {
	tb.Helper()
	return newBearerSite(tb, p, "audience api\nclient_id client\nclient_secret secret\n"+settings)
}

// Only the boolean true, once, makes a token active.
func TestS098OnlyTrueIsActive(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newIntrospectionSite(t, p, "introspection_interval 0s")
	s.allows(p.OpaqueToken(p.AccessClaims(nil)))

	future := time.Now().Add(time.Hour).Unix()
	rest := fmt.Sprintf(`"exp":%d,"scope":"read","sub":"alice","aud":"api","iss":%q`, future, p.Issuer())
	answers := []struct {
		name, body string
		status     int
		want       int
		reason     string
	}{
		{"the good answer", `{"active":true,` + rest + `}`, 200, 200, ""},
		{"false with all the rest", `{"active":false,` + rest + `}`, 200, 401, "inactive"},
		{"missing", `{` + rest + `}`, 200, 401, "inactive"},
		{"the string true", `{"active":"true",` + rest + `}`, 200, 401, "inactive"},
		{"1", `{"active":1,` + rest + `}`, 200, 401, "inactive"},
		{"null", `{"active":null,` + rest + `}`, 200, 401, "inactive"},
		{"a list", `{"active":[true],` + rest + `}`, 200, 401, "inactive"},
		{"in other letters", `{"Active":true,"ACTIVE":true,` + rest + `}`, 200, 401, "inactive"},
		{"twice, false first", `{"active":false,"active":true,` + rest + `}`, 200, 503, "introspection_unavailable"},
		{"twice, true first", `{"active":true,"active":false,` + rest + `}`, 200, 503, "introspection_unavailable"},
		{"not an object", `[]`, 200, 503, "introspection_unavailable"},
		{"null document", `null`, 200, 503, "introspection_unavailable"},
		{"empty", ``, 200, 503, "introspection_unavailable"},
		{"no content", ``, 204, 503, "introspection_unavailable"},
		{"created", `{"active":true,` + rest + `}`, 201, 503, "introspection_unavailable"},
		{"more than one document", `{"active":true,` + rest + `}{}`, 200, 503, "introspection_unavailable"},
		{
			"nested too deeply", `{"active":true,"x":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`, 200, 503,
			"introspection_unavailable",
		},
	}
	for _, answer := range answers {
		t.Run(answer.name, func(t *testing.T) {
			s := newIntrospectionSite(t, p, "introspection_interval 0s")
			p.Fail(optest.Introspection, optest.Fault{Status: answer.status, Body: []byte(answer.body)})
			if answer.want == http.StatusOK {
				s.allows("opaque")
				return
			}
			s.refuses("opaque", answer.want, answer.reason)
		})
	}
}

// An active token is not yet one for us.
func TestS099ActiveIsNotEnough(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newIntrospectionSite(t, p, "required_scopes read")
	now := time.Now()
	for _, test := range []struct {
		name   string
		claims optest.Claims
		status int
		reason string
	}{
		{"good", nil, 200, ""},
		{"without dates", optest.Claims{"exp": nil, "iat": nil}, 200, ""},
		{"without iss", optest.Claims{"iss": nil}, 200, ""},
		{"token_type bearer in small letters", optest.Claims{"token_type": "bearer"}, 200, ""},
		{"of a client without a user", optest.Claims{"sub": nil}, 200, ""},
		{"expired", optest.Claims{"exp": now.Add(-2 * time.Minute).Unix()}, 401, "expired"},
		{"exp null", optest.Claims{"exp": jsonNull}, 401, "malformed_token"},
		{"exp as text", optest.Claims{"exp": "4102444800"}, 401, "malformed_token"},
		{"not yet valid", optest.Claims{"nbf": now.Add(5 * time.Minute).Unix()}, 401, "not_yet_valid"},
		{"of another issuer", optest.Claims{"iss": "https://evil.example"}, 401, "wrong_issuer"},
		{"iss null", optest.Claims{"iss": jsonNull}, 401, "wrong_issuer"},
		{"for another audience", optest.Claims{"aud": "other"}, 401, "wrong_audience"},
		{"for no audience", optest.Claims{"aud": nil}, 401, "wrong_audience"},
		{"a refresh token", optest.Claims{"token_type": "refresh_token"}, 401, "wrong_token_type"},
		{"a token type that is no text", optest.Claims{"token_type": 1}, 401, "wrong_token_type"},
		{"of type DPoP and not bound", optest.Claims{"token_type": "DPoP"}, 401, "wrong_token_type"},
		{"of type DPoP", optest.Claims{"token_type": "DPoP", "cnf": map[string]any{"jkt": "x"}}, 401, "unbound"},
		{"bound to a key", optest.Claims{"cnf": map[string]any{"jkt": "x"}}, 401, "unbound"},
		{"an ID token", optest.Claims{"nonce": "n"}, 401, "wrong_token_type"},
		{"without the scope", optest.Claims{"scope": "write"}, 403, "insufficient_scope"},
		{"without any scope", optest.Claims{"scope": nil}, 403, "insufficient_scope"},
		{"without anybody", optest.Claims{"sub": nil, "client_id": nil}, 403, "claim_required"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := s.in(t)
			token := p.OpaqueToken(p.AccessClaims(test.claims))
			for range 2 { // once asked, once from the cache
				if test.status == http.StatusOK {
					s.allows(token)
				} else {
					s.refuses(token, test.status, test.reason)
				}
			}
		})
	}
}

// Without a configured audience an answer that names none passes only if the token was issued to ourselves.
func TestIntrospectionWithTheDefaultAudience(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "client_id client\nclient_secret secret")
	s.allows(p.OpaqueToken(p.AccessClaims(optest.Claims{"aud": nil, "client_id": "client"})))
	s.allows(p.OpaqueToken(p.AccessClaims(optest.Claims{"aud": "client", "client_id": "app"})))
	s.refuses(p.OpaqueToken(p.AccessClaims(optest.Claims{"aud": nil, "client_id": "other"})), 401, "wrong_audience")
	s.refuses(p.OpaqueToken(p.AccessClaims(optest.Claims{"aud": nil, "client_id": nil})), 401, "wrong_audience")
	s.refuses(p.OpaqueToken(p.AccessClaims(optest.Claims{"aud": "api", "client_id": "client"})), 401, "wrong_audience")
	s.refuses(p.OpaqueToken(p.AccessClaims(optest.Claims{"aud": nil, "iss": "https://evil.example"})), 401, "wrong_issuer")
}

// How a token is judged is a matter of configuration, and never of what the token says of itself.
func TestS104TheTokenDoesNotChooseItsJudge(t *testing.T) {
	t.Parallel()
	p, other := optest.New(t), optest.New(t)

	always := newIntrospectionSite(t, p, "introspection always")
	jwt := p.AccessToken(nil)
	always.allows(jwt)
	if n := p.Hits(optest.Introspection); n != 1 {
		t.Errorf("%d introspections", n)
	}
	p.Revoke(jwt)
	always.setNow(time.Now().Add(6 * time.Minute))
	always.refuses(jwt, 401, "inactive")
	// a signature that would verify means nothing there
	always.refuses(optest.Sign(p.Key("rs-1"), nil, p.AccessClaims(nil)), 401, "inactive")

	hits := p.Hits(optest.Introspection)
	for _, settings := range []string{"audience api", "audience api\nclient_id client\nclient_secret secret\nintrospection off"} {
		byKeys := newBearerSite(t, p, settings)
		byKeys.allows(p.AccessToken(nil))
		byKeys.refuses(p.OpaqueToken(p.AccessClaims(nil)), 401, "malformed_token")
		for _, issuer := range []string{other.Issuer(), "https://unknown.example", p.URL() + "/x"} {
			byKeys.refuses(optest.Sign(other.Key("rs-1"), nil, p.AccessClaims(optest.Claims{"iss": issuer})), 401, "wrong_issuer")
		}
	}
	if n := p.Hits(optest.Introspection); n != hits {
		t.Errorf("%d introspections more", n-hits)
	}
	if n := other.Hits(optest.Discovery) + other.Hits(optest.JWKS) + p.Hits(optest.Other); n != 0 {
		t.Errorf("%d requests went where a token pointed", n)
	}
	// a JWT that fails is not given a second chance by introspection
	auto := newIntrospectionSite(t, p, "")
	forged := optest.Sign(optest.NewKey(t, "RS256", "rs-1"), nil, p.AccessClaims(nil))
	p.Fail(optest.Introspection, optest.Fault{Body: []byte(`{"active":true,"sub":"mallory","aud":"api"}`)})
	auto.refuses(forged, 401, "bad_signature")
}

func TestS114RevokedTokens(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	now := time.Now()
	t.Run("within the configured time", func(t *testing.T) {
		s := newIntrospectionSite(t, p, "introspection_interval 30s")
		token := p.OpaqueToken(p.AccessClaims(nil))
		s.setNow(now)
		s.allows(token)
		p.Revoke(token)
		s.setNow(now.Add(29 * time.Second))
		s.allows(token)
		s.setNow(now.Add(31 * time.Second))
		s.refuses(token, 401, "inactive")
	})
	t.Run("at once with an interval of 0", func(t *testing.T) {
		s := newIntrospectionSite(t, p, "introspection_interval 0s")
		token := p.OpaqueToken(p.AccessClaims(nil))
		before := p.Hits(optest.Introspection)
		for range 3 {
			s.allows(token)
		}
		if n := p.Hits(optest.Introspection) - before; n != 3 {
			t.Errorf("%d calls for 3 requests", n)
		}
		p.Revoke(token)
		s.refuses(token, 401, "inactive")
	})
	t.Run("at once without a cache", func(t *testing.T) {
		s := newIntrospectionSite(t, p, "token_cache 0")
		token := p.OpaqueToken(p.AccessClaims(nil))
		s.allows(token)
		p.Revoke(token)
		s.refuses(token, 401, "inactive")
	})
	t.Run("after five minutes by default", func(t *testing.T) {
		s := newIntrospectionSite(t, p, "")
		token := p.OpaqueToken(p.AccessClaims(optest.Claims{"exp": now.Add(time.Hour).Unix()}))
		s.setNow(now)
		s.allows(token)
		p.Revoke(token)
		s.setNow(now.Add(5*time.Minute - time.Second))
		s.allows(token)
		s.setNow(now.Add(5*time.Minute + time.Second))
		s.refuses(token, 401, "inactive")
	})
}

func TestIntrospectionSettings(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	now := time.Now()
	t.Run("introspection_expiry_claim", func(t *testing.T) {
		s := newIntrospectionSite(t, p, "introspection_expiry_claim recheck_at")
		token := p.OpaqueToken(p.AccessClaims(optest.Claims{"recheck_at": now.Add(10 * time.Second).Unix()}))
		s.setNow(now)
		s.allows(token)
		p.Revoke(token)
		s.setNow(now.Add(9 * time.Second))
		s.allows(token)
		s.setNow(now.Add(11 * time.Second))
		s.refuses(token, 401, "inactive")
	})
	t.Run("introspection_addon_headers", func(t *testing.T) {
		s := newIntrospectionSite(t, p, "introspection_addon_headers X-Tenant x-missing")
		token := p.OpaqueToken(p.AccessClaims(nil))
		before := p.Hits(optest.Introspection)
		for range 2 {
			for _, tenant := range []string{"a", "b"} {
				s.wantAllowed(t, s.get("/", "Authorization: Bearer "+token, "X-Tenant: "+tenant, "X-Other: secret", "Cookie: c=d"))
			}
		}
		requests := p.Requests(optest.Introspection)[before:]
		if len(requests) != 2 {
			t.Fatalf("%d calls, want one for each tenant", len(requests))
		}
		for i, tenant := range []string{"a", "b"} {
			header := requests[i].Header
			if header.Get("X-Tenant") != tenant || header.Get("X-Other") != "" || header.Get("Cookie") != "" {
				t.Errorf("headers of call %d: %v", i, header)
			}
			if requests[i].Form.Get("token") != token {
				t.Errorf("call %d is about another token", i)
			}
		}
	})
	t.Run("client_secret_post", func(t *testing.T) {
		newIntrospectionSite(t, p, "token_endpoint_auth_method client_secret_post").allows(p.OpaqueToken(p.AccessClaims(nil)))
	})
	t.Run("by an endpoint of our choice", func(t *testing.T) {
		s := newIntrospectionSite(t, p, "introspection_endpoint "+p.Endpoint(optest.Introspection)+"\njwks_uri "+p.Endpoint(optest.JWKS))
		before := p.Hits(optest.Discovery)
		s.allows(p.OpaqueToken(p.AccessClaims(nil)))
		s.allows(p.AccessToken(nil))
		if n := p.Hits(optest.Discovery) - before; n != 0 {
			t.Errorf("%d discoveries", n)
		}
	})
}
