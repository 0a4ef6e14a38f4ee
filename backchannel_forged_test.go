package openidconnect

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Tokens that nobody, or somebody else, has signed (S-219; C-081, C-082).
func TestS219ForgedLogoutTokens(t *testing.T) {
	t.Parallel()
	b := newBackchannel(t, "")
	victim := b.signIn("alice", "s")
	p, good := b.p, optest.BySIDAndSub("s", "alice")
	forged := p.ForgedLogoutTokens(t, good)
	reasons := map[string]string{
		"another key": "bad_signature", "changed claims": "bad_signature", "changed signature": "bad_signature",
		"jwk header": "bad_signature", "jku header": "bad_signature", "x5c header": "bad_signature",
		"unknown key": "unknown_key", "crit header": "unsupported_critical", "no signature": "malformed_token",
	}
	// good signatures, of algorithms that ID tokens do not have here
	for _, kid := range []string{"es-1", "ed-1"} {
		if key := p.Key(kid); key != nil {
			forged["by "+kid] = optest.Sign(key, optest.Claims{"typ": "logout+jwt"}, p.LogoutClaims(good))
		}
	}
	if len(forged) < 19 {
		t.Fatalf("%d forged tokens", len(forged))
	}
	hits := p.Hits(optest.JWKS)
	for _, name := range slices.Sorted(maps.Keys(forged)) {
		t.Run(name, func(t *testing.T) {
			b := b.in(t)
			b.wantUntouched(func() { b.wantRefused(forged[name], or(reasons[name], "")) }, victim)
		})
	}
	if n := p.Hits(optest.JWKS) - hits; n > 1 {
		t.Errorf("the keys were fetched %d times more", n)
	}
	for _, request := range p.Requests(optest.Other) {
		t.Errorf("the provider was asked for %s", request.URL)
	}
	b.wantDone(p.LogoutToken(good))
	wantEnded(t, victim)
}

// What is no compact JWS, or one that can be read in two ways.
func TestMalformedLogoutTokens(t *testing.T) {
	t.Parallel()
	b := newBackchannel(t, "")
	victim := b.signIn("alice", "s")
	p := b.p
	key := p.Key("rs-1")
	good := p.LogoutToken(optest.BySID("s"))
	parts := strings.Split(good, ".")
	claims := string(must(json.Marshal(p.LogoutClaims(optest.BySID("s")))))
	signed := func(header, payload string) string {
		token := optest.SignRaw(key, header, payload)
		p.MarkSecret(token)
		return token
	}
	const header = `{"alg":"RS256","kid":"rs-1","typ":"logout+jwt"}`
	twice := func(member string) string { return strings.Replace(claims, "{", "{"+member+",", 1) }
	for name, token := range map[string]string{
		"empty":                    "",
		"a word":                   "token",
		"one segment":              parts[0],
		"two segments":             parts[0] + "." + parts[1],
		"four segments":            good + "." + parts[2],
		"five segments":            strings.Join(append(parts[:2:2], parts[1], parts[1], parts[2]), "."),
		"an empty header":          "." + parts[1] + "." + parts[2],
		"an empty payload":         parts[0] + ".." + parts[2],
		"padding":                  good + "=",
		"a line break":             parts[0] + "." + parts[1] + ".\n" + parts[2],
		"a space before":           " " + good,
		"a space behind":           good + " ",
		"a NUL behind":             good + "\x00",
		"base64 of the other kind": parts[0] + "." + strings.Replace(parts[1], parts[1][:1], "+", 1) + "." + parts[2],
		"JSON serialization":       `{"payload":"` + parts[1] + `","signatures":[{"protected":"` + parts[0] + `","signature":"` + parts[2] + `"}]}`,
		"Bearer before":            "Bearer " + good,
		"b64 in the header":        signed(`{"alg":"RS256","kid":"rs-1","b64":true}`, claims),
		"crit empty":               signed(`{"alg":"RS256","kid":"rs-1","crit":[]}`, claims),
		"two algs":                 signed(`{"alg":"none","alg":"RS256","kid":"rs-1"}`, claims),
		"no alg":                   signed(`{"kid":"rs-1"}`, claims),
		"two sids":                 signed(header, twice(`"sid":"x"`)),
		"two subs":                 signed(header, strings.Replace(twice(`"sub":"alice","sub":"bob"`), `"sid":"s"`, `"x":"s"`, 1)),
		"two events":               signed(header, twice(`"events":{}`)),
		"two members of events":    signed(header, strings.Replace(claims, `{"`+optest.LogoutEvent, `{"`+optest.LogoutEvent+`":1,"`+optest.LogoutEvent, 1)),
		"two iss, one escaped":     signed(header, twice(`"\u0069ss":"x"`)),
		"a list":                   signed(header, "["+claims+"]"),
		"a string":                 signed(header, `"`+"x"+`"`),
		"null":                     signed(header, "null"),
		"something behind":         signed(header, claims+"{}"),
		"no UTF-8":                 signed(header, strings.Replace(claims, `"sid":"s"`, "\"sid\":\"\xff\"", 1)),
		"half a surrogate":         signed(header, strings.Replace(claims, `"sid":"s"`, `"sid":"s\ud800"`, 1)),
		"exp too large":            signed(header, strings.Replace(claims, `"exp":`, `"exp":1e400,"was":`, 1)),
	} {
		t.Run(name, func(t *testing.T) {
			b := b.in(t)
			b.wantUntouched(func() { b.wantRefused(token, "") }, victim)
		})
	}
	// and the same means make a good one
	b.wantDone(signed(header, claims))
	wantEnded(t, victim)
}

// Tokens of the same provider for the same client that are none of logout; and a logout token where another is wanted (C-083).
func TestS219OtherTokensOfTheProvider(t *testing.T) {
	t.Parallel()
	b := newBackchannel(t, "set_raw_id_token_header\nset_access_token_header\naudience client")
	p := b.p
	victim := b.signIn("alice", "s")
	arrived := b.site.last(t).Header
	b.wantUntouched(func() {
		for name, token := range map[string]string{
			"the ID token of the session": arrived.Get("X-Raw-Id-Token"),
			"the access token":            arrived.Get("X-Access-Token"),
			"an ID token with sid":        p.IDToken(optest.Claims{"sub": "alice", "sid": "s", "jti": "1"}),
			"an access token with sid":    p.AccessToken(optest.Claims{"aud": "client", "sub": "alice", "sid": "s"}),
		} {
			if token == "" {
				t.Errorf("%s is empty", name)
			}
			b.wantRefused(token, "")
		}
	}, victim)

	bearer := func(token string) {
		t.Helper()
		b.site.advance()
		b.site.wantRefused(t, b.site.bearer(token), http.StatusUnauthorized, "wrong_token_type")
	}
	b.site.allows(p.AccessToken(optest.Claims{"aud": "client"}))
	bearer(p.LogoutToken(optest.BySIDAndSub("x", "alice"), set("scope", "openid")))
	bearer(p.LogoutTokenWithHeader(optest.Claims{"typ": "JWT"}, optest.BySIDAndSub("x", "alice")))
	bearer(p.LogoutTokenWithHeader(optest.Claims{"typ": nil}, optest.BySIDAndSub("x", "alice"), set("events", optest.Claims{})))

	for name, sign := range map[string]func(optest.Claims) string{
		"a logout token": func(claims optest.Claims) string {
			return p.LogoutToken(optest.BySIDAndSub("x", "alice"), set("nonce", claims["nonce"]))
		},
		"by its events alone": func(claims optest.Claims) string {
			return p.LogoutTokenWithHeader(optest.Claims{"typ": "JWT"}, optest.BySIDAndSub("x", "alice"), set("nonce", claims["nonce"]))
		},
		"by its type alone": func(claims optest.Claims) string {
			return p.LogoutToken(optest.BySIDAndSub("x", "alice"), set("nonce", claims["nonce"]), set("events", nil))
		},
	} {
		t.Run(name, func(t *testing.T) {
			p.SetIDTokenSigner(sign)
			defer p.SetIDTokenSigner(nil)
			v := newVisitor(t, b.site, p)
			v.Now = b.now
			refused := v.Navigate(v.url("/"))
			v.wantPage(refused, refused.Status, "wrong_token_type")
			if refused.Status < 400 {
				t.Errorf("got %d", refused.Status)
			}
			v.wantSession(false)
		})
	}
	wantAlive(t, victim)
}

// Where ID tokens are pinned to an algorithm, logout tokens are too (C-082).
func TestC082AlgorithmsOfLogoutTokens(t *testing.T) {
	t.Parallel()
	const secret = "a client secret that is long enough for HS512, which takes 64 bytes"
	header := optest.Claims{"typ": "logout+jwt"}
	for name, test := range map[string]struct {
		settings   string
		pinned     string // kid, or the algorithm of the secret
		wrong      []string
		fromSecret []byte
	}{
		"by default":       {"", "rs-1", []string{"es-1"}, nil},
		"ES256":            {"id_token_signed_response_alg ES256", "es-1", []string{"rs-1"}, nil},
		"RS256":            {"id_token_signed_response_alg RS256", "rs-1", []string{"es-1", "HS256"}, nil},
		"RS256 and ES256":  {"id_token_signed_response_alg ES256 RS256", "es-1", []string{"HS256"}, nil},
		"HS256":            {"id_token_signed_response_alg HS256", "HS256", []string{"rs-1", "es-1", "HS512"}, nil},
		"HS512":            {"id_token_signed_response_alg HS512", "HS512", []string{"rs-1", "HS256"}, nil},
		"HS256, no secret": {"id_token_signed_response_alg HS256", "HS256", nil, []byte("another secret that is long enough for HS256")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t)
			p.SetIntrospectionClient("client", secret)
			sign := func(by string, header, claims optest.Claims) string {
				if strings.HasPrefix(by, "HS") {
					return optest.HMAC(by, []byte(secret), header, claims)
				}
				return optest.Sign(p.Key(by), header, claims)
			}
			p.SetIDTokenSigner(func(claims optest.Claims) string {
				delete(claims, "at_hash") // which goes by another algorithm
				token := sign(test.pinned, nil, claims)
				p.MarkSecret(token)
				return token
			})
			settings := test.settings + "\nclient_id client\nclient_secret \"" + secret + "\""
			b := newBackchannelAt(t, p, newLoginSite(t, p, settings))
			victim := b.signIn("alice", "s")
			b.wantUntouched(func() {
				for _, wrong := range test.wrong {
					b.wantRefused(sign(wrong, header, p.LogoutClaims(optest.BySID("s"))), "unsupported_algorithm")
				}
				if test.fromSecret != nil {
					b.wantRefused(optest.HMAC(test.pinned, test.fromSecret, header, p.LogoutClaims(optest.BySID("s"))), "bad_signature")
				}
			}, victim)
			b.wantDone(sign(test.pinned, header, p.LogoutClaims(optest.BySID("s"))))
			wantEnded(t, victim)
		})
	}
}

// The log says of a refused token what is wrong with it, and nothing of what a stranger could use.
func TestRefusedLogoutTokensInTheLog(t *testing.T) {
	t.Parallel()
	b := newBackchannel(t, "")
	const stranger = "what-a-stranger-has-written"
	for _, token := range []string{
		b.p.LogoutToken(optest.BySID(stranger), set("aud", "another")),
		b.p.LogoutToken(optest.BySub(stranger), set("nonce", stranger)),
		optest.Sign(optest.NewKey(t, "RS256", "rs-1"), optest.Claims{"kid": "rs-1"}, b.p.LogoutClaims(optest.BySID(stranger))),
	} {
		b.wantRefused(token, "")
		for _, part := range []string{stranger, url.QueryEscape(token), token[len(token)-40:]} {
			for _, entry := range b.site.logs.All() {
				if text := entry.Message + string(must(json.Marshal(entry.ContextMap()))); strings.Contains(text, part) {
					t.Errorf("%.60s is in the log: %s", part, text)
				}
			}
		}
	}
}
