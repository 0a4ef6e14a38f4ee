package openidconnect

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Line 5, continued: the answers of the token endpoint and of userinfo. What the provider failed at is 502, what we refuse 400.

// member changes a member of the token answer; nil removes it.
func member(name string, value any) func(p *optest.Provider) {
	return func(p *optest.Provider) {
		p.SetTokenResponse(func(answer map[string]any) {
			if answer[name] = value; value == nil {
				delete(answer, name)
			}
		})
	}
}

func failing(endpoint string, fault optest.Fault) func(p *optest.Provider) {
	return func(p *optest.Provider) { p.Fail(endpoint, fault) }
}

func TestS152TokenAnswers(t *testing.T) {
	t.Parallel()
	p, elsewhere := optest.New(t), optest.New(t)
	s := newLoginSite(t, p, "userinfo on\ntimeout 2s")
	once, both := hits{token: 1}, hits{token: 1, userinfo: 1}
	jsonError := func(status int, text string) func(p *optest.Provider) {
		return failing(optest.Token, optest.Fault{
			Status: status, Body: []byte(text),
			Header: http.Header{"Content-Type": {"application/json"}},
		})
	}
	for _, test := range []redemption{
		{"good", func(*optest.Provider) {}, 0, "", both},
		{"no id_token", member("id_token", nil), 502, "code_exchange_failed", once},
		{"an empty id_token", member("id_token", ""), 502, "code_exchange_failed", once},
		{"id_token that is no text", member("id_token", 1), 502, "code_exchange_failed", once},
		{"no access_token", member("access_token", nil), 502, "code_exchange_failed", once},
		{"access_token with a line break", member("access_token", "x\r\nX-Evil: 1"), 502, "code_exchange_failed", once},
		{"no token_type", member("token_type", nil), 502, "code_exchange_failed", once},
		{"token_type mac", member("token_type", "mac"), 502, "code_exchange_failed", once},
		{"token_type N_A", member("token_type", "N_A"), 502, "code_exchange_failed", once},
		{"token_type DPoP", member("token_type", "DPoP"), 502, "code_exchange_failed", once},
		{"token-type-case-insensitivity", member("token_type", "bEARER"), 0, "", both},
		// S-153
		{"expires_in as text", member("expires_in", "3600"), 0, "", both},
		{"token-endpoint-response-without-expires_in", member("expires_in", nil), 0, "", both},
		{"expires_in 0", member("expires_in", 0), 0, "", both},
		{"expires_in -1", member("expires_in", -1), 0, "", both},
		{"expires_in 1e308", member("expires_in", 1e308), 0, "", both},
		{"no-scope-in-token-endpoint-response", member("scope", nil), 0, "", both},
		{"refresh_token null", member("refresh_token", jsonNull), 0, "", both},
		{"refresh_token empty", member("refresh_token", ""), 0, "", both},
		// S-154
		{"invalid_grant", jsonError(400, `{"error":"invalid_grant","error_description":"<script>"}`), 400, "code_exchange_failed", once},
		{"invalid_client", jsonError(401, `{"error":"invalid_client"}`), 502, "code_exchange_failed", once},
		{"unauthorized_client", jsonError(400, `{"error":"unauthorized_client"}`), 502, "code_exchange_failed", once},
		{"200 with an error", jsonError(200, `{"error":"invalid_grant"}`), 400, "code_exchange_failed", once},
		{"204", failing(optest.Token, optest.Fault{Status: 204}), 502, "code_exchange_failed", once},
		{"302", failing(optest.Token, optest.Fault{Redirect: elsewhere.Endpoint(optest.Token)}), 502, "code_exchange_failed", once},
		{
			"307", failing(optest.Token, optest.Fault{Status: 307, Redirect: elsewhere.Endpoint(optest.Token)}), 502, "code_exchange_failed",
			once,
		},
		{
			"308", failing(optest.Token, optest.Fault{Status: 308, Redirect: elsewhere.Endpoint(optest.Token)}), 502, "code_exchange_failed",
			once,
		},
		{
			"HTML", failing(optest.Token, optest.Fault{Body: []byte("<html>"), Header: http.Header{"Content-Type": {"text/html"}}}), 502,
			"code_exchange_failed", once,
		},
		{"a list", jsonError(200, `[]`), 502, "code_exchange_failed", once},
		{"null", jsonError(200, `null`), 502, "code_exchange_failed", once},
		{"members twice", jsonError(200, `{"access_token":"a","access_token":"b"}`), 502, "code_exchange_failed", once},
		{"429", failing(optest.Token, optest.Fault{Status: 429}), 502, "code_exchange_failed", once},
		{"500", failing(optest.Token, optest.Fault{Status: 500}), 502, "code_exchange_failed", once},
		{"503", failing(optest.Token, optest.Fault{Status: 503}), 502, "code_exchange_failed", once},
		{"a closed connection", failing(optest.Token, optest.Fault{Drop: true}), 502, "code_exchange_failed", once},
		{"without an end", failing(optest.Token, optest.Fault{Endless: true, Body: []byte(`{"a":"b"}`)}), 502, "code_exchange_failed", once},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, s, p) })
	}
	if n := p.CodeReuses(); n != 0 {
		t.Errorf("%d codes were sent twice", n)
	}
	if n := elsewhere.Hits(optest.Token); n != 0 {
		t.Errorf("%d codes were sent elsewhere", n)
	}
}

// A provider that does not answer holds nobody for longer than it may.
func TestS154TokenEndpointThatHangs(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]optest.Fault{"hangs": {Hang: true}, "drips": {Drip: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t)
			s := newLoginSite(t, p, "timeout 2s")
			start := time.Now()
			redemption{faulty: failing(optest.Token, fault), status: 502, reason: "code_exchange_failed", asked: hits{token: 1}}.run(t, s, p)
			if took := time.Since(start); took > loginTimeout/2 {
				t.Errorf("it took %s", took)
			}
		})
	}
}

func TestS158Userinfo(t *testing.T) {
	t.Parallel()
	p, elsewhere := optest.New(t), optest.New(t)
	s := newLoginSite(t, p, "userinfo on\nscope openid email")
	both := hits{token: 1, userinfo: 1}
	foreign := optest.NewKey(t, "RS256", "rs-1")
	told := func(name string, value any) func(p *optest.Provider) {
		return func(p *optest.Provider) {
			p.SetUserinfo(func(claims optest.Claims) {
				if claims[name] = value; value == nil {
					delete(claims, name)
				}
			})
		}
	}
	signed := func(sign func(claims optest.Claims) string) func(p *optest.Provider) {
		return func(p *optest.Provider) { p.SetUserinfoJWT(sign) }
	}
	with := func(claims optest.Claims, name string, value any) optest.Claims {
		claims = maps.Clone(claims)
		claims["iss"], claims["aud"] = p.Issuer(), "client"
		if name != "" {
			claims[name] = value
		}
		return claims
	}
	answer := func(body, contentType string) func(p *optest.Provider) {
		return failing(optest.Userinfo, optest.Fault{Body: []byte(body), Header: http.Header{"Content-Type": {contentType}}})
	}
	for _, test := range []redemption{
		{"good", func(*optest.Provider) {}, 0, "", both},
		{"userinfo-invalid-sub", told("sub", "mallory"), 400, "subject_mismatch", both},
		{"sub in capitals", told("sub", "Alice"), 400, "subject_mismatch", both},
		{"sub with a space", told("sub", "alice "), 400, "subject_mismatch", both},
		{"no sub", told("sub", nil), 400, "subject_mismatch", both},
		{"sub as a list", told("sub", []string{"alice"}), 400, "subject_mismatch", both},
		{"a list", answer("[]", "application/json"), 502, "userinfo_failed", both},
		{"null", answer("null", "application/json"), 502, "userinfo_failed", both},
		{"HTML", answer("<html>", "text/html"), 502, "userinfo_failed", both},
		{"a member twice", answer(`{"sub":"alice","sub":"alice"}`, "application/json"), 502, "userinfo_failed", both},
		{"5 MB", answer(`{"sub":"alice","x":"`+strings.Repeat("x", 5<<20)+`"}`, "application/json"), 502, "userinfo_failed", both},
		{"401", failing(optest.Userinfo, optest.Fault{Status: 401}), 502, "userinfo_failed", both},
		{"403", failing(optest.Userinfo, optest.Fault{Status: 403}), 502, "userinfo_failed", both},
		{
			"307", failing(optest.Userinfo, optest.Fault{Status: 307, Redirect: elsewhere.Endpoint(optest.Userinfo)}), 502, "userinfo_failed",
			both,
		},
		{
			"userinfo-signed", signed(func(claims optest.Claims) string { return optest.Sign(p.Key("rs-1"), nil, with(claims, "", nil)) }), 0,
			"", both,
		},
		{
			"signed, without iss and aud", signed(func(claims optest.Claims) string { return optest.Sign(p.Key("rs-1"), nil, claims) }), 0, "",
			both,
		},
		{
			"unsigned", signed(func(claims optest.Claims) string { return optest.Unsigned(nil, with(claims, "", nil)) }), 400,
			"userinfo_failed", both,
		},
		{
			"forged", signed(func(claims optest.Claims) string { return optest.Sign(foreign, nil, with(claims, "", nil)) }), 400,
			"userinfo_failed", both,
		},
		{"signed with another algorithm", signed(func(claims optest.Claims) string {
			return optest.HMAC("HS256", []byte("secret"), nil, with(claims, "", nil))
		}), 400, "userinfo_failed", both},
		{"signed, of another iss", signed(func(claims optest.Claims) string {
			return optest.Sign(p.Key("rs-1"), nil, with(claims, "iss", p.Issuer()+"/"))
		}), 400, "userinfo_failed", both},
		{"signed, for another aud", signed(func(claims optest.Claims) string {
			return optest.Sign(p.Key("rs-1"), nil, with(claims, "aud", "other"))
		}), 400, "userinfo_failed", both},
		{"signed, expired", signed(func(claims optest.Claims) string {
			return optest.Sign(p.Key("rs-1"), nil, with(claims, "exp", 1))
		}), 400, "userinfo_failed", both},
		{"signed, of another sub", signed(func(claims optest.Claims) string {
			return optest.Sign(p.Key("rs-1"), nil, with(claims, "sub", "mallory"))
		}), 400, "subject_mismatch", both},
		{"application/jwt without a JWT", answer("{}", "application/jwt"), 400, "userinfo_failed", both},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, s, p) })
	}
	for _, failure := range []optest.Fault{{Status: 500}, {Drop: true}} {
		t.Run(fmt.Sprint(failure), func(t *testing.T) {
			v := newVisitor(t, s, p)
			request := v.begin("/")
			p.Fail(optest.Userinfo, failure)
			defer heal(p)
			v.wantPage(v.arrive(request, v.answerTo(request)), 502, "userinfo_failed")
			v.wantSession(false)
		})
	}
	if n := elsewhere.Hits(optest.Userinfo); n != 0 {
		t.Errorf("%d access tokens were sent elsewhere", n)
	}
}

// The call is the last of the login, one, and carries the access token in the header alone (C-050, C-051).
func TestS158UserinfoRequest(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	v := newVisitor(t, newLoginSite(t, p, "userinfo on"), p)
	var token string
	p.SetTokenResponse(func(answer map[string]any) { token = answer["access_token"].(string) })
	v.signIn("/")
	sent := p.Requests(optest.Userinfo)
	if len(sent) != 1 || sent[0].Method != http.MethodGet || sent[0].Header.Get("Authorization") != "Bearer "+token ||
		sent[0].URL.RawQuery != "" || len(sent[0].Body) != 0 {
		t.Errorf("userinfo requests %+v", sent)
	}
}

// Userinfo adds, and overrides nothing: neither what the ID token has said nor what tokens are judged by (S-160).
func TestS160UserinfoNeverOverrides(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetUser(optest.Claims{"groups": []string{"users"}, "department": "sales", "email": "alice@example.com"})
	v := newVisitor(t, newLoginSite(t, p, "userinfo on\nscope openid email"), p)
	p.SetIDTokenClaims(func(claims optest.Claims) { delete(claims, "department") })
	p.SetUserinfo(func(claims optest.Claims) {
		maps.Copy(claims, optest.Claims{
			"iss": "https://evil.example", "aud": "other", "exp": 1, "nonce": "x", "azp": "other", "acr": "high", "auth_time": 1, "sid": "x",
			"scope":  "admin",
			"groups": []string{"admins"}, "email": "mallory@example.com", "cnf": map[string]any{"jkt": "x"}, "tid": "x", "amr": []string{"mfa"},
			"_claim_sources": map[string]any{"x": map[string]any{"endpoint": p.URL() + "/internal"}}, "picture": p.URL() + "/picture",
		})
	})
	v.signIn("/")
	got := userinfo(t, v.upstream.last(t).Header)
	if got["iss"] != p.Issuer() || got["aud"] != "client" || got["sub"] != "alice" || fmt.Sprint(got["groups"]) != "[users]" ||
		got["email"] != "alice@example.com" || got["department"] != "sales" {
		t.Errorf("the identity is %v", got)
	}
	for _, name := range []string{"azp", "acr", "auth_time", "cnf", "tid", "amr", "nonce", "at_hash", "_claim_sources"} {
		if got[name] != nil {
			t.Errorf("%s is %v", name, got[name])
		}
	}
	if got["scope"] == "admin" || got["exp"] == json.Number("1") {
		t.Errorf("the identity is %v", got)
	}
	if n := p.Hits(optest.Other); n != 0 { // S-161
		t.Errorf("%d requests to where claims point", n)
	}
}

// auto asks where a claim that the configuration names is not in the ID token, and then only.
func TestSection2UserinfoAuto(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, settings string
		thin           bool
		asked          int
	}{
		{"nothing is missing", "scope openid email\nclaim_header X-Email email", false, 0},
		{"a claim header's is", "scope openid email\nset_userinfo_header off\nclaim_header X-Email email", true, 1},
		{"a rule's is", "scope openid email\nset_userinfo_header off\nrequired_claim email alice@example.com", true, 1},
		{"what a scope gives to X-Userinfo is", "scope openid email", true, 1},
		{"nobody wants it", "scope openid email\nset_userinfo_header off", true, 0},
		{"off", "scope openid email\nclaim_header X-Email email\nuserinfo off", true, 0},
		{"on", "scope openid email\nuserinfo on", false, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t)
			p.SetThinIDTokens(test.thin)
			v := newVisitor(t, newLoginSite(t, p, test.settings), p)
			v.signIn("/")
			if n := p.Hits(optest.Userinfo); n != test.asked {
				t.Errorf("userinfo was asked %d times, want %d", n, test.asked)
			}
			want := strings.Contains(test.settings, "X-Email") && test.name != "off"
			if got := v.upstream.last(t).Header.Get("X-Email"); (got == "alice@example.com") != want {
				t.Errorf("X-Email %q", got)
			}
		})
	}
}
