package optest

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"hash"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// verifier and challenge are the example of RFC 7636 appendix B.
const (
	verifier  = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
)

// redemption is a good token request for a code, changed by pairs; "" leaves out.
func redemption(code string, pairs ...string) url.Values {
	values := url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {callback},
		"client_id": {"client"}, "client_secret": {"secret"},
	}
	for i := 0; i < len(pairs); i += 2 {
		if values.Set(pairs[i], pairs[i+1]); pairs[i+1] == "" {
			values.Del(pairs[i])
		}
	}
	return values
}

func redeem(t *testing.T, p *Provider, form url.Values) (status int, answer map[string]any) {
	t.Helper()
	r := newTestBrowser(t, p).Post(p.Endpoint(Token), form)
	if err := json.Unmarshal([]byte(r.Body), &answer); err != nil {
		t.Fatalf("%v: %q", err, r.Body)
	}
	return r.Status, answer
}

// signIn returns the token answer to an authorization request that goes well.
func signIn(t *testing.T, p *Provider, pairs ...string) map[string]any {
	t.Helper()
	status, answer := redeem(t, p, redemption(redirected(t, p, authorization(pairs...)).Get("code")))
	if status != http.StatusOK {
		t.Fatalf("status %d: %v", status, answer)
	}
	return answer
}

func TestRedeem(t *testing.T) {
	t.Parallel()
	pkce := []string{"code_challenge", challenge, "code_challenge_method", "S256"}
	tests := map[string]struct {
		request []string // pairs for the authorization
		form    []string // pairs for the redemption
		code    string   // instead of the real one
		age     time.Duration
		twice   string // a parameter to repeat
		status  int
		error   string
	}{
		"good":                  {status: 200},
		"PKCE":                  {request: pkce, form: []string{"code_verifier", verifier}, status: 200},
		"in time":               {age: codeLifetime - 5*time.Second, status: 200},
		"too late":              {age: codeLifetime, status: 400, error: "invalid_grant"},
		"other redirect_uri":    {form: []string{"redirect_uri", "https://app.example.com/callback"}, status: 400, error: "invalid_grant"},
		"no redirect_uri":       {form: []string{"redirect_uri", ""}, status: 400, error: "invalid_grant"},
		"no verifier":           {request: pkce, status: 400, error: "invalid_grant"},
		"wrong verifier":        {request: pkce, form: []string{"code_verifier", strings.ToLower(verifier)}, status: 400, error: "invalid_grant"},
		"challenge as verifier": {request: pkce, form: []string{"code_verifier", challenge}, status: 400, error: "invalid_grant"},
		"verifier alone":        {form: []string{"code_verifier", verifier}, status: 400, error: "invalid_grant"},
		"wrong secret":          {form: []string{"client_secret", "guess"}, status: 401, error: "invalid_client"},
		"no authentication":     {form: []string{"client_secret", ""}, status: 401, error: "invalid_client"},
		"unknown code":          {code: "none-of-the-codes-issued", status: 400, error: "invalid_grant"},
		"repeated":              {twice: "redirect_uri", status: 400, error: "invalid_request"},
		"no code":               {form: []string{"code", ""}, status: 400, error: "invalid_request"},
		"other grant":           {form: []string{"grant_type", "password"}, status: 400, error: "unsupported_grant_type"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := New(t)
			code := redirected(t, p, authorization(test.request...)).Get("code")
			if test.code != "" {
				code = test.code
			}
			form := redemption(code, test.form...)
			if test.twice != "" {
				form.Add(test.twice, form.Get(test.twice))
			}
			p.Advance(test.age)
			status, answer := redeem(t, p, form)
			if text, _ := answer["error"].(string); status != test.status || text != test.error {
				t.Fatalf("%d %v, want %d %s", status, answer, test.status, test.error)
			}
			if (answer["access_token"] != nil) != (status == http.StatusOK) {
				t.Errorf("answer = %v", answer)
			}
			requests := p.TokenRequests()
			if len(requests) != 1 || requests[0].Encode() != form.Encode() || p.CodeReuses() != 0 {
				t.Errorf("requests = %v, %d codes used again", requests, p.CodeReuses())
			}
			if presented := form.Get("code_verifier"); presented != "" && !slices.Contains(p.Issued(), presented) {
				t.Error("the verifier is not a secret")
			}
		})
	}
}

// A code is good once: a client that tries again, for whatever reason, is found out.
func TestCodeReuse(t *testing.T) {
	t.Parallel()
	p := New(t)
	good := p.NewCode(authorization())
	if status, _ := redeem(t, p, redemption(good)); status != http.StatusOK || p.CodeReuses() != 0 {
		t.Fatalf("status %d, %d used again", status, p.CodeReuses())
	}
	status, answer := redeem(t, p, redemption(good))
	if status != http.StatusBadRequest || answer["error"] != "invalid_grant" || p.CodeReuses() != 1 {
		t.Errorf("again: %d %v, %d used again", status, answer, p.CodeReuses())
	}
	failed := p.NewCode(authorization())
	for i, form := range []url.Values{redemption(failed, "redirect_uri", "https://other.test"), redemption(failed)} {
		if status, _ := redeem(t, p, form); status != http.StatusBadRequest || p.CodeReuses() != 1+i {
			t.Errorf("request %d after a wrong one: status %d, %d used again", i, status, p.CodeReuses())
		}
	}
	lost := p.NewCode(authorization())
	p.Fail(Token, Fault{Status: http.StatusBadGateway, Body: []byte("{}"), Times: 1})
	for i, want := range []int{http.StatusBadGateway, http.StatusBadRequest} {
		if status, _ := redeem(t, p, redemption(lost)); status != want || p.CodeReuses() != 2+i {
			t.Errorf("request %d after a lost answer: status %d, %d used again", i, status, p.CodeReuses())
		}
	}
	foreign := p.NewCode(authorization("client_id", "other"))
	if status, _ := redeem(t, p, redemption(foreign)); status != http.StatusBadRequest || p.CodeReuses() != 3 {
		t.Errorf("code of another client: status %d, %d used again", status, p.CodeReuses())
	}
}

func TestPublicClient(t *testing.T) {
	t.Parallel()
	p := New(t)
	p.SetPublicClient("spa")
	form := func(pairs ...string) url.Values {
		code := p.NewCode(authorization("client_id", "spa"))
		return redemption(code, append([]string{"client_id", "spa", "client_secret", ""}, pairs...)...)
	}
	if status, answer := redeem(t, p, form()); status != http.StatusOK {
		t.Fatalf("%d %v", status, answer)
	}
	if methods := p.Metadata()["token_endpoint_auth_methods_supported"]; !slices.Equal(methods.([]string), []string{"none"}) {
		t.Errorf("methods = %v", methods)
	}
	if status, _ := redeem(t, p, form("client_id", "other")); status != http.StatusUnauthorized {
		t.Errorf("another client: status %d", status)
	}
	if status, _ := redeem(t, p, form("client_secret", "secret")); status != http.StatusUnauthorized {
		t.Errorf("with a secret: status %d", status)
	}
	status, answer := redeem(t, p, url.Values{"grant_type": {"client_credentials"}, "client_id": {"spa"}})
	if status != http.StatusBadRequest || answer["error"] != "unauthorized_client" {
		t.Errorf("client credentials: %d %v", status, answer)
	}
	question := url.Values{"token": {p.OpaqueToken(nil)}, "client_id": {"spa"}}
	if r := NewBrowser(t).Post(p.Endpoint(Introspection), question); r.Status != http.StatusUnauthorized {
		t.Errorf("introspection: status %d", r.Status)
	}
	p.SetIntrospectionClient("spa", "")
	if status, _ := redeem(t, p, form()); status != http.StatusUnauthorized {
		t.Errorf("no longer public: status %d", status)
	}
}

func TestTokenAnswer(t *testing.T) {
	t.Parallel()
	p := New(t)
	before := time.Now().Unix()
	answer := signIn(t, p, "scope", "openid email", "max_age", "0", "acr_values", "silver gold")
	if answer["token_type"] != "Bearer" || answer["expires_in"] != 300.0 || answer["scope"] != "openid email" || len(answer) != 5 {
		t.Errorf("answer = %v", answer)
	}
	access := answer["access_token"].(string)
	_, claims := open(t, access, p.Key("rs-1"))
	if claims["sub"] != "alice" || claims["scope"] != "openid email" || claims["client_id"] != "client" || claims["iss"] != p.Issuer() {
		t.Errorf("access token = %v", claims)
	}
	header, claims := open(t, answer["id_token"].(string), p.Key("rs-1"))
	sum := sha256.Sum256([]byte(access))
	want := map[string]any{
		"iss": p.Issuer(), "sub": "alice", "aud": "client", "nonce": "the-nonce-of-the-request", "acr": "silver",
		"at_hash": encode(sum[:16]), "email": "alice@example.com",
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if claims[name] != want[name] {
			t.Errorf("%s = %v, want %v", name, claims[name], want[name])
		}
	}
	issued := claims["iat"].(float64)
	if header["kid"] != "rs-1" || header["typ"] != "JWT" || len(claims) != len(want)+4 || claims["sid"] == "" ||
		claims["exp"] != issued+300 || int64(issued) < before || int64(claims["auth_time"].(float64)) < before {
		t.Errorf("ID token = %v %v", header, claims)
	}
	_, plain := open(t, signIn(t, p, "nonce", "")["id_token"].(string), p.Key("rs-1"))
	for _, name := range []string{"nonce", "auth_time", "acr"} {
		if _, ok := plain[name]; ok {
			t.Errorf("%s without being asked for: %v", name, plain)
		}
	}
	if plain["sid"] == claims["sid"] {
		t.Error("two logins are one session")
	}
	for _, name := range []string{"access_token", "id_token"} {
		if !slices.Contains(p.Issued(), answer[name].(string)) {
			t.Errorf("%s is not a secret", name)
		}
	}
}

func TestHalfHash(t *testing.T) {
	t.Parallel()
	for alg, digest := range map[string]func() hash.Hash{
		"RS256": sha256.New, "ES384": sha512.New384, "PS512": sha512.New, "EdDSA": sha512.New,
	} {
		p := New(t)
		key := NewKey(t, alg, "own")
		p.AddKey(key)
		p.SetSigningKey(key)
		answer := signIn(t, p)
		h := digest()
		h.Write([]byte(answer["access_token"].(string)))
		if _, claims := open(t, answer["id_token"].(string), key); claims["at_hash"] != encode(h.Sum(nil)[:h.Size()/2]) {
			t.Errorf("%s: at_hash = %v", alg, claims["at_hash"])
		}
	}
}

func TestTokenSettings(t *testing.T) {
	t.Parallel()
	p := New(t)
	if answer := signIn(t, p, "scope", "openid offline_access"); len(answer["refresh_token"].(string)) < shortestSecret {
		t.Errorf("refresh token = %v", answer["refresh_token"])
	}
	p.SetRefreshTokens(true)
	p.SetOpaqueAccessTokens(true)
	answer := signIn(t, p)
	if refresh, _ := answer["refresh_token"].(string); !slices.Contains(p.Issued(), refresh) {
		t.Errorf("refresh token = %v", answer["refresh_token"])
	}
	access := answer["access_token"].(string)
	if strings.Contains(access, ".") || !slices.Contains(p.Issued(), access) {
		t.Errorf("access token = %s", access)
	}
	question := url.Values{"token": {access}, "client_id": {"client"}, "client_secret": {"secret"}}
	r := NewBrowser(t).Post(p.Endpoint(Introspection), question)
	var known Claims
	err := json.Unmarshal([]byte(r.Body), &known)
	if err != nil || known["active"] != true || known["sub"] != "alice" || known["scope"] != "openid profile email" {
		t.Errorf("introspection = %s, %v", r.Body, err)
	}
}

// Each hook spoils what it is for and leaves the rest as it was.
func TestTokenHooks(t *testing.T) {
	t.Parallel()
	p := New(t)
	foreign := NewKey(t, "RS256", "rs-1")
	tests := map[string]struct {
		set, unset func()
		spoiled    func(answer map[string]any) bool
	}{
		"claims": {
			func() { p.SetIDTokenClaims(func(claims Claims) { claims["aud"] = "other"; delete(claims, "nonce") }) },
			func() { p.SetIDTokenClaims(nil) },
			func(answer map[string]any) bool {
				_, claims := open(t, answer["id_token"].(string), p.Key("rs-1"))
				return claims["aud"] == "other" && claims["nonce"] == nil
			},
		},
		"header": {
			func() { p.SetIDTokenHeader(Claims{"alg": "none", "kid": nil}) },
			func() { p.SetIDTokenHeader(nil) },
			func(answer map[string]any) bool {
				header, _ := open(t, answer["id_token"].(string), p.Key("rs-1"))
				return header["alg"] == "none" && header["kid"] == nil
			},
		},
		"signer": {
			func() { p.SetIDTokenSigner(func(claims Claims) string { return Sign(foreign, nil, claims) }) },
			func() { p.SetIDTokenSigner(nil) },
			func(answer map[string]any) bool {
				token := answer["id_token"].(string)
				if input, signature := split(t, token); verify("RS256", p.Key("rs-1").Public(), input, signature) {
					return false
				}
				_, claims := open(t, token, foreign)
				return claims["nonce"] == "the-nonce-of-the-request"
			},
		},
		"answer": {
			func() {
				p.SetTokenResponse(func(answer map[string]any) {
					answer["access_token"] = "an-access-token-of-the-hook"
					delete(answer, "expires_in")
				})
			},
			func() { p.SetTokenResponse(nil) },
			func(answer map[string]any) bool {
				_, ok := answer["expires_in"]
				return !ok && answer["access_token"] == "an-access-token-of-the-hook" && slices.Contains(p.Issued(), "an-access-token-of-the-hook")
			},
		},
	}
	good := func(answer map[string]any) bool {
		header, claims := open(t, answer["id_token"].(string), p.Key("rs-1"))
		return header["alg"] == "RS256" && claims["aud"] == "client" && claims["nonce"] == "the-nonce-of-the-request" &&
			answer["expires_in"] == 300.0
	}
	for name, test := range tests {
		if answer := signIn(t, p); !good(answer) || test.spoiled(answer) {
			t.Errorf("%s: spoiled before: %v", name, answer)
		}
		test.set()
		if answer := signIn(t, p); !test.spoiled(answer) {
			t.Errorf("%s: not spoiled: %v", name, answer)
		}
		test.unset()
	}
	if answer := signIn(t, p); !good(answer) {
		t.Errorf("spoiled after: %v", answer)
	}
}

func TestAdvance(t *testing.T) {
	t.Parallel()
	p := New(t)
	p.Advance(time.Hour)
	p.Advance(-2 * time.Hour)
	_, claims := open(t, signIn(t, p, "max_age", "1")["id_token"].(string), p.Key("rs-1"))
	for _, name := range []string{"iat", "exp", "auth_time"} {
		if at := time.Unix(int64(claims[name].(float64)), 0); time.Until(at) > -50*time.Minute {
			t.Errorf("%s is %s", name, at)
		}
	}
}
