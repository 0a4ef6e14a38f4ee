package openidconnect

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// A token that one site has accepted is for the next site a token like any other: the cache they share holds no decision
// (GHSA-qvp4-rpmr-xwrr).
func TestS107EverySiteDecidesForItself(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	sites := []struct {
		name, settings string
		reason         string // why it refuses; empty where the token is good
		status         int
	}{
		{"that accepts", "audience api", "", 200},
		{"for another audience", "audience other", "wrong_audience", 401},
		{"that wants a scope", "audience api\nrequired_scopes write", "insufficient_scope", 403},
		{"that wants a claim", "audience api\nrequired_claim groups admins", "claim_required", 403},
		{"that denies a claim", "audience api\ndenied_claim sub alice", "claim_denied", 403},
		{"that takes other algorithms", "audience api\ntoken_signing_alg_values_expected ES256", "unsupported_algorithm", 401},
		{"that wants the audience elsewhere", "audience api\naudience_claim client_id", "wrong_audience", 401},
		{"that knows users by another claim", "audience api\nusername_claim email", "claim_required", 403},
		{"that wants bound tokens", "audience api\nmtls_bound required", "unbound", 401},
		{"that accepts, too", "audience api\nrequired_scopes read\nrequired_claim sub alice", "", 200},
		{"with a profile of JWTs", "audience api\ntoken_type at+jwt", "", 200},
	}
	client := "\nclient_id client\nclient_secret secret"
	started := make([]*site, len(sites))
	for i, s := range sites {
		started[i] = newBearerSite(t, p, s.settings+client)
	}
	jwt, opaque := p.AccessToken(nil), p.OpaqueToken(p.AccessClaims(nil))
	for range 4 {
		for _, i := range rand.Perm(len(sites)) {
			for _, token := range []string{jwt, opaque} {
				s := sites[i]
				switch {
				case token == opaque && s.reason == "unsupported_algorithm":
					// the provider has judged that
				case token == opaque && strings.HasPrefix(s.name, "with a profile"):
					started[i].refuses(token, 401, "malformed_token")
				case s.reason == "":
					started[i].allows(token)
				default:
					started[i].refuses(token, s.status, s.reason)
				}
				if t.Failed() {
					t.Fatalf("at the site %s", s.name)
				}
			}
		}
	}
	if n := p.Hits(optest.Introspection); n != 1 {
		t.Errorf("%d introspections, so the sites share no cache and this test proves nothing", n)
	}
}

// The issuer and the tenant are looked at again as well.
func TestS107IssuersOfOneProvider(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	lax := newBearerSite(t, p, "audience api\nvalid_issuers https://old.example")
	strict := newBearerSite(t, p, "audience api")
	old := p.AccessToken(optest.Claims{"iss": "https://old.example"})
	for range 2 {
		lax.allows(old)
		strict.refuses(old, 401, "wrong_issuer")
	}
	if lax.handler.runtime.tokens != strict.handler.runtime.tokens {
		t.Error("the sites share no cache, so this test proves nothing")
	}
}

// A provider, cache or secret of another trust is another one.
func TestCachesAreNotSharedAcrossTrust(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	key := p.Key("rs-1")
	fetched := newBearerSite(t, p, "audience api")
	static := newSite(t, "issuer "+p.Issuer()+"\nbearer_only\naudience api\npublic_key \""+optest.NewKey(t, "RS256", "x").PEM()+"\"")
	token := optest.Sign(key, nil, p.AccessClaims(nil))
	for range 2 {
		fetched.allows(token)
		static.refuses(token, 401, "bad_signature")
	}
	p.SetIntrospectionClient("one", "secret")
	right := newBearerSite(t, p, "audience api\nclient_id one\nclient_secret secret")
	wrong := newBearerSite(t, p, "audience api\nclient_id one\nclient_secret wrong")
	opaque := p.OpaqueToken(p.AccessClaims(nil))
	right.allows(opaque)
	wrong.refuses(opaque, 503, "introspection_unavailable")
}

// Tokens that look alike to a careless key of a cache.
func TestS109TokensThatLookAlike(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api\nclient_id client\nclient_secret secret")
	good := p.AccessToken(nil)
	s.allows(good)
	header, payload, signature := segments(good)
	other := p.AccessToken(optest.Claims{"sub": "bob"})
	otherHeader, otherPayload, otherSignature := segments(other)
	if header != otherHeader {
		t.Fatal("the headers differ")
	}
	s.refuses(header+"."+payload+"."+otherSignature, 401, "bad_signature")
	s.refuses(header+"."+otherPayload+"."+signature, 401, "bad_signature")
	s.refuses(good[:len(good)-2], 401, "bad_signature")
	s.refuses(good+"AAAA", 401, "bad_signature")
	s.allows(good)
	s.allows(other)
	if got := userinfo(t, s.last(t).Header)["sub"]; got != "bob" {
		t.Errorf("the user is %v", got)
	}
	// opaque tokens of equal length, beginning and end, and pairs that collide in FNV-1a 32 and CRC-32
	alike := []string{
		strings.Repeat("a", 64) + "1" + strings.Repeat("a", 64), strings.Repeat("a", 64) + "2" + strings.Repeat("a", 64),
		"costarring", "liquid", "declinate", "macallums", "plumless", "buckeroo", "codding", "gnu",
	}
	for i, token := range alike {
		p.Fail(optest.Introspection, optest.Fault{Body: fmt.Appendf(nil, `{"active":true,"sub":"user-%d","aud":"api"}`, i)})
		s.allows(token)
	}
	p.Fail(optest.Introspection, optest.Fault{Status: 500})
	for i, token := range alike {
		s.allows(token)
		if got := userinfo(t, s.last(t).Header)["sub"]; got != fmt.Sprintf("user-%d", i) {
			t.Errorf("%s is %v", token, got)
		}
	}
}

// One character of the signature of a token that is in the cache.
func TestS110TheWholeTokenCounts(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api")
	good := p.AccessToken(nil)
	s.allows(good)
	start := strings.LastIndexByte(good, '.') + 1
	for _, at := range []int{start, start + 1, (start + len(good)) / 2, len(good) - 2, len(good) - 1} {
		for _, c := range "ABCDwxyz0123-_" {
			changed := good[:at] + string(c) + good[at+1:]
			if changed == good {
				continue
			}
			r := s.bearer(changed)
			s.wantRefused(t, r, 401, map[bool]string{true: "bad_signature", false: "malformed_token"}[r.json(t, "reason") == "bad_signature"])
		}
	}
	s.allows(good)
}

// How long an answer of the provider is believed.
func TestS111AnswersDoNotOutliveTheToken(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	start := time.Now().Truncate(time.Second)
	at := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	for _, test := range []struct {
		name, settings string
		expiry         any
		believed, over float64 // seconds
	}{
		{"soon", "introspection_interval 60s", start.Unix() + 2, 1.9, 2},
		{"soon, by default", "", start.Unix() + 2, 1.9, 2},
		{"soon, with a fraction", "", json.RawMessage(fmt.Sprintf("%d.5", start.Unix()+2)), 2.4, 2.5},
		{"later than the interval", "introspection_interval 60s", start.Unix() + 3600, 59.9, 60},
		{"later than five minutes", "", start.Unix() + 3600, 299.9, 300},
		{"beyond everything", "", json.RawMessage("1e300"), 299.9, 300},
		{"unknown", "", nil, 59.9, 60},
		{"unknown, with an interval", "introspection_interval 10s", nil, 9.9, 10},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newIntrospectionSite(t, p, test.settings)
			token := p.OpaqueToken(p.AccessClaims(optest.Claims{"exp": test.expiry}))
			calls := func() int { return p.Hits(optest.Introspection) }
			before := calls()
			s.setNow(start)
			s.allows(token)
			s.setNow(at(test.believed))
			s.allows(token)
			if n := calls() - before; n != 1 {
				t.Errorf("%d calls after %v s, want 1", n, test.believed)
			}
			p.Revoke(token)
			s.setNow(at(test.over))
			s.refuses(token, 401, "inactive")
			if n := calls() - before; n != 2 {
				t.Errorf("%d calls after %v s, want 2", n, test.over)
			}
		})
	}
	t.Run("in the past", func(t *testing.T) {
		s := newIntrospectionSite(t, p, "")
		for _, expiry := range []any{-1, 0, 1} {
			token := p.OpaqueToken(p.AccessClaims(optest.Claims{"exp": expiry}))
			before := p.Hits(optest.Introspection)
			s.refuses(token, 401, "expired")
			s.refuses(token, 401, "expired")
			if n := p.Hits(optest.Introspection) - before; n != 2 {
				t.Errorf("%d calls for 2 requests with exp %v", n, expiry)
			}
		}
	})
}

// No is not remembered: what was refused may be good a moment later.
func TestS112RefusalsAreNotCached(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	now := time.Now()
	s := newBearerSite(t, p, "audience api\nclient_id client\nclient_secret secret\nclock_skew 0s")
	claims := optest.Claims{"iat": now.Unix() - 1, "nbf": now.Unix() + 2}
	for _, token := range []string{p.AccessToken(claims), p.OpaqueToken(p.AccessClaims(claims))} {
		s.setNow(now)
		s.refuses(token, 401, "not_yet_valid")
		s.setNow(now.Add(2 * time.Second))
		s.allows(token)
	}
	s.setNow(now)
	p.Fail(optest.Introspection, optest.Fault{Status: 503, Times: 1})
	opaque := p.OpaqueToken(p.AccessClaims(optest.Claims{"iat": nil}))
	s.refuses(opaque, 503, "introspection_unavailable")
	s.allows(opaque)
	p.Fail(optest.Introspection, optest.Fault{Body: []byte(`{"active":false}`), Times: 1})
	opaque = p.OpaqueToken(p.AccessClaims(optest.Claims{"iat": nil}))
	s.refuses(opaque, 401, "inactive")
	s.allows(opaque)
}

// Bad tokens do not push good ones out, and cost no memory.
func TestS113BadTokensTakeNoRoom(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api\ntoken_cache 50")
	good := make([]string, 20)
	for i := range good {
		good[i] = p.AccessToken(nil)
		s.allows(good[i])
	}
	p.Fail(optest.JWKS, optest.Fault{Status: 500})
	forger := optest.NewKey(t, "ES256", "es-1")
	for i := range 2000 {
		if i%100 == 0 {
			s.allows(good[i/100])
		}
		s.refuses(optest.Sign(forger, nil, p.AccessClaims(optest.Claims{"n": i})), 401, "bad_signature")
	}
	if n := s.handler.runtime.tokens.size(); n != len(good) {
		t.Errorf("%d tokens are kept, want the %d good ones", n, len(good))
	}
	for range 200 {
		s.allows(p.AccessToken(nil))
	}
	if n := s.handler.runtime.tokens.size(); n > 50 {
		t.Errorf("%d tokens are kept, want at most 50", n)
	}
}

// token_cache 0, and what APISIX calls it, verifies each time.
func TestWithoutACache(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	var other Handler
	if err := json.Unmarshal(fmt.Appendf(nil, `{"issuer":%q,"bearer_only":true,"audience":"api","jwt_verification_cache_ignore":true}`, p.Issuer()), &other); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*site{newBearerSite(t, p, "audience api\ntoken_cache 0"), startSite(t, &other)} {
		token := p.AccessToken(nil)
		s.allows(token)
		s.allows(token)
		if n := s.handler.runtime.tokens.size(); n != 0 {
			t.Errorf("%d tokens are kept", n)
		}
		_, _, signature := segments(token)
		s.refuses(strings.TrimSuffix(token, signature)+strings.Repeat("A", len(signature)), 401, "bad_signature")
	}
}
