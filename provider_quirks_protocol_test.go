package openidconnect

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// GitHub signs tokens for its workflows, and logs nobody in by OpenID Connect.
func TestGitHub(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetMetadata(func(m map[string]any) {
		for _, name := range []string{"authorization_endpoint", "token_endpoint", "userinfo_endpoint", "introspection_endpoint"} {
			delete(m, name)
		}
	})
	s := newLoginSite(t, p, "audience api")
	s.allows(p.AccessToken(optest.Claims{"sub": "repo:acme/app:ref:refs/heads/main"}))
	v := newVisitor(t, s, p)
	refused := v.open("/")
	v.wantPage(refused, http.StatusServiceUnavailable, "discovery_failed")
	if refused.Header.Get("Retry-After") == "" {
		t.Error("there is no Retry-After")
	}
	s.logged(zapcore.WarnLevel, "request refused", map[string]string{
		"reason": "discovery_failed", "expected": "authorization_endpoint", "got": "this issuer does not log users in",
	})
	v.wantRefusal(v.Get(v.url("/"), "Accept: application/json"), http.StatusUnauthorized, "no_credentials")
}

// Authentik has an issuer for each application, with a path and a slash, and no session identifier.
func TestAuthentik(t *testing.T) {
	t.Parallel()
	p := optest.New(t, optest.WithIssuerPath("/application/o/wiki/"))
	p.SetIDTokenClaims(func(claims optest.Claims) { claims["sid"] = jsonNull })
	p.SetUser(optest.Claims{"sub": "5d41402abc4b2a76", "preferred_username": "ada", "groups": []string{"authentik Admins", "wiki"}})
	s := newLoginSite(t, p, "scope openid profile\nrequired_claim groups wiki\nclaim_header X-Groups groups")
	newVisitor(t, s, p).signIn("/")
	s.wantHeaders(map[string]string{"X-Groups": "authentik Admins,wiki"})
	if n := p.Hits(optest.Discovery); n != 1 {
		t.Errorf("%d requests to the metadata", n)
	}
	other := newSite(t, strings.Replace(loginSettingsAt(p, ""), "/wiki/\n", "/wiki\n", 1))
	v := newVisitor(t, other, p)
	v.wantPage(v.open("/"), http.StatusServiceUnavailable, "discovery_issuer_mismatch")
	other.logged(zapcore.WarnLevel, "provider is not available; what is known of it stays in use", map[string]string{
		"error": "they differ only in the slash at the end",
	})
}

// Authelia accepts one way of client authentication, refuses scopes that a client may not have, and puts little into ID tokens.
func TestAuthelia(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetThinIDTokens(true)
	p.SetUser(optest.Claims{"sub": "ad8ba0f6", "preferred_username": "ada", "groups": []string{"admins"}})
	const settings = "scope openid profile groups\nset_userinfo_header off\nrequired_claim groups admins\n"
	strict := func(t *testing.T) {
		p.Fail(optest.Token, optest.Fault{Status: http.StatusUnauthorized, Body: []byte(`{"error":"invalid_client"}`)})
		t.Cleanup(func() { p.Heal(optest.Token) })
	}

	t.Run("the configured method", func(t *testing.T) {
		before := hitsOf(p)
		newVisitor(t, newLoginSite(t, p, settings+"token_endpoint_auth_method client_secret_post"), p).signIn("/")
		wantHits(t, p, before, hits{authorize: 1, token: 1, userinfo: 1})
		requests := p.Requests(optest.Token)
		request := requests[len(requests)-1]
		if request.Form.Get("client_secret") != "secret" || request.Form.Get("client_id") != "client" || request.Header.Get("Authorization") != "" {
			t.Errorf("got %v, Authorization %q", slices.Sorted(maps.Keys(request.Form)), request.Header.Get("Authorization"))
		}
	})
	t.Run("another one is not tried", func(t *testing.T) {
		strict(t)
		before := hitsOf(p)
		s := newLoginSite(t, p, settings)
		v := newVisitor(t, s, p)
		v.wantPage(v.Navigate(v.url("/")), http.StatusBadGateway, "code_exchange_failed")
		wantHits(t, p, before, hits{authorize: 1, token: 1})
		requests := p.Requests(optest.Token)
		if form := requests[len(requests)-1].Form; form.Has("client_secret") || form.Has("client_id") && form.Get("client_id") != "client" {
			t.Errorf("a request with client_secret_basic has the parameters %v", slices.Sorted(maps.Keys(form)))
		}
		s.logged(zapcore.WarnLevel, "request refused", map[string]string{
			"reason": "code_exchange_failed", "got": "invalid_client", "hint": "token_endpoint_auth_method",
		})
	})
	t.Run("a scope that the client may not have", func(t *testing.T) {
		p.FailAuthorize("invalid_scope", "The OAuth 2.0 Client is not allowed to request scope 'offline_access'.")
		defer p.FailAuthorize("", "")
		before := hitsOf(p)
		s := newLoginSite(t, p, settings+"scope offline_access")
		v := newVisitor(t, s, p)
		v.wantPage(v.Navigate(v.url("/")), http.StatusBadRequest, "provider_error")
		wantHits(t, p, before, hits{authorize: 1})
		s.logged(zapcore.WarnLevel, "request refused", map[string]string{"reason": "provider_error", "got": "invalid_scope"})
	})
}

// Pocket ID is often served by the very Caddy that it protects sites of, and starts after it.
func TestPocketID(t *testing.T) {
	p := optest.New(t, optest.WithIssuerPath("/id"))
	c := startCaddy(t, "respond nothing")
	c.keep = true
	issuer := "http://" + c.address + "/id"
	p.SetMetadata(func(m map[string]any) {
		for name, value := range m {
			if text, ok := value.(string); ok {
				m[name] = strings.Replace(text, p.Issuer(), issuer, 1)
			}
		}
	})
	p.SetIDTokenClaims(func(claims optest.Claims) { claims["iss"] = issuer })
	p.Down()
	takeLogs()
	err := c.load(`
	handle /id/* {
		reverse_proxy ` + strings.TrimPrefix(p.URL(), "http://") + `
	}
	handle {
		openid_connect ` + issuer + ` {
			client_id client
			client_secret secret
			session {
				secret "` + sessionSecret + `"
			}
		}
		reverse_proxy $UPSTREAM
	}`)
	if err != nil {
		t.Fatal(err)
	}
	successes := 0 // the listener of the first configuration may still cut connections that nobody has accepted yet
	waitUntil(t, func() bool {
		r, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(newRequest(t, http.MethodGet, c.url("/id/"), nil))
		if successes++; err != nil {
			successes = 0
			return false
		}
		r.Body.Close()
		return successes == 10
	})
	browser := optest.NewBrowser(t)
	waiting := browser.Navigate(c.url("/photos"))
	if waiting.Status != http.StatusServiceUnavailable || waiting.Header.Get("Retry-After") == "" ||
		!strings.Contains(waiting.Body, `http-equiv="refresh"`) {
		t.Fatalf("got %d, Retry-After %q: %s", waiting.Status, waiting.Header.Get("Retry-After"), waiting.Body)
	}
	if n := len(browser.Cookies(c.url("/"))); n != 0 {
		t.Errorf("%d cookies without a login", n)
	}
	if r := c.get("/photos"); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("a program got %d meanwhile", r.StatusCode)
	}
	p.Up()
	p.WaitForHits(t, optest.JWKS, 1) // it is asked again, whether anybody comes or not
	waitUntil(t, func() bool {
		landed := browser.Navigate(c.url("/photos"))
		return landed.Status == http.StatusOK && landed.URL == c.url("/photos")
	})
	if n := c.advance(); n != 1 {
		t.Errorf("%d requests reached the upstream", n)
	}
	logs := takeLogs()
	for message, want := range map[string]int{"provider is not available; what is known of it stays in use": 1, "provider is available": 1, "login": 1} {
		if n := len(logLines(t, logs, message)); n != want {
			t.Errorf("%d lines %q, want %d", n, message, want)
		}
	}
}

// Dex has new keys every few hours, and one of its connectors can be asked for.
func TestDex(t *testing.T) {
	t.Parallel()
	p := optest.New(t, optest.WithIssuerPath("/dex"))
	p.SetUser(optest.Claims{"sub": "CgNhZGESBWxvY2Fs", "email": "ada@example.com", "groups": []string{"acme:backend"}})
	s := newLoginSite(t, p, "scope openid email groups\nauthorization_params connector_id ldap\nrequired_claim groups acme:backend")
	newVisitor(t, s, p).signIn("/")
	if got := lastRequest(t, p).Get("connector_id"); got != "ldap" {
		t.Errorf("connector_id %q", got)
	}
	v := newVisitor(t, s, p)
	v.signIn("/")
	p.Rotate(t)
	newVisitor(t, s, p).signIn("/")
	v.wantSession(true) // a session does not fall with the key of its ID token
	if n := p.Hits(optest.JWKS); n != 2 {
		t.Errorf("the keys were fetched %d times, want 2", n)
	}
}

// A public client, as PingFederate and ADFS have it, proves nothing: an empty secret would be a wrong one.
func TestPublicClient(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetPublicClient("client")
	s := newSite(t, strings.Replace(loginSettingsAt(p, "resource urn:example:api"), "client_secret secret\n", "", 1))
	newVisitor(t, s, p).signIn("/")
	request := p.Requests(optest.Token)[0]
	if got := request.Header.Get("Authorization"); got != "" {
		t.Errorf("Authorization %q", got)
	}
	want := []string{"client_id", "code", "code_verifier", "grant_type", "redirect_uri", "resource"}
	if got := slices.Sorted(maps.Keys(request.Form)); !slices.Equal(got, want) {
		t.Errorf("the token request has %q, want %q", got, want)
	}
	for name, got := range map[string][]string{"the login": lastRequest(t, p)["resource"], "the token request": request.Form["resource"]} {
		if len(got) != 1 || got[0] != "urn:example:api" {
			t.Errorf("%s has the resource %q", name, got)
		}
	}
}

// An authorization request asks for what is configured and for nothing else, whatever the provider says that it has.
func TestScopesAreAskedForAsWritten(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetMetadata(func(m map[string]any) {
		m["scopes_supported"] = []string{"openid", "profile", "email", "groups", "offline_access"}
		m["grant_types_supported"] = []string{"authorization_code", "refresh_token"}
	})
	for settings, want := range map[string]string{
		"":                                  "openid",
		"scope openid":                      "openid",
		"scope openid email profile":        "openid email profile",
		"scope openid offline_access":       "openid offline_access",
		"scope openid api://app/read .dflt": "openid api://app/read .dflt",
	} {
		t.Run(fmt.Sprintf("%q", settings), func(t *testing.T) {
			newVisitor(t, newLoginSite(t, p, settings), p).signIn("/")
			if got := lastRequest(t, p).Get("scope"); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}
