package e2e

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestRevokeTokens compares what becomes of the tokens of a session that has ended here alone, with and without their revocation.
func TestRevokeTokens(t *testing.T) {
	for _, test := range []struct {
		name    string
		options []string
		revoked bool
	}{
		{"off", nil, false},
		{"on", []string{"revoke_tokens_on_logout"}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newKeycloakAccount(t, around.get(t).registration())
			v := newVisit(t, p, append(test.options, "set_access_token_header on", "set_refresh_token_header on")...)
			tab := v.signedIn(t, p.user, "/app")
			header := reached(t, tab).Header
			access, refresh := header.Get("X-Access-Token"), header.Get("X-Refresh-Token")
			v.tokens = append(v.tokens, access, refresh)
			if !p.tells(t, access) {
				t.Fatal("the access token is not good before the logout")
			}

			target := v.logsOutByScript(t, tab)
			if test.revoked { // within the time that the logout waits for it, or later
				eventually(t, "the end of the access token", 10*time.Second, func() bool { return !p.tells(t, access) })
			} else if !p.tells(t, access) {
				t.Error("the access token is not good any more")
			}
			status, code := p.redeem(t, refresh)
			if test.revoked && (status != http.StatusBadRequest || code != "invalid_grant") {
				t.Errorf("the revoked refresh token gets %d, %s", status, code)
			}
			if !test.revoked && status != http.StatusOK {
				t.Errorf("the refresh token gets %d, %s", status, code)
			}

			// With or without tokens, the rest of the logout goes on.
			follow(tab, target)
			v.leaves(t, tab, true)
			v.expectRest(t, tab)
			if log := v.gateway.log(t); strings.Contains(log, "was not revoked") {
				t.Error("the log tells of a token that was not revoked")
			}
		})
	}
}

// tells asks Keycloak who somebody is, by an access token, and returns whether that is answered.
func (p *loginProvider) tells(t *testing.T, access string) bool {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.issuer+"/protocol/openid-connect/userinfo", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+access)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusUnauthorized {
		t.Fatalf("userinfo gets %s", resp.Status)
	}
	return resp.StatusCode == http.StatusOK
}

// redeem sends a refresh token to Keycloak, as the client of the site, and returns the status and the error code.
func (p *loginProvider) redeem(t *testing.T, refresh string) (status int, code string) {
	t.Helper()
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.issuer+"/protocol/openid-connect/token",
		strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(p.client, secret)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Error string `json:"error"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, answer.Error
}
