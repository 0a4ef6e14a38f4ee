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

// refreshFault is an answer to refreshes that single providers give.
func refreshFault(status int, body string) optest.Fault {
	media := "application/json"
	if !strings.HasPrefix(body, "{") {
		media = "text/html; charset=utf-8"
	}
	return optest.Fault{Status: status, Body: []byte(body), Header: http.Header{"Content-Type": {media}}}
}

// How providers say that a session is over: each leads to a clean login after one attempt, and what they quote stays out of the log.
func TestProvidersThatEndSessions(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	for _, test := range []struct {
		name   string
		status int
		body   string
	}{
		{"Keycloak, session max", 400, `{"error":"invalid_grant","error_description":"quoted: Token is not active"}`},
		{"Keycloak, signed out", 400, `{"error":"invalid_grant","error_description":"quoted: Session not active"}`},
		{"Keycloak, reuse", 400, `{"error":"invalid_grant","error_description":"quoted: Maximum allowed refresh token reuse exceeded"}`},
		{"Keycloak, client switched off", 401, `{"error":"invalid_client","error_description":"quoted: Invalid client or Invalid client credentials"}`},
		{"Entra, expired", 400, `{"error":"invalid_grant","error_description":"AADSTS700082: quoted","error_codes":[700082],"suberror":"bad_token"}`},
		{"Entra, second factor", 400, `{"error":"interaction_required","error_description":"AADSTS50076: quoted","error_codes":[50076],"suberror":"basic_action",
			"claims":"{\"access_token\":{\"capolids\":{\"essential\":true,\"values\":[\"quoted\"]}}}"}`},
		{"Entra, secret expired", 401, `{"error":"invalid_client","error_description":"AADSTS7000222: quoted","error_codes":[7000222]}`},
		{"Azure AD B2C", 400, `{"error":"invalid_grant","error_description":"AADB2C90080: quoted: The provided grant has expired."}`},
		{"AD FS", 400, `{"error":"invalid_grant","error_description":"MSIS9615: quoted: The refresh token received in 'refresh_token' parameter has expired."}`},
		{"Google", 400, `{"error":"invalid_grant","error_description":"quoted: Token has been expired or revoked."}`},
		{"Auth0", 403, `{"error":"invalid_grant","error_description":"quoted: Unknown or invalid refresh token."}`},
		{"Auth0, second factor", 403, `{"error":"mfa_required","error_description":"quoted","mfa_token":"quoted"}`},
		{"Okta", 400, `{"error":"invalid_grant","error_description":"quoted: The refresh token is invalid or expired."}`},
		{"Amazon Cognito", 400, `{"error":"invalid_grant","error_description":"quoted: Refresh Token has been revoked"}`},
		{"Amazon Cognito, without a text", 400, `{"error":"invalid_grant"}`},
		{"GitLab", 400, `{"error":"invalid_grant","error_description":"quoted: The provided authorization grant is invalid, expired, revoked."}`},
		{"Authentik", 400, `{"error":"invalid_grant","error_description":"quoted","request_id":"quoted"}`},
		{"Authelia", 400, `{"error":"invalid_grant","error_description":"quoted: The refresh token was already used."}`},
		{"Zitadel", 400, `{"error":"invalid_grant","error_description":"Errors.quoted.RefreshToken.Invalid"}`},
		{"Pocket ID", 400, `{"error":"Refresh token is invalid or expired"}`},
		{"Pocket ID, by its later status", 401, `{"error":"Refresh token is invalid or expired"}`},
		{"Dex", 400, `{"error":"invalid_request","error_description":"quoted: Refresh token is invalid or has already been claimed by another client."}`},
		{"ORY Hydra", 401, `{"error":"token_inactive","error_description":"quoted: Token is inactive because it is malformed, expired or otherwise invalid."}`},
		{"PingFederate", 400, `{"error":"invalid_grant","error_description":"quoted: unknown, invalid, or expired refresh token"}`},
		{"Salesforce", 400, `{"error":"invalid_grant","error_description":"quoted: expired access/refresh token"}`},
		{"Slack", 200, `{"ok":false,"error":"invalid_refresh_token"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer healRenewals(p)
			r := newRenewer(t, p, "")
			r.renew()
			p.FailRefresh(refreshFault(test.status, test.body))
			r.wantEnded(map[string]string{"reason": "refresh_rejected"})
			for _, entry := range r.site.logs.All() {
				if text := fmt.Sprint(entry.Message, entry.ContextMap()); strings.Contains(text, "quoted") || strings.Contains(text, "AADSTS") {
					t.Errorf("the log quotes the provider: %s", text)
				}
			}
		})
	}
}

// How providers say that they have trouble: nobody notices as long as the upstream does not want the token, and nobody is logged out.
func TestProvidersInTrouble(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	for _, test := range []struct {
		name   string
		status int
		body   string
	}{
		{"Keycloak", 500, `{"error":"unknown_error"}`},
		{"Keycloak that starts", 503, ``},
		{"an error code that nobody means", 500, `{"error":"invalid_grant"}`},
		{"a text that nobody means", 502, `{"error":"Refresh token is invalid or expired"}`},
		{"Keycloak, too many requests", 429, `{"error":"slow_down","error_description":"Too many requests"}`},
		{"Entra", 503, `{"error":"temporarily_unavailable","error_description":"AADSTS90033: A transient error has occurred.","error_codes":[90033]}`},
		{"Entra, with another status", 400, `{"error":"temporarily_unavailable","error_description":"AADSTS90033: A transient error has occurred."}`},
		{"Auth0", 429, `{"error":"too_many_requests","error_description":"Global limit has been reached"}`},
		{"Okta", 429, `{"errorCode":"E0000047","errorSummary":"API call exceeded rate limit due to too many requests."}`},
		{"Google", 500, `{"error":"internal_failure"}`},
		{"GitLab that is upgraded", 502, `<html><title>GitLab is not responding</title></html>`},
		{"a gateway before it", 403, `<html><title>Attention Required!</title></html>`},
		{"a gateway that has moved", 404, `<html><title>404 Not Found</title></html>`},
		{"a page with status 200", 200, `<html><title>Maintenance</title></html>`},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer healRenewals(p)
			p.SetUser(optest.Claims{"groups": "a"})
			r := newRenewer(t, p, "claim_header X-Groups groups")
			p.FailRefresh(refreshFault(test.status, test.body))
			r.expire()
			attempts := p.RefreshAttempts()
			for range 5 {
				if response := r.Get(r.url("/data"), "Accept: application/json"); response.Status != http.StatusOK || r.upstream.advance() != 1 {
					t.Fatalf("got %d: %s", response.Status, response.Body)
				}
				r.site.wantHeaders(map[string]string{"X-Groups": "a"})
			}
			if n := p.RefreshAttempts() - attempts; n != 1 {
				t.Errorf("%d attempts at one moment", n)
			}
			lines := r.site.logs.FilterMessage("sessions cannot be renewed at the moment; it is tried again").All()
			if len(lines) != 1 || lines[0].Level != zapcore.WarnLevel || lines[0].ContextMap()["reason"] != "refresh_unavailable" {
				t.Errorf("log lines %v", lines)
			}
			p.HealRefresh()
			p.SetUser(optest.Claims{"groups": "b"})
			r.pass(time.Minute)
			if got := r.renewDue().Header.Get("X-Groups"); got != "b" {
				t.Errorf("groups %q after it", got)
			}
		})
	}
}

// Pocket ID gives an empty ID token with a renewal, or none, and once gave no refresh token at all. With userinfo
// on the groups are up to date all the same.
func TestPocketIDRefresh(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	const settings = "scope openid profile email groups\nusername_claim preferred_username\nrequired_claim groups staff\nclaim_header X-Groups groups\n"
	user := func(groups ...string) {
		p.SetUser(optest.Claims{"preferred_username": "ada", "name": "Ada", "email": "ada@example.com", "groups": groups})
	}
	for name, answer := range map[string]func(*optest.Provider){
		"an empty ID token": renewedAnswer("id_token", ""),
		"null":              renewedAnswer("id_token", jsonNull),
		"none":              func(p *optest.Provider) { p.SetRefreshOmitIDToken(true) }, // C-099
	} {
		t.Run(name, func(t *testing.T) {
			defer healRenewals(p)
			user("staff")
			r := newRenewer(t, p, settings+"userinfo on")
			alone := newRenewer(t, p, settings)
			answer(p)
			for _, groups := range [][]string{{"staff"}, {"staff", "wiki"}} {
				user(groups...)
				asked := p.Hits(optest.Userinfo)
				arrived := r.renew()
				if got := arrived.placeholder(t, "http.auth.user.id"); got != "ada" || arrived.Header.Get("X-Groups") != strings.Join(groups, ",") {
					t.Errorf("the user is %v, of %q, want ada of %q", got, arrived.Header.Get("X-Groups"), groups)
				}
				if n := p.Hits(optest.Userinfo) - asked; n != 1 {
					t.Errorf("userinfo was asked %d times", n)
				}
			}
			user("wiki")
			r.wantForbidden("claim_required")
			alone.later(pastAccess)
			if got := alone.renewDue().Header.Get("X-Groups"); got != "staff" { // as the login has it
				t.Errorf("groups %q by default", got)
			}
			if n := r.site.logs.FilterMessage(unusedIDToken).Len(); n != 0 {
				t.Errorf("%d lines about what is fine", n)
			}
		})
	}
	t.Run("no refresh token", func(t *testing.T) {
		user("staff")
		p.SetRefreshTokens(false)
		v := newVisitor(t, newLoginSite(t, p, settings), p)
		v.signIn("/")
		before := hitsOf(p)
		for range 3 {
			v.later(7 * time.Hour)
			v.wantSession(true)
		}
		wantHits(t, p, before, hits{})
		v.later(7 * time.Hour)
		v.wantSession(false)
	})
}

// Amazon Cognito keeps its refresh token, states no scope, and may do without an ID token.
func TestCognitoRefresh(t *testing.T) {
	t.Parallel()
	p := optest.New(t, optest.WithIssuerPath("/eu-west-1_Ab12Cd34"))
	p.SetOmitRefreshToken(true)
	p.SetIDTokenClaims(func(claims optest.Claims) { claims["token_use"] = "id" })
	p.SetTokenResponse(func(answer map[string]any) { delete(answer, "scope") })
	user := func(groups ...string) {
		p.SetUser(optest.Claims{"sub": "aaaaaaaa", "cognito:username": "ada", "cognito:groups": groups})
	}
	user("staff")
	p.SetRefreshTokens(true)
	s := newLoginSite(t, p, withinProcess+"\nscope openid aws.cognito.signin.user.admin\nrequired_scopes aws.cognito.signin.user.admin\n"+
		"username_claim cognito:username\nrequired_claim cognito:groups staff\nclaim_header X-Groups cognito:groups")
	r := &renewer{visitor: newVisitor(t, s, p)}
	r.signIn("/")
	user("staff", "new")
	first := ""
	for i := range 4 {
		if got := r.renew().Header.Get("X-Groups"); got != "staff,new" {
			t.Errorf("groups %q", got)
		}
		presented := lastTokenRequest(t, p).Form.Get("refresh_token")
		if i == 0 {
			first = presented
		}
		if presented == "" || presented != first {
			t.Error("another refresh token was presented")
		}
	}
	user("new")
	r.wantForbidden("claim_required")
}

// GitLab's ID tokens live for two minutes, its access tokens for two hours, and each refresh token for one use.
func TestGitLabRefresh(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetAccessLifetime(2 * time.Hour)
	p.SetIDTokenClaims(func(claims optest.Claims) {
		delete(claims, "groups")
		claims["exp"] = claims["iat"].(int64) + 120
	})
	user := func(groups ...string) {
		p.SetUser(optest.Claims{"sub": "1234567", "groups_direct": groups[:1], "groups": groups})
	}
	user("acme", "acme/backend")
	r := newRenewer(t, p, "required_claim groups_direct acme\nclaim_header X-Groups groups\nclaim_header X-Direct groups_direct")
	r.pass(100 * time.Minute)
	r.again() // the ID token is no clock
	user("acme", "acme/frontend")
	for range 3 {
		r.pass(125 * time.Minute)
		header := r.renewDue().Header
		if header.Get("X-Groups") != "acme,acme/frontend" || header.Get("X-Direct") != "acme" {
			t.Errorf("groups %q, direct ones %q", header.Get("X-Groups"), header.Get("X-Direct"))
		}
	}
	if p.RefreshGrants() != 3 || p.RefreshReuses() != 0 {
		t.Errorf("%d grants, %d reuses", p.RefreshGrants(), p.RefreshReuses())
	}
	user("other")
	r.pass(125 * time.Minute)
	r.wantReason(r.Get(r.url("/"), "Accept: application/json"), http.StatusForbidden, "claim_required")
}

// Google gives a refresh token once and never another, and asks nobody again.
func TestGoogleRefresh(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetOpaqueAccessTokens(true)
	p.SetAccessLifetime(time.Hour)
	p.SetOmitRefreshToken(true)
	p.SetUser(optest.Claims{"sub": "110248495921238986420", "email": "ada@example.com", "hd": "example.com"})
	p.SetRefreshIDTokenClaims(func(claims optest.Claims) { claims["azp"] = "client" })
	p.SetRefreshResponse(func(answer map[string]any) {
		answer["scope"], answer["expires_in"] = "https://www.googleapis.com/auth/userinfo.email openid", 3599
	})
	r := newRenewer(t, p, "scope openid email\nauthorization_params access_type offline\nauthorization_params prompt consent\n"+
		"required_claim hd example.com\nset_access_token_header")
	for range 3 {
		r.pass(61 * time.Minute)
		if got := r.renewDue().Header.Get("X-Access-Token"); got != r.tokens["access_token"] {
			t.Error("not the new access token")
		}
		want := map[string][]string{"grant_type": {"refresh_token"}, "refresh_token": lastTokenRequest(t, p).Form["refresh_token"]}
		if got := lastTokenRequest(t, p).Form; !maps.EqualFunc(got, want, func(a, b []string) bool { return fmt.Sprint(a) == fmt.Sprint(b) }) {
			t.Errorf("the request has %v", sortedKeys(jsonMembers(t, jsonOf(t, got))))
		}
	}
	p.SetUser(optest.Claims{"sub": "110248495921238986420", "email": "ada@gmail.example"}) // has left the domain
	r.pass(61 * time.Minute)
	r.wantReason(r.Get(r.url("/"), "Accept: application/json"), http.StatusForbidden, "claim_required")
}
