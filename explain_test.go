package openidconnect

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
)

// explains has a site explain a token.
func (s *site) explains(token string, online bool) *explanation {
	s.t.Helper()
	explained, err := s.handler.runtime.explain(s.t.Context(), token, online)
	if err != nil {
		s.t.Fatal(err)
	}
	return explained
}

// What is explained is what a request with the same token gets, word by word as the log has it.
func TestExplainSaysWhatRequestsGet(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	now := time.Now().Truncate(time.Second)
	claims := func(claims optest.Claims) string { return p.AccessToken(claims) }
	opaque := func(claims optest.Claims) string { return p.OpaqueToken(p.AccessClaims(claims)) }
	confirm := func(members map[string]any) optest.Claims { return optest.Claims{"cnf": members} }
	key, forger := p.Key("rs-1"), optest.NewKey(t, "RS256", "rs-1")
	const client = "client_id client\nclient_secret secret\n"
	for _, test := range []struct {
		name, settings, token string
		reason                Reason // empty: accepted
		expected, got         string // are part of what is told
	}{
		{"good", "", claims(nil), "", "", ""},
		{"good, with spaces before it", "", "  " + claims(nil), "", "", ""},
		{"two words", "", "a b", reasonMalformedAuthorization, "Bearer, a space", "something else"},
		{"no JWT", "", "nonsense", reasonMalformedToken, "three base64url segments", ""},
		{"too large", "", strings.Repeat("a", 17_000), reasonTooLarge, "", "17000"},
		{"unsigned", "", optest.Unsigned(nil, p.AccessClaims(nil)) + "x", reasonUnsupportedAlgorithm, "", ""},
		{"algorithm not expected", "token_signing_alg_values_expected ES256", claims(nil), reasonUnsupportedAlgorithm, "ES256", "RS256"},
		{"critical header", "", optest.Sign(key, optest.Claims{"crit": []string{"x"}}, p.AccessClaims(nil)), reasonUnsupportedCritical, "", ""},
		{"key of the same name", "", optest.Sign(forger, nil, p.AccessClaims(nil)), reasonBadSignature, "a key of the provider", "kid rs-1"},
		{"unknown key", "", optest.Sign(forger, optest.Claims{"kid": "none"}, p.AccessClaims(nil)), reasonUnknownKey, "a key of", "kid none"},
		{"another issuer", "", claims(optest.Claims{"iss": "https://id.example.com/"}), reasonWrongIssuer, p.Issuer(), "https://id.example.com/"},
		{"no issuer", "", claims(optest.Claims{"iss": nil}), reasonWrongIssuer, p.Issuer(), "nothing"},
		{"a further issuer", "valid_issuers https://id.example.com", claims(optest.Claims{"iss": "https://id.example.com"}), "", "", ""},
		{"another audience", "", claims(optest.Claims{"aud": []string{"x", "y"}}), reasonWrongAudience, "api", "[x y]"},
		{"expired", "", claims(optest.Claims{"exp": 1}), reasonExpired, "exp after ", "1970-01-01T00:00:01Z"},
		{"not yet valid", "", claims(optest.Claims{"nbf": now.Add(time.Hour).Unix()}), reasonNotYetValid, "nbf before", "nbf 20"},
		{"within the skew", "clock_skew 5m", claims(optest.Claims{"nbf": now.Add(3 * time.Minute).Unix()}), "", "", ""},
		{"no expiry", "", claims(optest.Claims{"exp": nil}), reasonMissingClaim, "exp", "nothing"},
		{"an ID token", "", p.IDToken(optest.Claims{"aud": "api", "nonce": "n"}), reasonWrongTokenType, "an access token", "a token with nonce"},
		{"an ID token of our own", client, p.IDToken(optest.Claims{"aud": []string{"client", "x"}}), reasonWrongAudience, "api", "client"},
		{"a logout token", "", optest.Sign(key, optest.Claims{"typ": "logout+jwt"}, p.AccessClaims(nil)), reasonWrongTokenType, "typ at+jwt", "logout"},
		{"no profile", "token_type at+jwt", optest.Sign(key, nil, p.AccessClaims(nil)), reasonWrongTokenType, "typ at+jwt", ""},
		{"lacks a scope", "required_scopes read write", claims(nil), reasonInsufficientScope, "read write", "read"},
		{"has the scope", "required_scopes read", claims(nil), "", "", ""},
		{"lacks a claim", "required_claim groups staff", claims(nil), reasonClaimRequired, "groups = staff", "aud"},
		{"has a denied claim", "denied_claim groups guests", claims(optest.Claims{"groups": "guests"}), reasonClaimDenied, "groups", "a match"},
		{"no user", "", claims(optest.Claims{"sub": nil}), reasonClaimRequired, "sub", ""},
		{"no user by another name", "username_claim email", claims(nil), reasonClaimRequired, "email", ""},
		{"opaque", client, opaque(nil), "", "", ""},
		{"opaque and unknown", client, "unheard-of", reasonInactive, "active true", "false"},
		{"opaque, for another", client, opaque(optest.Claims{"aud": "other"}), reasonWrongAudience, "api", "other"},
		{"opaque, not introspected", "", opaque(nil), reasonMalformedToken, "", ""},
		{"a JWT that is introspected", client + "introspection always", claims(nil), "", "", ""},
		{"opaque, of a type", client, opaque(optest.Claims{"token_type": "refresh_token"}), reasonWrongTokenType, "token_type Bearer", "refresh_token"},
		{"bound in an unknown way", "", claims(confirm(map[string]any{"kid": "x"})), reasonUnbound, "jkt or x5t#S256", "kid"},
		{"bound in two ways", "", claims(confirm(map[string]any{"jkt": "x", "kid": "x"})), reasonUnbound, "jkt or x5t#S256", "jkt kid"},
		{"not bound", "mtls_bound required", claims(nil), reasonUnbound, "a client certificate", "one that is not"},
		{"not bound to a key", "dpop_bound required", claims(nil), reasonUnbound, "a DPoP key", "one that is not"},
		{"bound, which does not matter", "dpop_bound off", claims(confirm(map[string]any{"jkt": "x"})), "", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newBearerSite(t, p, "audience api\n"+test.settings)
			s.setNow(now)
			s.logs.TakeAll()
			explained := s.explains(test.token, true)
			if lines := s.logs.FilterMessage("request refused").Len() + s.logs.FilterMessage("request accepted").Len(); lines != 0 {
				t.Errorf("%d lines of what was explained are in the log", lines)
			}
			answer := s.get("/", "Authorization: Bearer "+test.token)
			if test.reason == "" {
				if answer.StatusCode != http.StatusOK {
					t.Fatalf("the request gets %d: %s", answer.StatusCode, answer.body)
				}
				want := explanation{Accepted: true, Method: methodBearer, Issuer: explained.Issuer}
				want.Passed, _ = stepsBefore(s.handler.runtime.steps(strings.TrimSpace(test.token)), "")
				if strings.HasPrefix(test.name, "bound, ") && len(explained.Notes) > 0 {
					want.Passed = slices.DeleteFunc(want.Passed, func(name string) bool { return name == stepProof })
				}
				if !reflect.DeepEqual(*explained, want) || explained.Issuer == "" {
					t.Errorf("explained as %+v", explained)
				}
				return
			}
			lines := s.logs.FilterMessage("request refused").All()
			if len(lines) != 1 {
				t.Fatalf("%d lines", len(lines))
			}
			logged := lines[0].ContextMap()
			got := map[string]any{
				"reason": string(explained.Reason), "expected": explained.Expected, "got": explained.Got, "hint": explained.Hint,
			}
			for name, value := range got {
				if value != logged[name] {
					t.Errorf("%s is explained as %q, and logged as %q", name, value, logged[name])
				}
			}
			if explained.Reason != test.reason || explained.Status != answer.StatusCode || explained.Accepted || explained.Issuer != "" {
				t.Errorf("explained as %+v, the request gets %d", explained, answer.StatusCode)
			}
			wantText(t, explained.Expected, test.expected)
			wantText(t, explained.Got, test.got)
			if again := s.explains(test.token, true); !reflect.DeepEqual(again, explained) {
				t.Errorf("explained again, after the request, as %+v", again)
			}
		})
	}
}

// A token that is bound to a key is good in the hands of its owner; all else about it is judged.
func TestExplainBoundTokens(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	dpop, certificate := map[string]any{"jkt": "x"}, map[string]any{"x5t#S256": "x"}
	both := map[string]any{"jkt": "x", "x5t#S256": "x"}
	for _, test := range []struct {
		name, settings string
		confirmation   map[string]any
		notes          []string
	}{
		{"a key", "", dpop, []string{noteDPoP}},
		{"a certificate", "", certificate, []string{noteMutualTLS}},
		{"both", "", both, []string{noteDPoP, noteMutualTLS}},
		{"a key, which is demanded", "dpop_bound required", dpop, []string{noteDPoP}},
		{"a certificate, which is demanded", "mtls_bound required", certificate, []string{noteMutualTLS}},
		{"both, of which one counts", "mtls_bound off", both, []string{noteDPoP}},
		{"no answer is kept", "introspection_interval 0s", dpop, []string{noteDPoP}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newIntrospectionSite(t, p, "required_scopes read\n"+test.settings)
			claims := optest.Claims{"cnf": test.confirmation}
			for kind, token := range map[string]string{"a JWT": p.AccessToken(claims), "opaque": p.OpaqueToken(p.AccessClaims(claims))} {
				explained := s.explains(token, true)
				if !explained.Accepted || !slices.Equal(explained.Notes, test.notes) {
					t.Errorf("%s: %+v", kind, explained)
				}
				s.refuses(token, 401, "unbound")
				claims := optest.Claims{"cnf": test.confirmation, "scope": "write"}
				for _, token := range []string{p.AccessToken(claims), p.OpaqueToken(p.AccessClaims(claims))} {
					if explained := s.explains(token, true); explained.Accepted || explained.Reason != reasonInsufficientScope {
						t.Errorf("without the scope: %+v", explained)
					}
				}
			}
		})
	}
	s := newIntrospectionSite(t, p, "mtls_bound required")
	if explained := s.explains(p.AccessToken(optest.Claims{"cnf": dpop}), true); explained.Reason != reasonUnbound || explained.Notes != nil {
		t.Errorf("bound to a key where a certificate is demanded: %+v", explained)
	}
}

// Without online the provider hears nothing, whatever is asked.
func TestExplainOffline(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newIntrospectionSite(t, p, "")
	good, opaque := p.AccessToken(nil), p.OpaqueToken(p.AccessClaims(nil))
	calls := func() int { return p.Hits(optest.Discovery) + p.Hits(optest.JWKS) + p.Hits(optest.Introspection) }
	undecided := func(token string, reason Reason) {
		t.Helper()
		explained := s.explains(token, false)
		if explained.Accepted || explained.Reason != reason || explained.Hint != hintOffline {
			t.Errorf("explained as %+v", explained)
		}
		wantText(t, explained.Cause, provider.ErrOffline.Error())
	}
	undecided(good, reasonDiscoveryFailed)
	undecided(opaque, reasonDiscoveryFailed)
	if explained := s.explains(p.AccessToken(optest.Claims{"exp": 1}), false); explained.Reason != reasonExpired {
		t.Errorf("what needs no provider: %+v", explained)
	}
	if n := calls(); n != 0 {
		t.Fatalf("%d calls", n)
	}
	if explained := s.explains(good, true); !explained.Accepted {
		t.Fatalf("online: %+v", explained)
	}
	before := calls()
	if explained := s.explains(good, false); !explained.Accepted || explained.Notes != nil {
		t.Errorf("with the keys that are known: %+v", explained)
	}
	undecided(opaque, reasonIntrospectionUnavailable)
	rotated := p.AccessToken(nil)
	p.Rotate(t)
	if explained := s.explains(rotated, false); !explained.Accepted {
		t.Errorf("%+v", explained)
	}
	fresh := p.AccessToken(nil) // by a key that is not known here
	if explained := s.explains(fresh, false); explained.Reason != reasonUnknownKey || !slices.Equal(explained.Notes, []string{noteOldKeys}) {
		t.Errorf("by a new key: %+v", explained)
	}
	if n := calls(); n != before {
		t.Errorf("%d calls, had %d", n, before)
	}
	if explained := s.explains(fresh, true); !explained.Accepted || explained.Notes != nil {
		t.Errorf("by a new key, online: %+v", explained)
	}
	s.allows(opaque) // so that there is an answer
	before = calls()
	if explained := s.explains(opaque, false); !explained.Accepted || !slices.Equal(explained.Notes, []string{noteOldAnswer}) {
		t.Errorf("by an answer that is known: %+v", explained)
	}
	if n := calls(); n != before {
		t.Errorf("%d calls, had %d", n, before)
	}
	p.Revoke(opaque)
	if explained := s.explains(opaque, true); explained.Reason != reasonInactive {
		t.Errorf("revoked, online: %+v", explained)
	}
}

// A token that was explained is no better known than before, not even as one that failed.
func TestExplainLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newIntrospectionSite(t, p, "claim_header X-Big big")
	rt := s.handler.runtime
	tokens := []string{
		p.AccessToken(nil), p.OpaqueToken(p.AccessClaims(nil)), p.AccessToken(optest.Claims{"aud": "other"}), "unheard-of",
		p.AccessToken(optest.Claims{"big": strings.Repeat("x", 6000)}), p.AccessToken(optest.Claims{"cnf": map[string]any{"jkt": "x"}}),
	}
	for _, token := range tokens {
		s.explains(token, true)
	}
	p.Fail(optest.Introspection, optest.Fault{Status: 500})
	s.explains("unheard-of", true)
	p.Heal(optest.Introspection)
	if n := rt.tokens.count.Load() + rt.introspection.shared.answers.count.Load(); n != 0 {
		t.Errorf("%d tokens are in the caches", n)
	}
	for _, entry := range s.logs.All() {
		if entry.Message != "provider is available" && entry.Message != "event" {
			t.Errorf("%s is in the log: %v", entry.Message, entry.ContextMap())
		}
	}
	wantSilence(t, p, s)

	// what requests have left behind is as it was, too
	s.allows(tokens[0])
	s.allows(tokens[1])
	known := rt.introspection.shared.answers.get(digestToken(tokens[1]), time.Now())
	accepted := known.accepted.Load()
	s.explains(tokens[0], false)
	s.explains(tokens[1], false)
	if known.accepted.Load() != accepted || rt.tokens.count.Load() != 1 || rt.introspection.shared.answers.count.Load() != 1 {
		t.Error("explaining has changed what is known of a token")
	}
}

// Online, an explanation ends when the provider's time is over.
func TestExplainEnds(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newIntrospectionSite(t, p, "timeout 2s")
	s.allows(p.AccessToken(nil))
	p.Fail(optest.Introspection, optest.Fault{Hang: true})
	began := time.Now()
	explained := s.explains("unheard-of", true)
	if explained.Reason != reasonIntrospectionUnavailable || explained.Cause == "" || explained.Status != http.StatusServiceUnavailable {
		t.Errorf("explained as %+v", explained)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	explained, err := s.handler.runtime.explain(ctx, "unheard-of", true)
	if err != nil || explained.Accepted {
		t.Fatalf("when nobody waits any more: %+v, %v", explained, err)
	}
	wantText(t, explained.Cause, context.Canceled.Error())
}

// A handler that takes no bearer tokens says so, and judges none.
func TestExplainIgnoredTokens(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "ignore_bearer")
	if explained := s.explains(p.AccessToken(nil), true); !reflect.DeepEqual(*explained, explanation{Ignored: true, Hint: hintIgnored}) {
		t.Errorf("explained as %+v", explained)
	}
	explained, err := explainAt(t.Context(), []*Handler{s.handler}, "x", true)
	if err != nil || !explained.Ignored {
		t.Errorf("%+v, %v", explained, err)
	}
	if n := p.Hits(optest.JWKS); n != 0 {
		t.Errorf("%d calls", n)
	}
}

// Of several handlers in a row each must accept the token; those that ignore it do not count.
func TestExplainHandlersInARow(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	reading := newBearerSite(t, p, "audience api\nrequired_scopes read").handler
	writing := newBearerSite(t, p, "audience api\nrequired_scopes write").handler
	ignoring := newLoginSite(t, p, "ignore_bearer").handler
	for _, test := range []struct {
		name     string
		handlers []*Handler
		accepted bool
		reason   Reason
	}{
		{"one", []*Handler{reading}, true, ""},
		{"the inner one refuses", []*Handler{reading, writing}, false, reasonInsufficientScope},
		{"the outer one refuses", []*Handler{writing, reading}, false, reasonInsufficientScope},
		{"the inner one does not care", []*Handler{reading, ignoring}, true, ""},
		{"the outer one does not care", []*Handler{ignoring, reading}, true, ""},
		{"the outer one does not care, the inner one refuses", []*Handler{ignoring, writing}, false, reasonInsufficientScope},
	} {
		explained, err := explainAt(t.Context(), test.handlers, p.AccessToken(nil), true)
		if err != nil || explained.Accepted != test.accepted || explained.Reason != test.reason || explained.Ignored {
			t.Errorf("%s: %+v, %v", test.name, explained, err)
		}
	}
}

// A trial judges by all the rules: what a runtime has for its decisions is in it, and what is not in it decides nothing about tokens.
func TestTrialKnowsAllRules(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	rt := newIntrospectionSite(t, p, "required_scopes read\nmtls_bound required\nclaim_header X-Groups groups").handler.runtime
	trial, err := rt.trial()
	if err != nil {
		t.Fatal(err)
	}
	others := []string{ // of its own, or for requests alone
		"number", "logger", "metrics", "events", "tokens", "introspection", "login", "refresh", "cookies", "pages", "ignoreBearer", "proofs",
		"plainIdentity", "claimPlaceholders", "resource", "unauth", "allowPreflight", "errorResponses", "realm", "vary", "releases",
	}
	from, to := reflect.ValueOf(rt).Elem(), reflect.ValueOf(trial).Elem()
	for i := range from.NumField() {
		name := from.Type().Field(i).Name
		switch a, b := from.Field(i), to.Field(i); {
		case slices.Contains(others, name):
		case a.Kind() == reflect.Func:
			if a.Pointer() != b.Pointer() {
				t.Errorf("%s is another", name)
			}
		case a.Kind() == reflect.Pointer:
			if a.Pointer() != b.Pointer() {
				t.Errorf("%s is another", name)
			}
		case a.IsZero() && name != "demandsBinding":
			t.Errorf("%s is not set in this test", name)
		case fmt.Sprintf("%+v", a) != fmt.Sprintf("%+v", b):
			t.Errorf("%s is %v, want %v, unless it decides nothing about tokens", name, b, a)
		}
	}
	if trial.introspection.mode != rt.introspection.mode || trial.introspection.shared == rt.introspection.shared || trial.number == rt.number {
		t.Error("a trial shares what it must not, or does not know of introspection")
	}
}
