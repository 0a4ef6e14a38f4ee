package openidconnect

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// renewingCaddy is somebody who is signed in at a whole Caddy.
type renewingCaddy struct {
	*renewing
	caddy *caddySite
}

// newRenewingCaddy runs a site with this configuration, and signs somebody in at /.
func newRenewingCaddy(t *testing.T, p *optest.Provider, site string) *renewingCaddy {
	t.Helper()
	p.SetRefreshTokens(true)
	t.Cleanup(func() { wantNoReuse(t, p) })
	c := startCaddy(t, site)
	l := newTimeline(p)
	l.ruleAll()
	r := &renewingCaddy{&renewing{newCaddyVisitor(t, c, p), l}, c}
	r.Now = l.now
	r.signIn("/")
	return r
}

// ruleAll has all handlers of the running Caddy go by this time.
func (l *timeline) ruleAll() {
	for h := range originsOfHandlers(caddy.ActiveContext()) {
		h.runtime.now = l.now
	}
}

// reload loads another configuration in the place of the one that runs.
func (r *renewingCaddy) reload(site string) {
	r.t.Helper()
	if err := r.caddy.load(site); err != nil {
		r.t.Fatal(err)
	}
	r.origin = r.caddy.url("")
	r.ruleAll()
}

// local is a site with handlers that keep to themselves, as they do on the storage that Caddy has by default.
func local(p *optest.Provider, matcher, settings string) string {
	return webapp(p, matcher, withToken+"refresh_coordination local\n"+settings)
}

// A reload forgets nothing of renewals: late requests get the newest generation, and no spent token is presented.
func TestRenewalsSurviveReloads(t *testing.T) {
	const other = "another secret of these tests"
	withSecrets := func(secrets ...string) string { return "session {\nsecret \"" + strings.Join(secrets, `" "`) + "\"\n}" }
	for name, test := range map[string]struct{ before, after string }{
		"unchanged":          {"", ""},
		"another header":     {"", "claim_header X-User sub"},
		"another leeway":     {"", "access_token_expires_leeway 5s"},
		"another grace":      {"", "refresh_grace 1s"}, // what was granted stays
		"another secret":     {withSecrets(sessionSecret), withSecrets(other, sessionSecret)},
		"another budget":     {withSecrets(sessionSecret), strings.Replace(withSecrets(sessionSecret), "}", "max_cookie_bytes 8000\n}", 1)},
		"another idle time":  {withSecrets(sessionSecret), strings.Replace(withSecrets(sessionSecret), "}", "idling_timeout 3h\n}", 1)},
		"an absolute one":    {withSecrets(sessionSecret), strings.Replace(withSecrets(sessionSecret), "}", "absolute_timeout 3h\n}", 1)},
		"another timeout":    {"", "timeout 6s"},
		"renewed by storage": {"", "refresh_coordination storage"},
	} {
		t.Run(name, func(t *testing.T) {
			p := optest.New(t)
			site := func(settings string) string {
				text := local(p, "", settings) + toUpstream
				if strings.Contains(settings, "refresh_coordination") {
					text = strings.Replace(text, "refresh_coordination local\n", "", 1)
				}
				return text
			}
			r := newRenewingCaddy(t, p, site(test.before))
			old := r.cookie()
			r.pass(tokenLife)
			newest := r.wantServed(1)
			r.reload(site(test.after))
			if late := r.wantServed(1, "Cookie: "+old); late.token != newest.token {
				t.Error("a late request gets another token")
			}
			if got := r.wantServed(1, "Cookie: "+newest.set); got.token != newest.token {
				t.Error("the newest cookie is of another token")
			}
			r.pass(defaultRefreshGrace)
			r.wantAnonymous("Cookie: " + old)
			r.reload(site(test.after))
			r.wantAnonymous("Cookie: " + old)
			r.pass(tokenLife)
			r.wantServed(2)
		})
	}
}

// A renewal that is under way when the configuration is replaced is that of the new one too.
func TestReloadDuringARenewal(t *testing.T) {
	p := optest.New(t)
	site := func(settings string) string { return local(p, "", settings) + toUpstream }
	r := newRenewingCaddy(t, p, site(""))
	old := "Cookie: " + r.cookie()
	r.pass(tokenLife)
	p.FailRefresh(optest.Fault{Delay: time.Second})
	ask := func() chan served {
		answer := make(chan served, 1)
		one := r.clone()
		go func() { answer <- one.ask(old) }()
		return answer
	}
	first := ask()
	p.WaitForHits(t, optest.Token, 2)
	r.reload(site("claim_header X-User sub")) // while the old one waits
	second := ask()
	a, b := <-first, <-second
	if a.Status != http.StatusOK || b.Status != http.StatusOK || a.token == "" || a.token != b.token || a.set != b.set || a.set == "" {
		t.Errorf("got %d and %d, the same token: %t, the same cookie: %t", a.Status, b.Status, a.token == b.token, a.set == b.set)
	}
	r.wantGrants(1)
}

// Handlers that share a session share its renewals, whatever their own rules about them are.
func TestRenewalsOfSiblings(t *testing.T) {
	p := optest.New(t)
	r := newRenewingCaddy(t, p, local(p, "/often/*", "refresh_session_interval 1m")+local(p, "/seldom/*", "access_token_expires_leeway 0")+
		local(p, "/end/*", "refresh_failure end")+
		webapp(p, "/plain/*", "refresh_coordination local")+local(p, "", "")+toUpstream)
	at := func(path string, cookies ...string) served {
		t.Helper()
		var headers []string
		for _, cookie := range cookies {
			headers = append(headers, "Cookie: "+cookie)
		}
		got := servedOf(t, r.Get(r.url(path), headers...))
		if got.Status != http.StatusOK {
			t.Errorf("%s: got %d (%s)", path, got.Status, got.reason)
		}
		return got
	}
	login := r.cookie()
	first := at("/seldom/")
	r.pass(time.Minute)
	renewed := at("/often/")
	r.wantGrants(1)
	if renewed.token == first.token || renewed.set == "" {
		t.Error("no renewal at the interval")
	}
	if got := at("/seldom/"); got.token != renewed.token || got.set != "" {
		t.Error("a sibling does not know the session that was renewed")
	}
	if got := at("/often/", login); got.token != renewed.token || got.set != renewed.set {
		t.Error("a late request at the sibling that renews often does not get the newest")
	}
	if got := at("/seldom/", login); got.token != renewed.token || got.set != renewed.set {
		t.Error("nor at the one to which it is not due")
	}
	at("/plain/")
	r.wantGrants(1)
	r.pass(tokenDue)
	at("/often/")
	at("/plain/")
	at("/")
	r.wantGrants(2)
	r.pass(tokenLife)
	all := []string{"/often/", "/seldom/", "/plain/", "/end/", "/"}
	for _, path := range all {
		at(path)
	}
	r.wantGrants(3)

	t.Run("and the end of it", func(t *testing.T) {
		p.FailRefresh(optest.Fault{Status: http.StatusBadGateway})
		r.pass(tokenLife)
		if got := r.clone().ask(); got.Status != http.StatusServiceUnavailable {
			t.Errorf("at first: got %d (%s)", got.Status, got.reason)
		}
		p.HealRefresh()
		p.RevokeRefreshTokens()
		r.pass(maxPause)
		for _, path := range all {
			if got := servedOf(t, r.clone().Get(r.url(path))); got.Status != http.StatusUnauthorized {
				t.Errorf("%s: got %d (%s)", path, got.Status, got.reason)
			}
		}
	})
}

// Of nested handlers the outer one renews the session, and the inner one finds it renewed: one grant, and one cookie in the answer.
func TestRenewalsOfNestedHandlers(t *testing.T) {
	p := optest.New(t)
	inner := local(p, "", "required_claim sub alice\nclaim_header X-Inner sub")
	r := newRenewingCaddy(t, p, local(p, "", "claim_header X-Outer sub")+"handle /admin/* {\n"+inner+toUpstream+"\n}\nhandle {\n"+toUpstream+"\n}")
	old := r.cookie()
	for n, path := range []string{"/admin/x", "/x", "/admin/y"} {
		r.pass(tokenLife)
		got := servedOf(t, r.Get(r.url(path)))
		if got.Status != http.StatusOK || got.set == "" || len(sessionsIn(got.Response)) != 1 {
			t.Errorf("%s: got %d (%s), Set-Cookie %q", path, got.Status, got.reason, got.Header.Values("Set-Cookie"))
		}
		if header := r.caddy.last(t).Header; header.Get("X-Access-Token") != got.token || (header.Get("X-Inner") != "") != strings.HasPrefix(path, "/admin") {
			t.Errorf("%s: the upstream got %v", path, header)
		}
		r.wantGrants(n + 1)
	}
	newest := r.wantServed(3)
	if got := r.wantServed(3, "Cookie: "+r.cookie()); got.token != newest.token || got.set != "" {
		t.Error("the newest session is renewed again")
	}
	r.wantAnonymous("Cookie: " + old)
}

// Of two providers, one within the other, the slow answer of the inner one does not bring back what the outer one has renewed since.
func TestLateAnswersOfNestedHandlers(t *testing.T) {
	outer, inner := optest.New(t), optest.New(t)
	inner.SetRefreshTokens(true)
	outer.SetAccessLifetime(time.Hour)
	inner.SetAccessLifetime(time.Hour)
	r := newRenewingCaddy(t, outer, local(outer, "", "")+"handle /b/* {\n"+local(inner, "", "path_prefix /b/oauth2")+toUpstream+"\n}\nhandle {\n"+toUpstream+"\n}")
	if landed := r.Navigate(r.url("/b/x")); landed.Status != http.StatusOK {
		t.Fatalf("landed on %s with %d: %s", landed.URL, landed.Status, landed.Body)
	}
	names := r.cookieNames()
	if len(names) != 2 {
		t.Fatalf("the browser has %q", names)
	}
	for _, test := range []struct {
		name    string
		between bool
		want    int
	}{{"and nothing happens", false, 2}, {"and the outer one is renewed", true, 1}} {
		t.Run(test.name, func(t *testing.T) {
			r := r.clone()
			upstream := r.delay()
			r.pass(10 * time.Minute) // both are reissued
			inner.Advance(10 * time.Minute)
			answer := upstream.begin(r, "/b/slow", "Accept: application/json")
			if test.between {
				r.pass(time.Hour)
				inner.Advance(time.Hour)
				if got := r.ask(); got.Status != http.StatusOK || outer.RefreshGrants() != 1 {
					t.Errorf("the outer one: got %d (%s) with %d grants", got.Status, got.reason, outer.RefreshGrants())
				}
			}
			upstream.finish()
			if late := <-answer; late.Status != http.StatusOK || len(sessionsIn(late.Response)) != test.want {
				t.Errorf("the slow answer: got %d with %q, want %d cookies", late.Status, late.Header.Values("Set-Cookie"), test.want)
			}
		})
	}
}

// With a cookie of a whole domain, what one host has renewed is renewed for all.
func TestRenewalsUnderACookieDomain(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetRefreshTokens(true)
	s := newSecureLoginSite(t, p, withToken+"refresh_coordination local\nredirect_uri https://a.example.com/oauth2/callback\nsession {\ncookie_domain example.com\n}")
	l := newTimeline(p)
	l.rule(s)
	v := newDomainVisitor(t, s, p, "a.example.com", "b.example.com")
	v.Now = l.now
	a, b := &renewing{v.on("a.example.com"), l}, &renewing{v.on("b.example.com"), l}
	a.signIn("/")
	old := a.cookie()
	a.pass(tokenLife)
	renewed := a.wantServed(1)
	if got := b.wantServed(1); got.token != renewed.token || got.set != "" {
		t.Error("the other host does not get the renewed session")
	}
	if got := b.wantServed(1, "Cookie: "+old); got.token != renewed.token || got.set != renewed.set {
		t.Error("a late request at the other host does not get the newest session")
	}
	if names := b.cookieNames(); len(names) != 1 || !slices.Equal(names, a.cookieNames()) {
		t.Errorf("the browser has %q", names)
	}
	b.pass(tokenLife)
	b.wantServed(2)
	a.wantServed(2)
	wantNoReuse(t, p)
}
