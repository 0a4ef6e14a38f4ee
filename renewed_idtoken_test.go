package openidconnect

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// What an ID token that comes with a renewal does to the session (OpenID Connect Core section 12.2).

// idTokenHeaders show a session's claims and the ID token that they are of, and userinfo has no word in it.
const idTokenHeaders = "claim_header X-Groups groups\nset_access_token_header\nset_raw_id_token_header\nset_id_token_header\nuserinfo off\n"

// S-196: an ID token that cannot be used changes nothing but the access token, and is no reason to end a session. The next good one counts.
func TestS196UnusableIDTokens(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	rs, es, foreign := p.Key("rs-1"), p.Key("es-1"), optest.NewKey(t, "RS256", "rs-1")
	header := func(header optest.Claims) func(*optest.Provider) {
		return func(p *optest.Provider) { p.SetIDTokenHeader(header) }
	}
	late := func(d time.Duration) int64 { return time.Now().Add(pastAccess + d).Unix() }
	for _, test := range []struct {
		name   string
		faulty func(p *optest.Provider)
		reason string // empty: it is used
	}{
		{"good", func(*optest.Provider) {}, ""},
		// signatures
		{"by a foreign key", renewedSigner(func(claims optest.Claims) string { return optest.Sign(foreign, nil, claims) }), "bad_signature"},
		{"by an unknown key", renewedSigner(func(claims optest.Claims) string {
			return optest.Sign(foreign.With("RS256", "unknown"), nil, claims)
		}), "unknown_key"},
		{"by a key for another algorithm", renewedSigner(func(claims optest.Claims) string { return optest.Sign(es, nil, claims) }), "unsupported_algorithm"},
		{"none", renewedSigner(func(claims optest.Claims) string { return optest.Unsigned(nil, claims) }), "malformed_token"},
		{"none with a signature", renewedSigner(func(claims optest.Claims) string { return optest.Unsigned(nil, claims) + "AAAA" }), "unsupported_algorithm"},
		{"HS256 by the client secret", renewedSigner(func(claims optest.Claims) string {
			return optest.HMAC("HS256", []byte("secret"), optest.Claims{"kid": "rs-1"}, claims)
		}), "unsupported_algorithm"},
		{"HS256 by the public key", renewedSigner(func(claims optest.Claims) string {
			return optest.HMAC("HS256", []byte(rs.PEM()), optest.Claims{"kid": "rs-1"}, claims)
		}), "unsupported_algorithm"},
		{"RS256 by the client secret", renewedSigner(func(claims optest.Claims) string {
			return optest.HMAC("HS256", []byte("secret"), optest.Claims{"alg": "RS256", "kid": "rs-1"}, claims)
		}), "bad_signature"},
		{"changed after it was signed", renewedSigner(func(claims optest.Claims) string {
			head, _, signature := segments(optest.Sign(rs, nil, claims))
			claims["groups"] = []string{"admin"}
			_, payload, _ := segments(optest.Sign(rs, nil, claims))
			return strings.Join([]string{head, payload, signature}, ".")
		}), "bad_signature"},
		{"five segments", renewedSigner(func(claims optest.Claims) string { return optest.Sign(rs, nil, claims) + ".AAAA.AAAA" }), "malformed_token"},
		{"not a JWT", renewedAnswer("id_token", "nonsense"), "malformed_token"},
		{"a claim twice", renewedSigner(func(claims optest.Claims) string {
			return optest.SignRaw(rs, `{"alg":"RS256","kid":"rs-1"}`, `{"groups":["admin"],`+jsonOf(t, claims)[1:])
		}), "malformed_token"},
		// another kind of token
		{"typ at+jwt", header(optest.Claims{"typ": "at+jwt"}), "wrong_token_type"},
		{"typ application/at+jwt", header(optest.Claims{"typ": "application/AT+JWT"}), "wrong_token_type"},
		{"typ logout+jwt", header(optest.Claims{"typ": "logout+jwt"}), "wrong_token_type"},
		{"events", renewedClaim("events", map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}), "wrong_token_type"},
		{"crit", header(optest.Claims{"crit": []string{"x"}, "x": 1}), "unsupported_critical"},
		{"no typ", header(optest.Claims{"typ": nil}), ""},
		{"no kid", header(optest.Claims{"kid": nil}), ""},
		// for whom, and when
		{"another aud", renewedClaim("aud", "other"), "wrong_audience"},
		{"no aud", renewedClaim("aud", nil), "wrong_audience"},
		{"a second aud", renewedClaim("aud", []string{"client", "other"}), "wrong_audience"},
		{"another azp", renewedClaim("azp", "other"), "wrong_audience"},
		{"aud as a list", renewedClaim("aud", []string{"client"}), ""},
		{"expired", renewedClaim("exp", late(-2*time.Minute)), "expired"},
		{"expired, within clock_skew", renewedClaim("exp", late(-30*time.Second)), ""},
		{"no exp", renewedClaim("exp", nil), "missing_claim"},
		{"exp as text", renewedClaim("exp", "tomorrow"), "malformed_token"},
		{"not valid yet", renewedClaim("nbf", late(time.Hour)), "not_yet_valid"},
		{"of the future", renewedClaim("iat", late(time.Hour)), "not_yet_valid"},
		{"no iat", renewedClaim("iat", nil), "missing_claim"},
		// what belongs to the login and to the access token
		{"a foreign nonce", renewedClaim("nonce", "another"), "nonce_mismatch"},
		{"a nonce that is a list", renewedClaim("nonce", []string{"another"}), "nonce_mismatch"},
		{"an empty nonce", renewedClaim("nonce", ""), ""},
		{"a wrong at_hash", renewedClaim("at_hash", halfSHA256("another token")), "hash_mismatch"},
		{"at_hash as a number", renewedClaim("at_hash", 1), "hash_mismatch"},
		{"an empty at_hash", renewedClaim("at_hash", ""), "hash_mismatch"},
		{"no at_hash", renewedClaim("at_hash", nil), ""},
		{"an auth_time, of which the login said nothing", renewedClaim("auth_time", late(-time.Hour)), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer healRenewals(p)
			p.SetUser(optest.Claims{"groups": []string{"a"}})
			r := newRenewer(t, p, idTokenHeaders)
			before := r.upstream.last(t).Header
			r.site.wantHeaders(map[string]string{"X-Groups": "a", "X-Raw-Id-Token": r.tokens["id_token"]})

			p.SetUser(optest.Claims{"groups": []string{"b"}})
			test.faulty(p)
			after := r.renew().Header
			if after.Get("X-Access-Token") != r.tokens["access_token"] || after.Get("X-Access-Token") == before.Get("X-Access-Token") {
				t.Error("the access token is not the renewed one")
			}
			if test.reason == "" {
				if after.Get("X-Groups") != "b" || after.Get("X-Raw-Id-Token") == before.Get("X-Raw-Id-Token") {
					t.Errorf("the ID token is not used: %v", after)
				}
				if n := r.site.logs.FilterMessage(unusedIDToken).Len(); n != 0 {
					t.Errorf("%d lines about an ID token that is used", n)
				}
				return
			}
			for _, name := range []string{"X-Groups", "X-Raw-Id-Token", "X-Id-Token", "X-Userinfo"} {
				if after.Get(name) != before.Get(name) || len(after.Values(name)) != 1 {
					t.Errorf("%s has changed to %q", name, after.Values(name))
				}
			}
			r.site.logged(zapcore.WarnLevel, unusedIDToken, map[string]string{"reason": test.reason, "issuer": p.Issuer()})

			healRenewals(p)
			r.tokens = recordedTokens(p)
			if healed := r.renew().Header; healed.Get("X-Groups") != "b" || healed.Get("X-Raw-Id-Token") != r.tokens["id_token"] {
				t.Errorf("the next ID token is not used either: %v", healed)
			}
		})
	}
}

// C-097, C-098: an ID token about somebody else, or of somebody else, ends the session, and nothing of it is used.
func TestS196IDTokensOfOthers(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	const subject, issuer = "subject_mismatch", "issuer_mismatch"
	foreign := optest.NewKey(t, "RS256", "rs-1")
	for _, storage := range []string{"cookie", "caddy"} {
		for _, test := range []struct {
			name   string
			faulty func(p *optest.Provider)
			reason string
		}{
			{"another sub", renewedClaim("sub", "mallory"), subject},
			{"sub in capitals", renewedClaim("sub", "ALICE"), subject},
			{"sub with a space", renewedClaim("sub", "alice "), subject},
			{"an empty sub", renewedClaim("sub", ""), subject},
			{"no sub", renewedClaim("sub", nil), subject},
			{"sub as a list", renewedClaim("sub", []string{"alice"}), subject},
			{"sub as a number", renewedClaim("sub", 7), subject},
			{"another iss", renewedClaim("iss", "https://evil.example"), issuer},
			{"iss with a slash", renewedClaim("iss", p.Issuer()+"/"), issuer},
			{"iss as a list", renewedClaim("iss", []string{p.Issuer()}), issuer},
			{"no iss", renewedClaim("iss", nil), issuer},
			{"another sub, by a foreign key", renewedSigner(func(claims optest.Claims) string {
				claims["sub"] = "mallory"
				return optest.Sign(foreign, nil, claims)
			}), subject},
		} {
			t.Run(storage+" "+test.name, func(t *testing.T) {
				defer healRenewals(p)
				p.SetUser(optest.Claims{"groups": []string{"a"}})
				r := newRenewer(t, p, strings.Replace(idTokenHeaders, "userinfo off", "userinfo on", 1)+"session {\nstorage "+storage+"\n}")
				p.SetUser(optest.Claims{"groups": []string{"b"}})
				if got := r.renew().Header.Get("X-Groups"); got != "b" {
					t.Errorf("a good renewal gives the groups %q", got)
				}
				test.faulty(p)
				thief := r.clone() // with the same cookies
				r.wantEnded(map[string]string{"reason": test.reason})
				thief.wantSession(false)
			})
		}
	}
}

// An ID token that repeats what the login said is the rule with some providers.
func TestRenewedIDTokenRepeatsTheLogin(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	t.Run("its nonce", func(t *testing.T) {
		defer healRenewals(p)
		p.SetUser(optest.Claims{"groups": []string{"a"}})
		r := newRenewer(t, p, idTokenHeaders)
		renewedClaim("nonce", lastRequest(t, p).Get("nonce"))(p)
		p.SetUser(optest.Claims{"groups": []string{"b"}})
		for range 2 {
			if got := r.renew().Header.Get("X-Groups"); got != "b" {
				t.Errorf("groups %q", got)
			}
		}
	})
	t.Run("the nonce of somebody else's", func(t *testing.T) {
		defer healRenewals(p)
		p.SetUser(optest.Claims{"groups": []string{"a"}})
		r := newRenewer(t, p, idTokenHeaders)
		signedInAt(t, newLoginSite(t, p, ""), p)
		renewedClaim("nonce", lastRequest(t, p).Get("nonce"))(p)
		p.SetUser(optest.Claims{"groups": []string{"b"}})
		if got := r.renew().Header.Get("X-Groups"); got != "a" {
			t.Errorf("groups %q", got)
		}
		r.site.logged(zapcore.WarnLevel, unusedIDToken, map[string]string{"reason": "nonce_mismatch"})
	})
	t.Run("a nonce where none is used", func(t *testing.T) {
		defer healRenewals(p)
		p.SetUser(optest.Claims{"groups": []string{"a"}})
		r := newRenewer(t, p, idTokenHeaders+"use_nonce off")
		renewedClaim("nonce", "any")(p)
		p.SetUser(optest.Claims{"groups": []string{"b"}})
		if got := r.renew().Header.Get("X-Groups"); got != "a" {
			t.Errorf("groups %q", got)
		}
	})
	t.Run("all of it", func(t *testing.T) {
		defer healRenewals(p)
		p.SetUser(optest.Claims{"groups": []string{"a"}})
		r := newRenewer(t, p, idTokenHeaders)
		first := r.tokens["id_token"]
		renewedAnswer("id_token", first)(p)
		for range 2 { // long after it has expired
			if header := r.renew().Header; header.Get("X-Groups") != "a" || header.Get("X-Raw-Id-Token") != first {
				t.Errorf("got %v", header)
			}
		}
		r.site.logged(zapcore.WarnLevel, unusedIDToken, map[string]string{"reason": "expired"})
	})
}
