package main

import (
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"net/url"
	"testing"
)

// TestLogins goes through the code flow as a gateway does.
func TestLogins(t *testing.T) {
	t.Parallel()
	p, err := startProvider()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	const verifier, callback = "a verifier that only the gateway knows", "http://127.0.0.1:1/oauth2/callback"
	subjects := map[string]bool{}
	for _, client := range []string{loginClient, groupsClient} {
		code := p.codeFor(t, client, callback, verifier)
		if status, _ := p.exchange(t, code, callback, "another verifier"); status != http.StatusBadRequest {
			t.Errorf("%s: a wrong verifier got %d", client, status)
		}
		if status, _ := p.exchange(t, code, callback, verifier); status != http.StatusBadRequest {
			t.Errorf("%s: a spent code got %d", client, status)
		}
		status, tokens := p.exchange(t, p.codeFor(t, client, callback, verifier), callback, verifier)
		if status != http.StatusOK {
			t.Fatalf("%s: a code got %d", client, status)
		}
		digest := sha256.Sum256([]byte(tokens.AccessToken))
		claims := claimsOf(t, tokens.IDToken)
		if claims["aud"] != client || claims["nonce"] != "nonce" || claims["at_hash"] != encode(digest[:16]) {
			t.Errorf("%s: the ID token says %v", client, claims)
		}
		groups, _ := claims["groups"].([]any)
		if wanted := map[string]int{groupsClient: manyGroups}[client]; len(groups) != wanted {
			t.Errorf("%s: %d groups, want %d", client, len(groups), wanted)
		}
		if scope := claimsOf(t, tokens.AccessToken)["scope"]; scope != "openid profile email" {
			t.Errorf("%s: the access token has the scope %v", client, scope)
		}
		subject, _ := claims["sub"].(string)
		if subject == "" || subjects[subject] {
			t.Errorf("%s: the login is of %q, somebody else's", client, subject)
		}
		subjects[subject] = true
	}
}

// codeFor makes an authorization request and returns the code of its answer.
func (p *provider) codeFor(t *testing.T, client, callback, verifier string) string {
	t.Helper()
	challenge := sha256.Sum256([]byte(verifier))
	query := url.Values{
		"response_type": {"code"}, "client_id": {client}, "redirect_uri": {callback}, "scope": {"openid"}, "state": {"state"},
		"nonce": {"nonce"}, "code_challenge": {encode(challenge[:])}, "code_challenge_method": {"S256"},
	}
	response, err := http.DefaultTransport.RoundTrip(newRequest(t, p.issuer+"/authorize?"+query.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	location, err := response.Location()
	if err != nil {
		t.Fatal(err)
	}
	if location.Query().Get("state") != "state" || location.Host != "127.0.0.1:1" {
		t.Errorf("the browser is sent to %s", location)
	}
	return location.Query().Get("code")
}

func newRequest(t *testing.T, target string) *http.Request {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	return request
}

// tokenResponse is what a gateway reads of an answer to a code or a refresh token.
type tokenResponse struct {
	AccessToken  string `json:"access_token"`
	IDToken      string `json:"id_token"`
	RefreshToken string `json:"refresh_token"`
	ExpiresIn    int    `json:"expires_in"`
}

func (p *provider) exchange(t *testing.T, code, callback, verifier string) (status int, tokens tokenResponse) {
	t.Helper()
	response, err := http.PostForm(p.issuer+"/token", url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {callback}, "code_verifier": {verifier},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&tokens); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, tokens
}

func claimsOf(t *testing.T, token string) map[string]any {
	t.Helper()
	input, _ := cutLast(token)
	_, payload := cutLast(input)
	var claims map[string]any
	if err := json.Unmarshal(decode(t, payload), &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}
