package openidconnect

import (
	"html"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// newDiscoveredSite is newLoginSite for a provider that is named by its metadata document alone.
func newDiscoveredSite(t *testing.T, p *optest.Provider, settings string) *site {
	t.Helper()
	settings = strings.Replace(loginSettingsAt(p, settings), "issuer "+p.Issuer(), "discovery "+p.Endpoint(optest.Discovery), 1)
	s := newSite(t, settings)
	t.Cleanup(func() { wantSilence(t, p, s) })
	return s
}

// logged checks that there is a line with this message at this level or above, whose fields hold these texts, and returns its fields.
func (s *site) logged(level zapcore.Level, message string, want map[string]string) map[string]any {
	s.t.Helper()
	entries := s.logs.FilterMessage(message).All()
search:
	for _, entry := range entries {
		fields := entry.ContextMap()
		for name, text := range want {
			if value, _ := fields[name].(string); !strings.Contains(value, text) {
				continue search
			}
		}
		if entry.Level < level {
			s.t.Errorf("%q has the level %s, want %s", message, entry.Level, level)
		}
		return fields
	}
	s.t.Errorf("no line %q with %v among %d of that message", message, want, len(entries))
	for _, entry := range entries {
		s.t.Log(entry.ContextMap())
	}
	return nil
}

// placeholder is what a placeholder gives to whatever comes after the handler.
func (a arrival) placeholder(t *testing.T, name string) any {
	t.Helper()
	value, ok := a.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).Get(name)
	if !ok {
		t.Errorf("%s is not defined", name)
	}
	return value
}

// wantHeaders checks what the upstream got with the newest request; "" stands for no header.
func (s *site) wantHeaders(want map[string]string) {
	s.t.Helper()
	header := s.last(s.t).Header
	for name, value := range want {
		if got := header.Get(name); got != value || len(header.Values(name)) > 1 {
			s.t.Errorf("%s %q, want %q", name, header.Values(name), value)
		}
	}
}

var linkTag = regexp.MustCompile(`<a href="([^"]*)"`)

// wayOut is the URL of the link on a page.
func (v *visitor) wayOut(r *optest.Response) string {
	v.t.Helper()
	link := linkTag.FindStringSubmatch(r.Body)
	if link == nil || !strings.HasPrefix(link[1], "/") {
		v.t.Fatalf("there is no link to this site: %s", r.Body)
	}
	return v.url(html.UnescapeString(link[1]))
}

// lastRequest is the newest authorization request.
func lastRequest(t *testing.T, p *optest.Provider) url.Values {
	t.Helper()
	requests := p.AuthorizeRequests()
	if len(requests) == 0 {
		t.Fatal("there was no authorization request")
	}
	return requests[len(requests)-1]
}

// Keycloak nests roles in objects, writes the audience "account" into access tokens, and says that it has not verified an address.
func TestKeycloak(t *testing.T) {
	t.Parallel()
	p := optest.New(t, optest.WithIssuerPath("/realms/demo"))
	p.SetMetadata(func(m map[string]any) { m["prompt_values_supported"] = []string{"none", "login", "consent"} })
	p.SetIDTokenClaims(func(claims optest.Claims) {
		claims["typ"], claims["azp"] = "ID", "client"
		delete(claims, "at_hash") // it would not be that of the token below
	})
	var user optest.Claims
	p.SetTokenResponse(func(answer map[string]any) {
		answer["access_token"] = p.AccessToken(optest.Claims{"sub": user["sub"], "aud": "account", "typ": "Bearer", "azp": "client", "scope": "openid"})
		answer["not-before-policy"], answer["session_state"], answer["refresh_expires_in"] = 0, "5bff0a9c", 1800
	})
	ada := optest.Claims{
		"sub": "f1", "preferred_username": "ada", "email": "ada@example.com", "email_verified": false,
		"realm_access": map[string]any{"roles": []string{"offline_access", "staff"}},
		"resource_access": map[string]any{
			"client": map[string]any{"roles": []string{"editor", "viewer"}}, "account": map[string]any{"roles": []string{"view-profile"}},
		},
	}
	user = ada
	p.SetUser(user)
	s := newLoginSite(t, p, `scope openid profile email
		username_claim preferred_username
		required_claim realm_access.roles staff
		required_claim resource_access.client.roles editor
		claim_header X-Roles resource_access.client.roles
		claim_header X-Verified email_verified`)

	t.Run("roles in objects, and an address that nobody has verified", func(t *testing.T) {
		s := s.in(t)
		newVisitor(t, s, p).signIn("/docs?page=2")
		s.wantHeaders(map[string]string{"X-Roles": "editor,viewer", "X-Verified": "false"})
		for name, want := range map[string]any{"http.auth.user.id": "ada", "http.auth.user.email": "ada@example.com"} {
			if got := s.last(t).placeholder(t, name); got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
		wantHits(t, p, hits{}, hits{authorize: 1, token: 1}) // the ID token has told everything
	})
	t.Run("its login page has expired", func(t *testing.T) {
		v, before := newVisitor(t, s, p), hitsOf(p)
		failures := 1
		p.SetAuthorizeResponse(func(values url.Values) {
			if failures--; failures >= 0 {
				values.Del("code")
				values.Set("error", "temporarily_unavailable")
				values.Set("error_description", "authentication_expired")
			}
		})
		defer p.SetAuthorizeResponse(nil)
		v.signIn("/docs?page=2")
		wantHits(t, p, before, hits{authorize: 2, token: 1})
		if n := len(v.kept(isTransactionName)); n != 0 {
			t.Errorf("%d transactions are left", n)
		}
	})
	t.Run("an account without the role, and another one", func(t *testing.T) {
		v := newVisitor(t, s, p)
		user = optest.Claims{"sub": "f2", "preferred_username": "bob", "realm_access": map[string]any{"roles": []string{"staff"}}}
		p.SetUser(user)
		refused := v.Navigate(v.url("/docs"))
		v.wantPage(refused, http.StatusForbidden, "claim_required")
		if !strings.Contains(refused.Body, "<bdi>bob</bdi>") {
			t.Errorf("the page does not name the account: %s", refused.Body)
		}
		user = ada
		p.SetUser(user)
		if landed := v.NavigateFrom(v.url("/docs"), v.wayOut(refused)); landed.Status != http.StatusOK || landed.URL != v.url("/docs") {
			t.Errorf("landed on %s with %d", landed.URL, landed.Status)
		}
		if got := lastRequest(t, p).Get("prompt"); got != "login" { // it has no select_account
			t.Errorf("prompt %q, want login", got)
		}
		s.wantHeaders(map[string]string{"X-Roles": "editor,viewer"})
	})
}

// Microsoft Entra ID has one metadata document for all tenants. Who lets all of them in lets everybody in who has a Microsoft account.
func TestEntraTenants(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetMetadata(func(m map[string]any) { m["issuer"] = p.URL() + "/{tenantid}/v2.0" })
	from := func(issuer, tid any) {
		p.SetIDTokenClaims(func(claims optest.Claims) { claims["iss"], claims["tid"] = issuer, tid })
	}
	const ours, theirs = "9188040d-6c67-4c5b-b112-36a304b66dad", "72f988bf-86f1-41af-91ab-2d7cd011db47"
	at := func(tenant string) string { return p.URL() + "/" + tenant + "/v2.0" }
	s := newDiscoveredSite(t, p, "tenants "+ours+" another")

	from(at(ours), ours)
	newVisitor(t, s, p).signIn("/")
	if got := s.last(t).placeholder(t, "http.openid_connect.issuer"); got != at(ours) {
		t.Errorf("the issuer is %v", got)
	}
	for name, test := range map[string]struct{ issuer, tid any }{
		"another tenant":                     {at(theirs), theirs},
		"our tenant, and another's issuer":   {at(theirs), ours},
		"another tenant, and our issuer":     {at(ours), theirs},
		"no tenant":                          {at(ours), nil},
		"the template":                       {p.URL() + "/{tenantid}/v2.0", "{tenantid}"},
		"the template, and ours":             {p.URL() + "/{tenantid}/v2.0", ours},
		"the issuer of the common documents": {at("common"), ours},
	} {
		t.Run(name, func(t *testing.T) {
			from(test.issuer, test.tid)
			v := newVisitor(t, s, p)
			v.wantPage(v.Navigate(v.url("/")), http.StatusBadRequest, "wrong_issuer")
			v.wantSession(false)
		})
	}
	s.logged(zapcore.WarnLevel, "request refused", map[string]string{
		"reason": "wrong_issuer", "expected": "a tenant of " + ours + " another", "got": "tid " + theirs, "hint": "tenants",
	})
}

func TestEntraWithoutTenants(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetMetadata(func(m map[string]any) { m["issuer"] = p.URL() + "/{tenantid}/v2.0" })
	s := newDiscoveredSite(t, p, "")
	v := newVisitor(t, s, p)
	refused := v.open("/")
	v.wantPage(refused, http.StatusServiceUnavailable, "discovery_issuer_mismatch")
	if refused.Header.Get("Retry-After") == "" {
		t.Error("there is no Retry-After")
	}
	s.logged(zapcore.WarnLevel, "provider is not available; what is known of it stays in use", map[string]string{
		"error": "tenants must list the allowed ones",
	})
}

// Entra leaves groups out when there are too many, and the address of those who have none.
func TestEntraClaims(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	const userid = "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ"
	graph := optest.New(t) // where the groups are said to be
	many := []optest.Claims{
		{
			"_claim_names":   map[string]any{"groups": "src1"},
			"_claim_sources": map[string]any{"src1": map[string]any{"endpoint": graph.URL() + "/getMemberObjects"}},
		},
		{"hasgroups": true},
	}
	const overage = "the provider has left out the groups of a user, who has too many of them"
	const settings = "scope openid profile email\nusername_claim preferred_username\nclaim_header X-User preferred_username\nclaim_header X-Mail email\n"

	t.Run("no address", func(t *testing.T) {
		p.SetUser(optest.Claims{"sub": userid, "preferred_username": "ada@example.com", "name": "Ada", "groups": []string{"g1"}})
		s := newLoginSite(t, p, settings+"required_claim groups g1")
		newVisitor(t, s, p).signIn("/")
		s.wantHeaders(map[string]string{"X-User": "ada@example.com", "X-Mail": ""})
		if got := s.last(t).placeholder(t, "http.auth.user.id"); got != "ada@example.com" {
			t.Errorf("the user is %v", got)
		}
		if n := s.logs.FilterMessage(overage).Len(); n != 0 {
			t.Errorf("%d lines about groups that are there", n)
		}
	})
	for _, claims := range many {
		t.Run("too many groups "+strings.Join(sortedKeys(claims), " "), func(t *testing.T) {
			user := optest.Claims{"sub": userid, "preferred_username": "ada@example.com", "email": "ada@example.com", "name": "Ada"}
			p.SetIDTokenClaims(func(token optest.Claims) { maps.Copy(token, claims) })
			p.SetUser(user)
			open := newLoginSite(t, p, settings)
			newVisitor(t, open, p).signIn("/")
			open.logged(zapcore.WarnLevel, overage, map[string]string{"issuer": p.Issuer(), "hint": "application roles"})

			members := newLoginSite(t, p, settings+"required_claim groups g1")
			v := newVisitor(t, members, p)
			v.wantPage(v.Navigate(v.url("/")), http.StatusForbidden, "claim_required")
			members.logged(zapcore.WarnLevel, overage, nil)
			members.logged(zapcore.InfoLevel, "request refused", map[string]string{"reason": "claim_required", "expected": "groups = g1"})
		})
	}
	if n := graph.Hits(optest.Other); n != 0 {
		t.Errorf("%d requests to an address in a token", n)
	}
}

// Google has no groups and no logout, gives refresh tokens to who asks in its own way, and its access tokens are opaque.
func TestGoogle(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetOpaqueAccessTokens(true)
	p.SetMetadata(func(m map[string]any) {
		for _, name := range []string{"end_session_endpoint", "introspection_endpoint"} {
			delete(m, name)
		}
	})
	p.SetUser(optest.Claims{"sub": "110248495921238986420", "email": "ada@example.com", "email_verified": true, "hd": "example.com"})
	s := newLoginSite(t, p, `scope openid email
		authorization_params access_type offline
		authorization_params prompt consent
		authorization_params hd example.com
		required_claim hd example.com
		claim_header X-Groups groups`)
	v := newVisitor(t, s, p)
	v.signIn("/inbox")
	request := lastRequest(t, p)
	for name, want := range map[string]string{"scope": "openid email", "access_type": "offline", "prompt": "consent", "hd": "example.com"} {
		if got := request[name]; len(got) != 1 || got[0] != want {
			t.Errorf("%s %q, want %q", name, got, want)
		}
	}
	s.wantHeaders(map[string]string{"X-Groups": ""})
	for name, user := range map[string]optest.Claims{
		"an account of another domain": {"sub": "2", "email": "eve@evil.example", "hd": "evil.example"},
		"a private account":            {"sub": "3", "email": "eve@gmail.example"},
	} {
		t.Run(name, func(t *testing.T) {
			p.SetUser(user)
			v := newVisitor(t, s, p)
			refused := v.Navigate(v.url("/inbox"))
			v.wantPage(refused, http.StatusForbidden, "claim_required")
			if !strings.Contains(refused.Body, "<bdi>"+user["email"].(string)+"</bdi>") {
				t.Errorf("the page does not name the account: %s", refused.Body)
			}
		})
	}
	v.later(12 * time.Hour) // it lives by its own clocks, without a refresh token
	v.wantSession(true)
}
