package openidconnect

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// newDomainVisitor is somebody at the hosts of a domain, all of which lead to one site.
func newDomainVisitor(t *testing.T, s *site, p *optest.Provider, hosts ...string) *visitor {
	t.Helper()
	v := newVisitor(t, s, p)
	v.TrustAll()
	for _, host := range hosts {
		v.Resolve(host, strings.TrimPrefix(s.server.URL, "https://"))
	}
	return v
}

// on returns the same person, with the same browser, at another host.
func (v *visitor) on(host string) *visitor {
	moved := *v
	moved.origin = "https://" + host
	return &moved
}

// One login is good for all hosts of a domain, and one redirect URI is enough for it.
func TestCookieDomain(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	const callback = "https://login.example.com/oauth2/callback"
	p.SetRedirectURIs(callback)
	hosts := []string{"example.com", "a.example.com", "b.example.com", "login.example.com", "evilexample.com", "example.com.evil.test"}
	s := newSecureLoginSite(t, p, "redirect_uri "+callback+"\nsession {\ncookie_domain example.com\n}")
	v := newDomainVisitor(t, s, p, hosts...)

	v.on("a.example.com").signIn("/page?x=1")
	before := hitsOf(p)
	for _, host := range []string{"example.com", "a.example.com", "b.example.com", "login.example.com"} {
		v.on(host).wantSession(true)
	}
	wantHits(t, p, before, hits{})
	for _, cookie := range v.Cookies("https://b.example.com/") {
		if isSessionName(cookie.Name) && (cookie.Domain != "example.com" || !strings.HasPrefix(cookie.Name, "__Secure-oidc-") || !cookie.Secure) {
			t.Errorf("the cookie of the session is %s", cookie)
		}
	}
	if len(v.Dropped) != 0 {
		t.Errorf("the browser dropped %v", v.Dropped)
	}

	t.Run("the callback's own host", func(t *testing.T) {
		newDomainVisitor(t, s, p, hosts...).on("login.example.com").signIn("/page")
	})
	t.Run("hosts that only look like it", func(t *testing.T) {
		for _, host := range []string{"evilexample.com", "example.com.evil.test"} {
			stranger := v.on(host)
			stranger.wantPage(stranger.open("/"), http.StatusBadRequest, "invalid_host")
		}
	})
	t.Run("a return URL of another host", func(t *testing.T) {
		v := newDomainVisitor(t, s, p, hosts...).on("a.example.com")
		for _, target := range []string{"https://evilexample.com/", "https://example.com.evil.test/", "https://b.example.com/x", "//b.example.com/x"} {
			landed := v.Navigate(v.url("/oauth2/login?prompt=login&return_to=" + target))
			if landed.URL != v.url("/") {
				t.Errorf("%s: landed on %s", target, landed.URL)
			}
			s.advance()
		}
	})
}

// Without a domain each host has sessions of its own, and a cookie that is carried from one to the other opens nothing there.
func TestEachHostHasItsOwnSessions(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newSecureLoginSite(t, p, "")
	v := newDomainVisitor(t, s, p, "a.example.com", "b.example.com")
	v.on("a.example.com").signIn("/")
	v.on("a.example.com").wantSession(true)
	v.on("b.example.com").wantSession(false)
	carried := "Cookie: " + cookieHeader(v.on("a.example.com"))
	for host, want := range map[string]int{"a.example.com": http.StatusOK, "b.example.com": http.StatusUnauthorized} {
		if r := v.Get("https://"+host+"/", carried, "Accept: application/json"); r.Status != want {
			t.Errorf("%s: got %d, want %d", host, r.Status, want)
		}
	}
	s.advance()
	v.on("b.example.com").signIn("/")
	v.on("a.example.com").wantSession(true)
}

// Two providers on one host, with prefixes of their own, know nothing of each other.
func TestTwoClientsOnOneHost(t *testing.T) {
	t.Parallel()
	p, q := optest.New(t), optest.New(t)
	p.SetUser(optest.Claims{"sub": "of p"})
	q.SetUser(optest.Claims{"sub": "of q"})
	one := newLoginSite(t, p, "set_userinfo_header off\nclaim_header X-User sub")
	two := newLoginSite(t, q, "set_userinfo_header off\nclaim_header X-User sub\npath_prefix /second")
	v := newVisitor(t, one, p)
	v.signIn("/")
	moved := v.at(two)
	moved.provider = q
	moved.wantSession(false)
	moved.signIn("/")
	for site, user := range map[*site]string{one: "of p", two: "of q"} {
		v.at(site).wantSession(true)
		site.wantHeaders(map[string]string{"X-User": user})
	}
}
