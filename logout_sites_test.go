package openidconnect

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Logouts in a whole Caddy, and on several hosts.

// leave signs the user out by a link, all the way to the provider and back, and checks that he is.
func (v *visitor) leave(logout, protected string) {
	v.t.Helper()
	copied, before := cookieHeader(v), len(v.provider.Logouts())
	if r := v.Get(v.url(protected), "Accept: application/json"); r.Status != http.StatusOK || v.upstream.advance() != 1 {
		v.t.Fatalf("%s: got %d before the logout", protected, r.Status)
	}
	landed := v.NavigateFrom(v.url("/"), v.url(logout))
	if landed.Status != http.StatusOK || !strings.Contains(landed.Body, "<h1>You are signed out</h1>") || !strings.Contains(landed.Body, detailSignedOutThere) {
		v.t.Fatalf("%s: landed on %s with %d: %s", logout, landed.URL, landed.Status, shown(landed))
	}
	if logouts := v.provider.Logouts(); len(logouts) != before+1 || !logouts[before].HintValid || logouts[before].Refused != "" {
		v.t.Errorf("at the provider: %+v", logouts)
	}
	if n := v.upstream.advance(); n != 0 {
		v.t.Errorf("%d requests reached the upstream", n)
	}
	for _, cookies := range []string{cookieHeader(v), copied} {
		v.wantRefusal(v.Get(v.url(protected), "Accept: application/json", "Cookie: x=y; "+cookies), http.StatusUnauthorized, "no_credentials")
	}
}

// Wherever the directive stands, its logout is found, and what is not exactly its path is a page like any other.
func TestLogoutPaths(t *testing.T) {
	const reach = "unauth_action pass /public/*\n"
	for name, test := range map[string]struct {
		site      func(p *optest.Provider) string
		logout    string
		protected string
		ordinary  []string // belong to the site
	}{
		"by default": {
			func(p *optest.Provider) string { return webapp(p, "", reach) + toUpstream }, "/oauth2/logout", "/x",
			[]string{"/logout", "/oauth2/logout/", "/oauth2/%6cogout", "/OAUTH2/logout", "//oauth2/logout", "/oauth2/logout/x", "/oauth2/Logout", "/oauth2/logged-out/"},
		},
		"path_prefix":             {func(p *optest.Provider) string { return webapp(p, "", "path_prefix /sso") + toUpstream }, "/sso/logout", "/x", []string{"/oauth2/logout"}},
		"logout_path":             {func(p *optest.Provider) string { return webapp(p, "", "logout_path /logout") + toUpstream }, "/logout", "/x", []string{"/logout/", "/oauth2/logout"}},
		"logout_path in a folder": {func(p *optest.Provider) string { return webapp(p, "", "logout_path /users/sign_out.php") + toUpstream }, "/users/sign_out.php", "/x", nil},
		"beside a matcher":        {func(p *optest.Provider) string { return webapp(p, "/admin/*", "") + toUpstream }, "/oauth2/logout", "/admin/x", nil},
		"logout_path beside a matcher": {
			func(p *optest.Provider) string { return webapp(p, "/admin/*", "logout_path /logout") + toUpstream }, "/logout", "/admin/x", nil,
		},
		"in handle": {
			func(p *optest.Provider) string {
				return "handle /app/* {\n" + webapp(p, "", "path_prefix /app/oauth2") + toUpstream + "}\nhandle {\nrespond elsewhere 404\n}"
			}, "/app/oauth2/logout", "/app/x", nil,
		},
		"in handle_path": {
			func(p *optest.Provider) string {
				return "handle_path /app/* {\n" + webapp(p, "", "path_prefix /app/oauth2\nlogout_path /app/logout") + toUpstream + "}\nhandle {\nrespond elsewhere 404\n}"
			}, "/app/logout", "/app/x", []string{"/app/app/logout", "/app/oauth2/logout"},
		},
		"behind rewrites": {
			func(p *optest.Provider) string { return "rewrite * /index.php\n" + webapp(p, "", "") + toUpstream }, "/oauth2/logout", "/x", nil,
		},
		"where everybody may enter": {func(p *optest.Provider) string {
			return webapp(p, "", "unauth_action pass\nunauth_action deny /x") + toUpstream
		}, "/oauth2/logout", "/x", nil},
		"where nobody may enter": {func(p *optest.Provider) string {
			return webapp(p, "", "unauth_action deny\nunauth_action auth /login-here") + toUpstream
		}, "/oauth2/logout", "/x", nil},
		"with a page of the site's for errors": {
			func(p *optest.Provider) string {
				return webapp(p, "", "error_responses handle_errors") + toUpstream + "handle_errors {\nrespond `{\"reason\":\"{http.openid_connect.reason}\",\"request_id\":\"x\"}`\n}"
			}, "/oauth2/logout", "", nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := optest.New(t, optest.WithEndSession())
			c := startCaddy(t, test.site(p))
			v := newCaddyVisitor(t, c, p)
			prefix, _, _ := strings.Cut(test.logout, "/logout")
			start := "/oauth2/login"
			switch {
			case strings.Contains(name, "handle"):
				start = "/app/oauth2/login"
			case name == "path_prefix":
				start = prefix + "/login"
			}
			signIn := func() {
				t.Helper()
				request := v.begin(start)
				v.arrive(request, v.answerTo(request))
			}
			if test.protected == "" {
				// its own errors are drawn by the handler, whatever the site says
				signIn()
				v.wantCrossSite(v.Post(v.url(test.logout), nil, linked...))
				v.wantCrossSite(v.Post(v.url(test.logout), nil, evilOrigin, "Cookie: "+cookieHeader(v)))
				v.wantSession(true)
				return
			}
			signIn()
			for _, path := range test.ordinary {
				if r := v.Get(v.url(path), clicked...); r.Status != http.StatusOK || c.advance() != 1 {
					t.Errorf("%s: got %d", path, r.Status)
				}
			}
			// the provider knows nothing of a login that began with a code of ours, and a browser that has been there is another one
			v = newCaddyVisitor(t, c, p)
			if landed := v.Navigate(v.url(start + "?return_to=" + url.QueryEscape(test.protected))); landed.Status != http.StatusOK {
				t.Fatalf("landed on %s with %d: %s", landed.URL, landed.Status, shown(landed))
			}
			c.advance()
			v.leave(test.logout+"?x=y", test.protected)
		})
	}
}

// Directives of one provider share the session, and it ends for all of them.
func TestLogoutOfSiblings(t *testing.T) {
	p := optest.New(t, optest.WithEndSession())
	c := startCaddy(t, webapp(p, "/admin/*", "required_claim sub alice")+webapp(p, "", "")+"handle /nested/* {\n"+
		webapp(p, "", "claim_header X-Inner sub")+toUpstream+"\n}\nhandle {\n"+toUpstream+"\n}")
	v := newCaddyVisitor(t, c, p)
	for _, path := range []string{"/admin/x", "/nested/x", "/x"} {
		v.signIn("/admin/x")
		copied := "Cookie: " + cookieHeader(v)
		v.leave("/oauth2/logout", path)
		for _, path := range []string{"/admin/x", "/nested/x", "/x"} {
			v.wantRefusal(v.Get(v.url(path), "Accept: application/json", copied), http.StatusUnauthorized, "no_credentials")
		}
	}
}

// Of two providers on one host, a logout at one is none at the other.
func TestLogoutOfOneOfTwoProviders(t *testing.T) {
	staff, customers := optest.New(t, optest.WithEndSession()), optest.New(t, optest.WithEndSession())
	customers.SetUser(optest.Claims{"sub": "carol"})
	c := startCaddy(t, webapp(staff, "/staff/*", "path_prefix /staff/auth")+webapp(customers, "", "")+toUpstream)
	atStaff, atShop := newCaddyVisitor(t, c, staff), newCaddyVisitor(t, c, customers)
	atShop.Browser = atStaff.Browser // one person, one browser
	atStaff.signIn("/staff/x")
	atShop.signIn("/x")
	state := ""
	staff.SetLogoutState(func(sent string) string { state = sent; return sent })
	atStaff.leave("/staff/auth/logout", "/staff/x")
	if r := atShop.Get(atShop.url("/x"), "Accept: application/json"); r.Status != http.StatusOK || c.advance() != 1 {
		t.Errorf("at the other provider: got %d", r.Status)
	}
	if len(customers.Logouts()) != 0 || len(customers.SSOSessions()) != 1 {
		t.Errorf("the other provider was asked %+v", customers.Logouts())
	}
	// the state of one says nothing to the other
	own := atStaff.Get(atStaff.url("/staff/auth/logged-out?state="+state), linked...)
	other := atShop.Get(atShop.url("/oauth2/logged-out?state="+state), linked...)
	if !strings.Contains(own.Body, detailSignedOutThere) || strings.Contains(other.Body, detailSignedOutThere) || state == "" {
		t.Errorf("%s and %s", shown(own), shown(other))
	}
	atShop.leave("/oauth2/logout", "/x")
}

// With a cookie of a whole domain, a logout at one host is one at all of them.
func TestLogoutUnderACookieDomain(t *testing.T) {
	t.Parallel()
	p := optest.New(t, optest.WithEndSession())
	s := newSecureLoginSite(t, p, "redirect_uri https://login.example.com/oauth2/callback\nsession {\ncookie_domain example.com\n}")
	hosts := []string{"a.example.com", "b.example.com", "login.example.com", "example.com", "evilexample.com"}
	v := newDomainVisitor(t, s, p, hosts...)
	a, b := v.on("a.example.com"), v.on("b.example.com")
	a.signIn("/")
	copied := "Cookie: " + cookieHeader(a)
	b.wantSession(true)
	asked := b.wantLogout(b.signOut())
	if got := asked.Get("post_logout_redirect_uri"); got != "https://b.example.com/oauth2/logged-out" {
		t.Errorf("post_logout_redirect_uri %q", got)
	}
	for _, host := range hosts[:4] {
		v := v.on(host)
		v.wantSession(false)
		v.wantRefusal(v.Get(v.url("/data"), "Accept: application/json", copied), http.StatusUnauthorized, "no_credentials")
		v.wantSignedOut(v.Get(v.url("/oauth2/logged-out?state="+asked.Get("state")), linked...), detailSignedOutThere)
	}
	stranger := v.on("evilexample.com")
	stranger.wantNothingGiven(stranger.Get(stranger.url("/oauth2/logout"), clicked...))
}
