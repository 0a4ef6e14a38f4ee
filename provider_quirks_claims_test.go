package openidconnect

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Auth0: an issuer that ends in a slash, an audience without which access tokens are opaque, and claims that are URLs.
func TestAuth0(t *testing.T) {
	t.Parallel()
	p := optest.New(t, optest.WithIssuerPath("/"))
	const roles, audience = "https://example.com/roles", "https://api.example.com/"
	p.SetUser(optest.Claims{"sub": "auth0|5f7c8ec7c33c6c004bbafe82", roles: []string{"admin", "editor"}, "https://example.com/plan": "team"})
	settings := `authorization_params audience ` + audience + `
		required_claim ` + roles + ` admin
		claim_header X-Roles ` + roles + `
		claim_placeholder roles ` + roles
	s := newLoginSite(t, p, settings)
	newVisitor(t, s, p).signIn("/")
	if got := lastRequest(t, p)["audience"]; len(got) != 1 || got[0] != audience {
		t.Errorf("audience %q", got)
	}
	s.wantHeaders(map[string]string{"X-Roles": "admin,editor"})
	for name, want := range map[string]string{
		"http.auth.user.roles": "admin,editor", "http.auth.user." + roles: "admin,editor", "http.auth.user.https://example.com/plan": "team",
		"http.auth.user.id": "auth0|5f7c8ec7c33c6c004bbafe82", "http.openid_connect.issuer": p.URL() + "/",
	} {
		if got := fmt.Sprint(s.last(t).placeholder(t, name)); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}

	t.Run("another role", func(t *testing.T) {
		p.SetUser(optest.Claims{"sub": "auth0|2", roles: []string{"editor"}})
		v := newVisitor(t, s, p)
		v.wantPage(v.Navigate(v.url("/")), http.StatusForbidden, "claim_required")
	})
	t.Run("the issuer without its slash", func(t *testing.T) {
		s := newSite(t, strings.Replace(loginSettingsAt(p, settings), "issuer "+p.Issuer(), "issuer "+strings.TrimSuffix(p.Issuer(), "/"), 1))
		v := newVisitor(t, s, p)
		v.wantPage(v.open("/"), http.StatusServiceUnavailable, "discovery_issuer_mismatch")
		s.logged(zapcore.WarnLevel, "provider is not available; what is known of it stays in use", map[string]string{
			"error": "they differ only in the slash at the end", "hint": "exactly as the provider's metadata states it",
		})
	})
}

// Okta's own authorization server tells the groups by userinfo alone.
func TestOkta(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetThinIDTokens(true)
	groups := func(names ...string) {
		p.SetUser(optest.Claims{"sub": "00uid4BxXw6I6TV4m0g3", "name": "Ada", "email": "ada@example.com", "groups": names})
	}
	s := newLoginSite(t, p, "scope openid profile email groups\nset_userinfo_header off\nrequired_claim groups staff\nclaim_header X-Groups groups")
	groups("Everyone", "staff")
	v := newVisitor(t, s, p)
	v.signIn("/")
	s.wantHeaders(map[string]string{"X-Groups": "Everyone,staff"})
	v.wantSession(true)
	wantHits(t, p, hits{}, hits{authorize: 1, token: 1, userinfo: 1}) // and not with each request

	t.Run("without the group", func(t *testing.T) {
		groups("Everyone")
		v := newVisitor(t, s, p)
		v.wantPage(v.Navigate(v.url("/")), http.StatusForbidden, "claim_required")
	})
	t.Run("userinfo fails, so nobody gets in without being looked at", func(t *testing.T) {
		groups("Everyone", "staff")
		p.Fail(optest.Userinfo, optest.Fault{Status: http.StatusInternalServerError})
		defer p.Heal(optest.Userinfo)
		v := newVisitor(t, s, p)
		v.wantPage(v.Navigate(v.url("/")), http.StatusBadGateway, "userinfo_failed")
		s.logged(zapcore.WarnLevel, "request refused", map[string]string{"reason": "userinfo_failed", "hint": "userinfo_endpoint"})
	})
}

// Amazon Cognito has colons in the names of claims.
func TestCognito(t *testing.T) {
	t.Parallel()
	p := optest.New(t, optest.WithIssuerPath("/eu-west-1_Ab12Cd34"))
	p.SetIDTokenClaims(func(claims optest.Claims) { claims["token_use"] = "id" })
	p.SetTokenResponse(func(answer map[string]any) { delete(answer, "scope") })
	p.SetUser(optest.Claims{"sub": "aaaaaaaa", "cognito:username": "ada", "cognito:groups": []string{"eu-west-1_Ab12Cd34_Google", "staff"}})
	s := newLoginSite(t, p, "username_claim cognito:username\nrequired_claim cognito:groups staff\nclaim_header X-Groups cognito:groups")
	newVisitor(t, s, p).signIn("/")
	s.wantHeaders(map[string]string{"X-Groups": "eu-west-1_Ab12Cd34_Google,staff"})
	for name, want := range map[string]string{"id": "ada", "cognito:username": "ada", "cognito:groups": "eu-west-1_Ab12Cd34_Google,staff"} {
		if got := fmt.Sprint(s.last(t).placeholder(t, "http.auth.user."+name)); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	wantHits(t, p, hits{}, hits{authorize: 1, token: 1})

	p.SetUser(optest.Claims{"sub": "bbbbbbbb", "cognito:username": "bob"})
	v := newVisitor(t, s, p)
	v.wantPage(v.Navigate(v.url("/")), http.StatusForbidden, "claim_required")
}

// GitLab's ID tokens live for two minutes, and tell of direct groups alone.
func TestGitLab(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	const lifetime = 120 * time.Second
	p.SetIDTokenClaims(func(claims optest.Claims) {
		delete(claims, "groups")
		issued := time.Unix(claims["iat"].(int64), 0)
		claims["exp"], claims["auth_time"] = issued.Add(lifetime).Unix(), issued.Unix()
	})
	p.SetUser(optest.Claims{"sub": "1234567", "groups_direct": []string{"acme"}, "groups": []string{"acme", "acme/backend"}})

	s := newLoginSite(t, p, "required_claim groups_direct acme\nclaim_header X-Groups groups_direct")
	v := newVisitor(t, s, p)
	v.signIn("/")
	wantHits(t, p, hits{}, hits{authorize: 1, token: 1})
	for range 3 {
		v.later(3 * time.Hour)
		v.wantSession(true)
	}
	v.later(24 * time.Hour)
	v.wantSession(false)

	t.Run("all groups, by userinfo", func(t *testing.T) {
		before := hitsOf(p)
		s := newLoginSite(t, p, "required_claim groups acme/backend\nclaim_header X-Groups groups\nclaim_header X-Direct groups_direct")
		v := newVisitor(t, s, p)
		v.signIn("/")
		s.wantHeaders(map[string]string{"X-Groups": "acme,acme/backend", "X-Direct": "acme"})
		wantHits(t, p, before, hits{authorize: 1, token: 1, userinfo: 1})
		v.later(3 * time.Hour)
		v.wantSession(true)
	})
	t.Run("one that has expired before it arrives", func(t *testing.T) {
		v := newVisitor(t, newLoginSite(t, p, ""), p)
		v.later(lifetime + time.Minute + time.Second)
		v.wantPage(v.Navigate(v.url("/")), http.StatusBadRequest, "expired")
	})
}

// Zitadel writes roles as an object: its members are the roles, what they hold says where they were granted.
func TestZitadel(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	const claim = "urn:zitadel:iam:org:project:roles"
	roles := func(names ...string) {
		granted := make(map[string]any)
		for _, name := range names {
			granted[name] = map[string]any{"326102453042806786": "acme.zitadel.example"}
		}
		p.SetUser(optest.Claims{"sub": "326102453042872322", claim: granted})
	}
	s := newLoginSite(t, p, "required_claim "+claim+" admin editor\ndenied_claim "+claim+" suspended\nclaim_placeholder roles "+claim)
	for _, test := range []struct {
		roles  []string
		reason string
	}{
		{[]string{"admin"}, ""},
		{[]string{"viewer", "editor"}, ""},
		{[]string{"viewer"}, "claim_required"},
		{[]string{"326102453042806786"}, "claim_required"},
		{nil, "claim_required"},
		{[]string{"admin", "suspended"}, "claim_denied"},
	} {
		t.Run(strings.Join(test.roles, " "), func(t *testing.T) {
			roles(test.roles...)
			v := newVisitor(t, s, p)
			if test.reason == "" {
				v.signIn("/")
				return
			}
			v.wantPage(v.Navigate(v.url("/")), http.StatusForbidden, test.reason)
		})
	}
}

// Matchers see the roles of Zitadel as a map, in which they can look for a name.
func TestZitadelRolesInExpressions(t *testing.T) {
	p := optest.New(t)
	const claim = "urn:zitadel:iam:org:project:roles"
	c := startCaddy(t, `
	openid_connect `+p.Issuer()+` {
		client_id client
		client_secret secret
		claim_placeholder roles `+claim+`
		session {
			secret "`+sessionSecret+`"
		}
	}
	@admin expression `+"`"+`"admin" in {http.auth.user.roles}`+"`"+`
	respond @admin yes
	respond no`)
	for role, want := range map[string]string{"admin": "yes", "viewer": "no"} {
		p.SetUser(optest.Claims{"sub": "326102453042872322", claim: map[string]any{role: map[string]any{"326102453042806786": "acme.zitadel.example"}}})
		if landed := optest.NewBrowser(t).Navigate(c.url("/")); landed.Status != http.StatusOK || landed.Body != want {
			t.Errorf("%s: got %d and %q, want %q", role, landed.Status, landed.Body, want)
		}
	}
}
