package openidconnect

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Keycloak adds members of its own, repeats the nonce in older versions, and has refresh tokens and ID tokens of more than a kilobyte.
func TestKeycloakRefresh(t *testing.T) {
	t.Parallel()
	p := optest.New(t, optest.WithIssuerPath("/realms/demo"))
	nonce := ""
	p.SetIDTokenClaims(func(claims optest.Claims) {
		claims["typ"], claims["azp"] = "ID", "client"
		if sent, ok := claims["nonce"].(string); ok {
			nonce = sent
		}
		claims["nonce"] = nonce
	})
	p.SetRefreshResponse(func(answer map[string]any) {
		answer["not-before-policy"], answer["session_state"], answer["refresh_expires_in"] = 0, "5bff0a9c", 1800
	})
	roles := func(names ...string) {
		p.SetUser(optest.Claims{
			"sub": "f1", "preferred_username": "ada", "email": "ada@example.com", "email_verified": false,
			"realm_access": map[string]any{"roles": names}, "allowed-origins": manyGroups(20),
		})
	}
	roles("offline_access", "staff")
	r := newRenewer(t, p, `scope openid profile email
		username_claim preferred_username
		required_claim realm_access.roles staff
		claim_header X-Roles realm_access.roles
		set_access_token_header
		set_raw_id_token_header`)
	for range 3 {
		r.renew()
	}
	roles("staff", "editor")
	arrived := r.renew()
	if got := arrived.Header.Get("X-Roles"); got != "staff,editor" {
		t.Errorf("roles %q", got)
	}
	if got := arrived.placeholder(t, "http.auth.user.id"); got != "ada" {
		t.Errorf("the user is %v", got)
	}
	roles("editor")
	r.wantForbidden("claim_required")
	p.RevokeRefreshTokens() // session max, or signed out at Keycloak
	roles("staff")
	r.expire()
	attempts := p.RefreshAttempts()
	if landed := r.Navigate(r.url("/page")); landed.Status != http.StatusOK || landed.URL != r.url("/page") || r.upstream.advance() != 1 {
		t.Errorf("landed on %s with %d", landed.URL, landed.Status)
	}
	if n := p.RefreshAttempts() - attempts; n != 1 {
		t.Errorf("%d attempts", n)
	}
}

// Microsoft Entra ID: long refresh tokens that nobody else can read, access tokens for Microsoft Graph, groups that may be too many by then.
func TestEntraRefresh(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	const tenant = "9188040d-6c67-4c5b-b112-36a304b66dad"
	p.SetMetadata(func(m map[string]any) { m["issuer"] = p.URL() + "/{tenantid}/v2.0" })
	p.SetIDTokenClaims(func(claims optest.Claims) {
		claims["iss"], claims["tid"], claims["ver"] = p.URL()+"/"+tenant+"/v2.0", tenant, "2.0"
		delete(claims, "at_hash")
		delete(claims, "sid")
	})
	n := 0
	p.SetTokenResponse(func(answer map[string]any) {
		n++
		answer["access_token"] = fmt.Sprintf("%s.%d", strings.Repeat("eyJ0eXAi", 200), n) // with a nonce in its header: none of our business
		answer["expires_in"], answer["ext_expires_in"], answer["scope"] = 4242, 4242, "email openid profile User.Read"
	})
	user := func(claims optest.Claims) {
		claims["sub"], claims["preferred_username"] = "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ", "ada@example.com"
		p.SetUser(claims)
	}
	user(optest.Claims{"roles": []string{"App.User"}, "groups": []string{"g1", "g2"}})
	p.SetRefreshTokens(true)
	s := newDiscoveredSite(t, p, withinProcess+"\ntenants "+tenant+"\nscope openid profile email offline_access\nuserinfo off\n"+
		"required_claim roles App.User\nclaim_header X-Groups groups\nset_access_token_header")
	r := &renewer{visitor: newVisitor(t, s, p)}
	r.signIn("/")
	for range 2 {
		r.pass(4300 * time.Second)
		header := r.renewDue().Header
		if got := header.Get("X-Access-Token"); !strings.HasSuffix(got, fmt.Sprintf(".%d", n)) {
			t.Error("not the new access token")
		}
		if got := header.Get("X-Groups"); got != "g1,g2" {
			t.Errorf("groups %q", got)
		}
	}
	user(optest.Claims{"roles": []string{"App.User"}, "hasgroups": true}) // has joined too many
	r.pass(4300 * time.Second)
	if got := r.renewDue().Header.Get("X-Groups"); got != "" {
		t.Errorf("groups %q", got)
	}
	s.logged(zapcore.WarnLevel, "the provider has left out the groups of a user, who has too many of them", map[string]string{"hint": "application roles"})
	user(optest.Claims{"roles": []string{"App.Guest"}})
	r.pass(4300 * time.Second)
	r.wantReason(r.Get(r.url("/"), "Accept: application/json"), http.StatusForbidden, "claim_required")
}

// Okta and Authelia tell groups by userinfo alone, at renewals as at logins.
func TestThinProvidersRefresh(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetThinIDTokens(true)
	user := func(groups ...string) {
		p.SetUser(optest.Claims{"name": "Ada", "email": "ada@example.com", "preferred_username": "ada", "groups": groups})
	}
	for name, settings := range map[string]string{
		"Okta":     "scope openid profile email groups offline_access",
		"Authelia": "scope openid profile groups offline_access\nusername_claim preferred_username\ntoken_endpoint_auth_method client_secret_post",
	} {
		t.Run(name, func(t *testing.T) {
			user("Everyone", "staff")
			r := newRenewer(t, p, settings+"\nset_userinfo_header off\nrequired_claim groups staff\nclaim_header X-Groups groups")
			for _, groups := range [][]string{{"Everyone", "staff"}, {"staff", "wiki"}, {"staff"}} {
				user(groups...)
				asked := p.Hits(optest.Userinfo)
				if got := r.renew().Header.Get("X-Groups"); got != strings.Join(groups, ",") {
					t.Errorf("groups %q, want %q", got, groups)
				}
				if n := p.Hits(optest.Userinfo) - asked; n != 1 {
					t.Errorf("userinfo was asked %d times", n)
				}
			}
			user("Everyone")
			r.wantForbidden("claim_required")
			user("Everyone", "staff")
			r.renew()
		})
	}
}

// Auth0 has an issuer that ends in a slash, claims that are URLs, and opaque access tokens unless an audience is named.
func TestAuth0Refresh(t *testing.T) {
	t.Parallel()
	p := optest.New(t, optest.WithIssuerPath("/"))
	p.SetOpaqueAccessTokens(true)
	const roles = "https://example.com/roles"
	user := func(names ...string) { p.SetUser(optest.Claims{"sub": "auth0|5f7c8ec7c33c6c004bbafe82", roles: names}) }
	user("admin", "editor")
	r := newRenewer(t, p, "scope openid offline_access\ntoken_endpoint_auth_method client_secret_post\n"+
		"authorization_params audience https://api.example.com/\nrequired_claim "+roles+" admin\nclaim_placeholder roles "+roles)
	user("admin", "owner")
	for range 2 {
		arrived := r.renew()
		if got := fmt.Sprint(arrived.placeholder(t, "http.auth.user.roles")); got != "admin,owner" {
			t.Errorf("roles %q", got)
		}
		if got := arrived.placeholder(t, "http.openid_connect.issuer"); got != p.URL()+"/" {
			t.Errorf("the issuer is %v", got)
		}
		if form := lastTokenRequest(t, p).Form; form.Has("audience") || form.Has("scope") {
			t.Errorf("the request has %v", form)
		}
	}
	user("owner")
	r.wantForbidden("claim_required")
}

// Zitadel writes roles as an object, and rotates opaque tokens.
func TestZitadelRefresh(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetOpaqueAccessTokens(true)
	const claim = "urn:zitadel:iam:org:project:roles"
	roles := func(names ...string) {
		granted := make(map[string]any)
		for _, name := range names {
			granted[name] = map[string]any{"326102453042806786": "acme.zitadel.example"}
		}
		p.SetUser(optest.Claims{"sub": "326102453042872322", claim: granted})
	}
	roles("admin")
	r := newRenewer(t, p, "scope openid offline_access\nrequired_claim "+claim+" admin editor\ndenied_claim "+claim+" suspended\nset_access_token_header")
	roles("editor", "viewer")
	if got := r.renew().Header.Get("X-Access-Token"); got != r.tokens["access_token"] {
		t.Error("not the new access token")
	}
	roles("admin", "suspended")
	r.wantForbidden("claim_denied")
	roles("viewer")
	r.wantForbidden("claim_required")
	roles("admin")
	r.renew()
}

// Dex has new keys every few hours, and asks its connector again at each renewal.
func TestDexRefresh(t *testing.T) {
	t.Parallel()
	p := optest.New(t, optest.WithIssuerPath("/dex"))
	p.SetAccessLifetime(24 * time.Hour)
	user := func(groups ...string) { p.SetUser(optest.Claims{"sub": "CgNhZGESBWxvY2Fs", "groups": groups}) }
	user("acme:backend")
	r := newRenewer(t, p, "scope openid groups offline_access\nrequired_claim groups acme:backend\nrefresh_session_interval 1h\nclaim_header X-Groups groups")
	for i := range 3 {
		user("acme:backend", fmt.Sprintf("acme:%d", i))
		if i == 1 {
			p.Rotate(t)
		}
		r.pass(59 * time.Minute)
		r.again()
		r.pass(time.Minute)
		if got := r.renewDue().Header.Get("X-Groups"); got != fmt.Sprintf("acme:backend,acme:%d", i) {
			t.Errorf("groups %q in hour %d", got, i)
		}
	}
	if n := r.site.logs.FilterMessage(unusedIDToken).Len(); n != 0 {
		t.Errorf("%d ID tokens were not used", n)
	}
}

// Authentik has no session identifier, and an issuer for each application. A refresh token takes a scope there, as with most.
func TestAuthentikRefresh(t *testing.T) {
	t.Parallel()
	p := optest.New(t, optest.WithIssuerPath("/application/o/wiki/"))
	p.SetIDTokenClaims(func(claims optest.Claims) { claims["sid"] = jsonNull })
	user := func(groups ...string) {
		p.SetUser(optest.Claims{"sub": "5d41402abc4b2a76", "preferred_username": "ada", "groups": groups})
	}
	user("authentik Admins", "wiki")
	for scope, renews := range map[string]bool{"openid profile": false, "openid profile offline_access": true} {
		t.Run(scope, func(t *testing.T) {
			user("authentik Admins", "wiki")
			s := newLoginSite(t, p, withinProcess+"\nscope "+scope+"\nrequired_claim groups wiki")
			r := &renewer{visitor: newVisitor(t, s, p)}
			r.signIn("/")
			user("authentik Admins")
			if renews {
				r.wantForbidden("claim_required")
				return
			}
			attempts := p.RefreshAttempts()
			r.expire()
			r.wantSession(true) // it lives by its own clocks, with the claims of the login
			if n := p.RefreshAttempts() - attempts; n != 0 {
				t.Errorf("%d requests without a refresh token", n)
			}
		})
	}
}

// Azure AD B2C states when the refresh token itself ends, and writes numbers as text.
func TestAzureB2CRefresh(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetTokenResponse(func(answer map[string]any) {
		answer["expires_in"], answer["not_before"], answer["id_token_expires_in"] = "3600", time.Now().Unix(), 3600
		answer["refresh_token_expires_in"], answer["profile_info"], answer["resource"] = 1209600, "eyJ2ZXIi", "11111111-0000-4000-8000-000000000000"
	})
	p.SetRefreshTokens(true)
	s := newLoginSite(t, p, withinProcess+"\nscope openid offline_access client\nset_access_token_header")
	r := &renewer{visitor: newVisitor(t, s, p)}
	r.signIn("/")
	r.pass(59 * time.Minute)
	r.again()
	r.pass(time.Minute)
	r.renewDue()
	p.FailRefresh(refreshFault(http.StatusBadRequest, `{"error":"invalid_grant","error_description":"AADB2C90129: The provided grant has been revoked."}`))
	r.pass(time.Hour)
	r.begin("/")
	r.site.logged(zapcore.InfoLevel, "session ended", map[string]string{"reason": "refresh_rejected", "got": "invalid_grant"})
	if slices.ContainsFunc(r.site.logs.All(), func(entry zapEntry) bool { return strings.Contains(fmt.Sprint(entry.ContextMap()), "AADB2C") }) {
		t.Error("the log quotes the provider")
	}
}
