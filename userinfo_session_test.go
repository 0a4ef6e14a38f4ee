package openidconnect

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Userinfo is asked for once for each login, and by itself only for what is wanted and not there.
func TestUserinfoCalls(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetUser(optest.Claims{"sub": "alice", "name": "Ada", "email": "ada@example.com", "groups": []string{"a"}})
	const all = "scope openid profile email\n"
	for _, test := range []struct {
		settings string
		thin     bool // the ID token tells nothing
		calls    int
	}{
		{"", false, 0},
		{"", true, 0},
		{all, false, 0},
		{all, true, 1},
		{"scope openid email\n", true, 1},
		{all + "set_userinfo_header off", true, 0},
		{all + "set_userinfo_header off\nclaim_header X-Name name", true, 1},
		{all + "set_userinfo_header off\nclaim_header X-Name name", false, 0},
		{"claim_placeholder tenants groups", true, 1},
		{"username_claim tenant\nset_userinfo_header off", true, 1},
		{"required_claim groups a", false, 0},
		{"required_claim groups a", true, 1},
		{"denied_claim groups b", true, 1},
		{"denied_claim suspended true", false, 1}, // which is nowhere: nobody can know without asking
		{"userinfo auto\n" + all, true, 1},
		{"userinfo on", false, 1},
		{"userinfo on\nset_userinfo_header off", true, 1},
		{"userinfo off\n" + all, true, 0},
		{"userinfo off\nclaim_header X-Groups groups", true, 0},
	} {
		t.Run(fmt.Sprintf("%s %t", test.settings, test.thin), func(t *testing.T) {
			p.SetThinIDTokens(test.thin)
			s, before := newLoginSite(t, p, test.settings), hitsOf(p)
			v := newVisitor(t, s, p)
			v.Navigate(v.url("/"))
			for range 3 {
				v.Get(v.url("/"))
			}
			wantHits(t, p, before, hits{authorize: 1, token: 1, userinfo: test.calls})
		})
	}
}

func TestUserinfoOffRefusesWhatItCannotKnow(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetThinIDTokens(true)
	p.SetUser(optest.Claims{"sub": "alice", "groups": []string{"a"}})
	v := newVisitor(t, newLoginSite(t, p, "required_claim groups a\nuserinfo off"), p)
	for range 5 { // other sites of this client do not change what this one does
		newVisitor(t, newLoginSite(t, p, "required_claim groups a"), p).signIn("/")
	}
	v.wantPage(v.Navigate(v.url("/")), http.StatusForbidden, "claim_required")
}

// A provider without userinfo is not asked, unless that is demanded.
func TestUserinfoWithoutAnEndpoint(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetThinIDTokens(true)
	p.SetMetadata(func(m map[string]any) { delete(m, "userinfo_endpoint") })
	newVisitor(t, newLoginSite(t, p, "scope openid profile\nclaim_header X-Name name"), p).signIn("/")
	s := newLoginSite(t, p, "userinfo on")
	v := newVisitor(t, s, p)
	v.wantPage(v.Navigate(v.url("/")), http.StatusBadGateway, "userinfo_failed")
	s.logged(zapcore.WarnLevel, "request refused", map[string]string{"reason": "userinfo_failed", "error": "no userinfo_endpoint"})
}

// Userinfo adds to what the ID token says and never contradicts it, least of all in what tokens are judged by.
func TestUserinfoAddsOnly(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetUser(optest.Claims{"sub": "alice", "groups": []string{"staff"}})
	p.SetUserinfo(func(claims optest.Claims) {
		maps.Copy(claims, optest.Claims{
			"iss": "https://evil.example", "aud": "evil", "exp": 1, "nbf": 4102444800, "iat": 1, "jti": "x", "auth_time": 1, "nonce": "n", "acr": "gold",
			"amr": []string{"mfa"}, "azp": "evil", "sid": "evil", "tid": "evil", "at_hash": "x", "cnf": map[string]any{"jkt": "x"}, "scope": "admin",
			"groups": []string{"admin"}, "tenant": "acme", "_claim_sources": map[string]any{"s": map[string]any{"endpoint": "https://evil.example"}},
		})
	})
	const rules = "userinfo on\nclaim_header X-Groups groups\nclaim_header X-Tenant tenant\n"
	s := newLoginSite(t, p, rules)
	newVisitor(t, s, p).signIn("/")
	s.wantHeaders(map[string]string{"X-Groups": "staff", "X-Tenant": "acme"})
	claims := userinfo(t, s.last(t).Header)
	for name, want := range map[string]string{"iss": p.Issuer(), "aud": "client", "groups": "[staff]", "tenant": "acme"} {
		if got := fmt.Sprint(claims[name]); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	for _, name := range []string{"nbf", "jti", "auth_time", "nonce", "acr", "amr", "azp", "tid", "at_hash", "cnf", "scope", "_claim_sources"} {
		if value, ok := claims[name]; ok {
			t.Errorf("%s is %v", name, value)
		}
	}
	if got := claims["sid"]; got == "evil" || got == nil {
		t.Errorf("sid is %v", got)
	}
	for _, rule := range []string{"required_claim acr gold", "required_claim tid evil", "required_scopes admin", "required_claim groups admin"} {
		v := newVisitor(t, newLoginSite(t, p, rules+rule), p)
		if landed := v.Navigate(v.url("/")); landed.Status != http.StatusForbidden {
			t.Errorf("%s: got %d", rule, landed.Status)
		}
	}
}

// Claims that come from somewhere else (OpenID Connect Core section 5.6.2) are no reason to refuse a login, and nobody fetches or believes
// them.
func TestAggregatedAndDistributedClaims(t *testing.T) {
	t.Parallel()
	p, elsewhere := optest.New(t), optest.New(t)
	aggregated := func(claims optest.Claims) {
		claims["_claim_names"] = map[string]any{"credit_score": "bank", "groups_of_bank": "bank", "address": "register"}
		claims["_claim_sources"] = map[string]any{
			"bank":     map[string]any{"JWT": elsewhere.IDToken(optest.Claims{"credit_score": 650})},
			"register": map[string]any{"endpoint": elsewhere.Endpoint(optest.Userinfo), "access_token": "of the register"},
		}
	}
	for name, put := range map[string]func(func(optest.Claims)){"in the ID token": p.SetIDTokenClaims, "in userinfo": p.SetUserinfo} {
		t.Run(name, func(t *testing.T) {
			put(aggregated)
			defer put(nil)
			s := newLoginSite(t, p, "userinfo on\nclaim_header X-Score credit_score")
			newVisitor(t, s, p).signIn("/")
			s.wantHeaders(map[string]string{"X-Score": ""})

			v := newVisitor(t, newLoginSite(t, p, "userinfo on\nrequired_claim credit_score 650"), p)
			v.wantPage(v.Navigate(v.url("/")), http.StatusForbidden, "claim_required")
		})
	}
	for _, endpoint := range []string{optest.Userinfo, optest.JWKS, optest.Discovery, optest.Other} {
		if n := elsewhere.Hits(endpoint); n != 0 {
			t.Errorf("%d requests to %s of somebody who is named in a claim", n, endpoint)
		}
	}
}

// Userinfo may come signed, and is then verified like a token.
func TestSignedUserinfo(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetThinIDTokens(true)
	p.SetUser(optest.Claims{"sub": "alice", "tenant": "acme"})
	key := p.Key("rs-1")
	with := func(changes optest.Claims) func(optest.Claims) string {
		return func(claims optest.Claims) string {
			maps.Copy(claims, changes)
			return optest.Sign(key, nil, claims)
		}
	}
	s := newLoginSite(t, p, "userinfo on\nclaim_header X-Tenant tenant")
	for name, sign := range map[string]func(optest.Claims) string{
		"for us":                         with(optest.Claims{"iss": p.Issuer(), "aud": "client"}),
		"for us among others":            with(optest.Claims{"aud": []string{"other", "client"}, "exp": time.Now().Add(time.Minute).Unix()}),
		"without issuer and audience":    with(nil),
		"by another key of the provider": func(claims optest.Claims) string { return optest.Sign(p.Key("es-1"), nil, claims) },
	} {
		t.Run(name, func(t *testing.T) {
			p.SetUserinfoJWT(sign)
			newVisitor(t, s, p).signIn("/")
			s.wantHeaders(map[string]string{"X-Tenant": "acme"})
		})
	}
	for name, sign := range map[string]func(optest.Claims) string{
		"of another issuer":  with(optest.Claims{"iss": "https://evil.example", "aud": "client"}),
		"for somebody else":  with(optest.Claims{"iss": p.Issuer(), "aud": "other"}),
		"expired":            with(optest.Claims{"exp": time.Now().Add(-time.Hour).Unix()}),
		"not valid yet":      with(optest.Claims{"nbf": time.Now().Add(time.Hour).Unix()}),
		"unsigned":           func(claims optest.Claims) string { return optest.Unsigned(nil, claims) },
		"with the secret":    func(claims optest.Claims) string { return optest.HMAC("HS256", []byte("secret"), nil, claims) },
		"with a foreign key": func(claims optest.Claims) string { return optest.Sign(optest.NewKey(t, "RS256", "rs-1"), nil, claims) },
		"changed": func(claims optest.Claims) string {
			header, _, signature := segments(optest.Sign(key, nil, claims))
			claims["tenant"] = "other"
			_, payload, _ := segments(optest.Sign(key, nil, claims))
			return strings.Join([]string{header, payload, signature}, ".")
		},
		"no JWT at all": func(optest.Claims) string { return `{"sub":"alice","tenant":"acme"}` },
	} {
		t.Run(name, func(t *testing.T) {
			p.SetUserinfoJWT(sign)
			before := hitsOf(p)
			v := newVisitor(t, s, p)
			v.wantPage(v.Navigate(v.url("/")), http.StatusBadRequest, "userinfo_failed")
			wantHits(t, p, before, hits{authorize: 1, token: 1, userinfo: 1})
		})
	}
}
