package openidconnect

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Line 5 of the callback: whatever is wrong with what the provider answers ends on a page, with nothing more asked and nobody signed in.

// redemption is a login whose outcome a provider decides.
type redemption struct {
	name   string
	faulty func(p *optest.Provider)
	status int // of the page; 0: the login succeeds
	reason string
	asked  hits
}

// claim changes a claim of the ID token; nil removes it.
func claim(name string, value any) func(p *optest.Provider) {
	return func(p *optest.Provider) {
		p.SetIDTokenClaims(func(claims optest.Claims) {
			if claims[name] = value; value == nil {
				delete(claims, name)
			}
		})
	}
}

// heal undoes what redemptions do to a provider.
func heal(p *optest.Provider) {
	p.SetIDTokenClaims(nil)
	p.SetIDTokenHeader(nil)
	p.SetIDTokenSigner(nil)
	p.SetTokenResponse(nil)
	p.SetUserinfo(nil)
	p.SetUserinfoJWT(nil)
	p.SetJWKS(nil)
	for _, endpoint := range []string{optest.Token, optest.Userinfo, optest.JWKS} {
		p.Heal(endpoint)
	}
}

// run logs somebody in and looks at what became of it.
func (test redemption) run(t *testing.T, s *site, p *optest.Provider) {
	t.Helper()
	v := newVisitor(t, s, p)
	request := v.begin("/x?y=z")
	test.faulty(p)
	defer heal(p)
	before := hitsOf(p)
	s.logs.TakeAll()
	r := v.arrive(request, v.answerTo(request))
	wantHits(t, p, before, test.asked)
	if test.status == 0 {
		v.wantRedirect(r, "/x?y=z")
		v.wantSession(true)
		return
	}
	v.wantPage(r, test.status, test.reason)
	if !strings.Contains(r.Body, `<a href="/oauth2/login?return_to=%2Fx%3Fy%3Dz">`) {
		t.Errorf("the page offers no way out: %s", shown(r))
	}
	if len(v.kept(isTransactionName)) != 0 {
		t.Error("the transaction is still there")
	}
	if challenge := r.Header.Get("WWW-Authenticate"); challenge != "" {
		t.Errorf("a browser that has sent no token is told %s", challenge)
	}
	lines := s.logs.FilterMessage("request refused").TakeAll()
	if len(lines) != 1 || lines[0].ContextMap()["reason"] != test.reason || lines[0].ContextMap()["hint"] == "" ||
		lines[0].Level < zapcore.InfoLevel {
		t.Errorf("log lines %v", lines)
	}
	v.wantSession(false)
}

func halfSHA256(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

func TestS146IDTokens(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "userinfo on\ntrusted_audiences partner\nclaim_header X-Email email")
	once, both := hits{token: 1}, hits{token: 1, userinfo: 1}
	now := time.Now()
	es, foreign := p.Key("es-1"), optest.NewKey(t, "RS256", "rs-1")
	another := newVisitor(t, s, p).begin("/").Get("nonce")
	signed := func(sign func(claims optest.Claims) string) func(p *optest.Provider) {
		return func(p *optest.Provider) { p.SetIDTokenSigner(sign) }
	}
	for _, test := range []redemption{
		{"good", func(*optest.Provider) {}, 0, "", both},
		// S-146, and the suite's tests of signatures
		{
			"invalid-sig-rs256", signed(func(claims optest.Claims) string { return optest.Sign(foreign, nil, claims) }), 400, "bad_signature",
			once,
		},
		{"signature cut off", signed(func(claims optest.Claims) string {
			token := optest.Sign(p.Key("rs-1"), nil, claims)
			return token[:strings.LastIndexByte(token, '.')+1]
		}), 400, "malformed_token", once},
		{
			"idtoken-sig-none", signed(func(claims optest.Claims) string { return optest.Unsigned(nil, claims) }), 400, "malformed_token",
			once,
		},
		{
			"none with a signature", signed(func(claims optest.Claims) string { return optest.Unsigned(nil, claims) + "AAAA" }), 400,
			"unsupported_algorithm", once,
		},
		{"HS256 by the client secret", signed(func(claims optest.Claims) string {
			return optest.HMAC("HS256", []byte("secret"), optest.Claims{"kid": "rs-1"}, claims)
		}), 400, "unsupported_algorithm", once},
		{"HS256 by the public key", signed(func(claims optest.Claims) string {
			return optest.HMAC("HS256", []byte(p.Key("rs-1").PEM()), optest.Claims{"kid": "rs-1"}, claims)
		}), 400, "unsupported_algorithm", once},
		{"RS256 by the client secret", signed(func(claims optest.Claims) string {
			return optest.HMAC("HS256", []byte("secret"), optest.Claims{"alg": "RS256", "kid": "rs-1"}, claims)
		}), 400, "bad_signature", once},
		{
			"invalid-alternate-alg, with a good signature", signed(func(claims optest.Claims) string { return optest.Sign(es, nil, claims) }),
			400, "unsupported_algorithm", once,
		},
		{
			"unknown kid", signed(func(claims optest.Claims) string { return optest.Sign(foreign.With("RS256", "unknown"), nil, claims) }), 400,
			"unknown_key", once,
		},
		{"not a JWT", signed(func(optest.Claims) string { return "nonsense" }), 400, "malformed_token", once},
		{
			"five segments", signed(func(claims optest.Claims) string { return optest.Sign(p.Key("rs-1"), nil, claims) + ".AAAA.AAAA" }), 400,
			"malformed_token", once,
		},
		{"a claim twice", signed(func(claims optest.Claims) string {
			text := jsonOf(t, claims)
			return optest.SignRaw(p.Key("rs-1"), `{"alg":"RS256","kid":"rs-1"}`, `{"sub":"mallory",`+text[1:])
		}), 400, "malformed_token", once},
		{
			"an access token's type", func(p *optest.Provider) { p.SetIDTokenHeader(optest.Claims{"typ": "at+jwt"}) }, 400, "wrong_token_type",
			once,
		},
		{
			"a logout token's type", func(p *optest.Provider) { p.SetIDTokenHeader(optest.Claims{"typ": "logout+jwt"}) }, 400,
			"wrong_token_type", once,
		},
		{
			"a logout token's events", claim("events", map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}),
			400, "wrong_token_type", once,
		},
		{
			"crit", func(p *optest.Provider) { p.SetIDTokenHeader(optest.Claims{"crit": []string{"x"}, "x": 1}) }, 400, "unsupported_critical",
			once,
		},
		{"no typ", func(p *optest.Provider) { p.SetIDTokenHeader(optest.Claims{"typ": nil}) }, 0, "", both},
		{"no kid, one fitting key", func(p *optest.Provider) { p.SetIDTokenHeader(optest.Claims{"kid": nil}) }, 0, "", both},
		// the standard claims
		{"invalid-iss", claim("iss", p.Issuer()+"x"), 400, "wrong_issuer", once},
		{"iss with a slash", claim("iss", p.Issuer()+"/"), 400, "wrong_issuer", once},
		{"missing-iss", claim("iss", nil), 400, "wrong_issuer", once},
		{"iss as a list", claim("iss", []string{p.Issuer()}), 400, "wrong_issuer", once},
		{"missing-sub", claim("sub", nil), 400, "missing_claim", once},
		{"empty sub", claim("sub", " "), 400, "missing_claim", once},
		{"numeric sub", claim("sub", 7), 400, "missing_claim", once},
		{"missing-iat", claim("iat", nil), 400, "missing_claim", once},
		{"iat in an hour", claim("iat", now.Add(time.Hour).Unix()), 400, "not_yet_valid", once},
		{"nbf in an hour", claim("nbf", now.Add(time.Hour).Unix()), 400, "not_yet_valid", once},
		{"missing-exp", claim("exp", nil), 400, "missing_claim", once},
		{"expired-exp", claim("exp", now.Add(-6*time.Minute).Unix()), 400, "expired", once},
		{"exp as text", claim("exp", "tomorrow"), 400, "malformed_token", once},
		{"just expired, within clock_skew", claim("exp", now.Add(-30*time.Second).Unix()), 0, "", both},
		{"invalid-aud", claim("aud", "clientx"), 400, "wrong_audience", once},
		{"missing-aud", claim("aud", nil), 400, "wrong_audience", once},
		{"valid-aud-as-array", claim("aud", []string{"client"}), 0, "", both},
		{"invalid-secondary-aud", claim("aud", []string{"client", "other"}), 400, "wrong_audience", once},
		{"a trusted second audience", claim("aud", []string{"client", "partner"}), 0, "", both},
		{"another azp", claim("azp", "other"), 400, "wrong_audience", once},
		{"azp as a list", claim("azp", []string{"client"}), 400, "wrong_audience", once},
		{"two audiences and our azp", func(p *optest.Provider) {
			p.SetIDTokenClaims(func(claims optest.Claims) { claims["aud"], claims["azp"] = []string{"client", "other"}, "client" })
		}, 0, "", both},
		// S-147
		{"nonce-invalid", claim("nonce", "another"), 400, "nonce_mismatch", once},
		{"missing-nonce", claim("nonce", nil), 400, "nonce_mismatch", once},
		{"empty nonce", claim("nonce", ""), 400, "nonce_mismatch", once},
		{"nonce of another login", claim("nonce", another), 400, "nonce_mismatch", once},
		{"nonce as a list", func(p *optest.Provider) {
			p.SetIDTokenClaims(func(claims optest.Claims) { claims["nonce"] = []any{claims["nonce"]} })
		}, 400, "nonce_mismatch", once},
		// S-149
		{"invalid-athash", claim("at_hash", halfSHA256("another token")), 400, "hash_mismatch", once},
		{"at_hash cut off", func(p *optest.Provider) {
			p.SetIDTokenClaims(func(claims optest.Claims) { claims["at_hash"] = claims["at_hash"].(string)[:10] })
		}, 400, "hash_mismatch", once},
		{"at_hash as a number", claim("at_hash", 1), 400, "hash_mismatch", once},
		{"missing-athash", claim("at_hash", nil), 0, "", both},
		{"invalid-chash", claim("c_hash", halfSHA256("another code")), 400, "hash_mismatch", once},
		{"invalid-shash", claim("s_hash", halfSHA256("another state")), 400, "hash_mismatch", once},
		{"c_hash and s_hash that fit", func(p *optest.Provider) {
			p.SetIDTokenClaims(func(claims optest.Claims) {
				form := p.TokenRequests()
				claims["c_hash"] = halfSHA256(form[len(form)-1].Get("code"))
			})
		}, 0, "", both},
	} {
		s.handler.runtime.login.memory.tellAnew()
		t.Run(test.name, func(t *testing.T) { test.run(t, s, p) })
	}
}

// max_age and acr_values are verified in the ID token, by what each login has asked for (S-151).
func TestS151AuthenticationThatIsTooOldOrTooWeak(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "max_age 10m\nacr_values high higher")
	now := time.Now()
	for _, test := range []redemption{
		{"good", func(*optest.Provider) {}, 0, "", hits{token: 1}},
		{"the other acr", claim("acr", "higher"), 0, "", hits{token: 1}},
		{"within clock_skew", claim("auth_time", now.Add(-10*time.Minute-30*time.Second).Unix()), 0, "", hits{token: 1}},
		{"lower acr", claim("acr", "low"), 403, "insufficient_authentication", hits{token: 1}},
		{"no acr", claim("acr", nil), 403, "insufficient_authentication", hits{token: 1}},
		{"acr as a list", claim("acr", []string{"high"}), 403, "insufficient_authentication", hits{token: 1}},
		{"both as one", claim("acr", "high higher"), 403, "insufficient_authentication", hits{token: 1}},
		{"old", claim("auth_time", now.Add(-12*time.Minute).Unix()), 403, "insufficient_authentication", hits{token: 1}},
		{"no auth_time", claim("auth_time", nil), 403, "insufficient_authentication", hits{token: 1}},
		{"auth_time as text", claim("auth_time", "now"), 403, "insufficient_authentication", hits{token: 1}},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, s, p) })
	}
}

func TestSection6AlgorithmsOfIDTokens(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("long client secret ", 4)
	signedBy := func(alg string) func(t *testing.T, p *optest.Provider) {
		return func(t *testing.T, p *optest.Provider) {
			key := optest.NewKey(t, alg, "")
			p.AddKey(key)
			p.SetSigningKey(key)
		}
	}
	for _, test := range []struct {
		name, settings string
		setup          func(t *testing.T, p *optest.Provider)
		refused        string // with status 400; empty: the login succeeds
	}{
		{"ES384 where metadata does not offer RS256", "", func(t *testing.T, p *optest.Provider) {
			signedBy("ES384")(t, p)
			p.SetMetadata(func(m map[string]any) {
				m["id_token_signing_alg_values_supported"] = []string{"none", "HS256", "ES384", "PS256"}
			})
		}, ""},
		{"RS256 where metadata says nothing", "", func(_ *testing.T, p *optest.Provider) {
			p.SetMetadata(func(m map[string]any) { delete(m, "id_token_signing_alg_values_supported") })
		}, ""},
		{
			"ES256 where metadata offers RS256 too", "", func(_ *testing.T, p *optest.Provider) { p.SetSigningKey(p.Key("es-1")) },
			"unsupported_algorithm",
		},
		{"ES256 as configured", "id_token_signed_response_alg ES256", func(_ *testing.T,
			p *optest.Provider,
		) {
			p.SetSigningKey(p.Key("es-1"))
		}, ""},
		{
			"RS256 where ES256 is configured", "id_token_signed_response_alg ES256", func(*testing.T, *optest.Provider) {},
			"unsupported_algorithm",
		},
		{"EdDSA as configured", "id_token_signed_response_alg EdDSA", signedBy("EdDSA"), ""},
		{"PS512 as configured", "id_token_signed_response_alg PS512", signedBy("PS512"), ""},
		{"HS256 as configured", "id_token_signed_response_alg HS256\nclient_secret \"" + long + "\"", func(_ *testing.T,
			p *optest.Provider,
		) {
			p.SetIntrospectionClient("client", long)
			p.SetIDTokenSigner(func(claims optest.Claims) string { return optest.HMAC("HS256", []byte(long), nil, claims) })
		}, ""},
		{"HS256 by another secret", "id_token_signed_response_alg HS256\nclient_secret \"" + long + "\"", func(_ *testing.T,
			p *optest.Provider,
		) {
			p.SetIntrospectionClient("client", long)
			p.SetIDTokenSigner(func(claims optest.Claims) string { return optest.HMAC("HS256", []byte(long+"x"), nil, claims) })
		}, "bad_signature"},
		{"RS256 where HS256 is configured", "id_token_signed_response_alg HS256\nclient_secret \"" + long + "\"", func(_ *testing.T,
			p *optest.Provider,
		) {
			p.SetIntrospectionClient("client", long)
		}, "unsupported_algorithm"},
		{"kid-absent-multiple-jwks", "", func(t *testing.T, p *optest.Provider) {
			p.AddKey(optest.NewKey(t, "RS256", ""))
			p.AddKey(optest.NewKey(t, "RS256", ""))
			p.SetIDTokenHeader(optest.Claims{"kid": nil})
		}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t)
			test.setup(t, p)
			login := redemption{faulty: func(*optest.Provider) {}, asked: hits{token: 1}}
			if test.refused != "" {
				login.status, login.reason = 400, test.refused
			}
			login.run(t, newLoginSite(t, p, test.settings), p)
		})
	}
	t.Run("signing-key-rotation", func(t *testing.T) {
		t.Parallel()
		p := optest.New(t)
		s := newLoginSite(t, p, "")
		for _, faulty := range []func(p *optest.Provider){func(*optest.Provider) {}, func(p *optest.Provider) { p.Rotate(t) }} {
			redemption{faulty: faulty, asked: hits{token: 1}}.run(t, s, p)
		}
		if n := p.Hits(optest.JWKS); n != 2 {
			t.Errorf("the keys were fetched %d times", n)
		}
	})
}
