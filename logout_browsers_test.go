package openidconnect

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Logouts in browsers, with the cookies that those send.

// Of the same things on pages here, on a sibling and elsewhere, those of the user's will end the session, and no others, whatever the
// cookies let through (S-212).
func TestS212LogoutsInBrowsers(t *testing.T) {
	t.Parallel()
	const logout = "/oauth2/logout"
	const here, sibling, evil = "https://app.example.com/page", "https://www.example.com/", "https://evil.test/"
	for sameSite, settings := range map[string]string{
		"lax": "", "strict": "session {\ncookie_same_site strict\n}", "none": "session {\ncookie_same_site none\n}",
	} {
		for name, test := range map[string]struct {
			act  func(v *visitor) *optest.Response
			ends bool
		}{
			"typed":               {func(v *visitor) *optest.Response { return v.Navigate(v.url(logout)) }, true},
			"a link here":         {func(v *visitor) *optest.Response { return v.NavigateFrom(here, v.url(logout)) }, true},
			"a link of a sibling": {func(v *visitor) *optest.Response { return v.NavigateFrom(sibling, v.url(logout)) }, true},
			"a form here":         {func(v *visitor) *optest.Response { return v.Submit(here, v.url(logout), url.Values{"x": {"y"}}) }, true},
			"a form of a sibling": {func(v *visitor) *optest.Response { return v.Submit(sibling, v.url(logout), nil) }, true},
			"a script here": {func(v *visitor) *optest.Response {
				return v.Fetch(here, http.MethodPost, v.url(logout), "")
			}, true},
			"a link elsewhere":   {func(v *visitor) *optest.Response { return v.NavigateFrom(evil, v.url(logout)) }, false},
			"a form elsewhere":   {func(v *visitor) *optest.Response { return v.Submit(evil, v.url(logout), url.Values{"x": {"y"}}) }, false},
			"a frame here":       {func(v *visitor) *optest.Response { return v.Frame(here, v.url(logout)) }, false},
			"a frame elsewhere":  {func(v *visitor) *optest.Response { return v.Frame(evil, v.url(logout)) }, false},
			"an image here":      {func(v *visitor) *optest.Response { return v.Image(here, v.url(logout)) }, false},
			"an image elsewhere": {func(v *visitor) *optest.Response { return v.Image(evil, v.url(logout)) }, false},
			"a fetch here":       {func(v *visitor) *optest.Response { return v.Fetch(here, http.MethodGet, v.url(logout), "") }, false},
			"a fetch elsewhere":  {func(v *visitor) *optest.Response { return v.Fetch(evil, http.MethodGet, v.url(logout), "") }, false},
			"a script elsewhere": {func(v *visitor) *optest.Response { return v.Fetch(evil, http.MethodPost, v.url(logout), "x=y") }, false},
			"a plain text one": {func(v *visitor) *optest.Response {
				return v.Fetch(evil, http.MethodPost, v.url(logout), "x", "Content-Type: text/plain")
			}, false},
			"a preflighted one": {func(v *visitor) *optest.Response {
				return v.Fetch(evil, http.MethodPut, v.url(logout), "{}", "Content-Type: application/json")
			}, false},
			"the landing elsewhere": {func(v *visitor) *optest.Response { return v.NavigateFrom(evil, v.url("/oauth2/logged-out")) }, false},
			"a page in a frame":     {func(v *visitor) *optest.Response { return v.Frame(evil, v.url("/oauth2/logged-out?state=x")) }, false},
		} {
			t.Run(sameSite+"/"+name, func(t *testing.T) {
				t.Parallel()
				p := optest.New(t, optest.WithEndSession())
				s := newSecureLoginSite(t, p, settings)
				v := newDomainVisitor(t, s, p, "app.example.com", "www.example.com", "evil.test").on("app.example.com")
				v.Navigate(v.url("/page"))
				v.Get(v.url("/page"), clicked...)
				v.wantSession(true)
				answer := test.act(v)
				v.upstream.advance()
				v.wantSession(!test.ends)
				if len(v.kept(isSessionName)) == 0 != test.ends {
					t.Errorf("the browser has %v", v.kept(isSessionName))
				}
				if !test.ends && strings.HasPrefix(answer.Header.Get("Content-Type"), "text/html") && answer.FramableBy(evil) {
					t.Errorf("the answer can be framed: %v", answer.Header)
				}
			})
		}
	}
}

// Who is brought here from elsewhere gets a page with one link, and that link is a way out: in new browsers, in older ones, and under strict,
// where nobody can know yet whether there is a session.
func TestQuestionLeadsToTheLogout(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]string{
		"lax": "", "strict": "session {\ncookie_same_site strict\n}", "none": "session {\ncookie_same_site none\n}", "another path": "logout_path /bye",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t, optest.WithEndSession())
			s := newSecureLoginSite(t, p, settings)
			v := newDomainVisitor(t, s, p, "app.example.com", "evil.test").on("app.example.com")
			v.Navigate(v.url("/page"))
			v.Get(v.url("/page"), clicked...)
			v.wantSession(true)
			logout := "/oauth2/logout"
			if name == "another path" {
				logout = "/bye"
			}
			question := v.NavigateFrom("https://evil.test/", v.url(logout))
			v.wantNotice(question, "Sign out?", logout)
			v.wantSession(true)
			older := v.clone()
			older.wantNotice(older.Get(v.url(logout), acceptsPage, "Referer: https://evil.test/"), "Sign out?", logout)
			older.wantLogout(older.Get(v.url(logout), acceptsPage)) // the page has no referrer
			v.wantSession(false)
			v.Navigate(v.url("/page"))
			v.Get(v.url("/page"), clicked...)
			v.upstream.advance()
			landed := v.NavigateFrom(question.URL, v.url(logout))
			v.wantSignedOut(landed, detailSignedOutThere)
			v.wantSession(false)
		})
	}
}

// Nobody who is not signed in is sent to the provider, and what is left of cookies goes (S-215).
func TestLogoutWithoutASession(t *testing.T) {
	t.Parallel()
	p := optest.New(t, optest.WithEndSession(), optest.WithRevocation())
	s := newLoginSite(t, p, "revoke_tokens_on_logout\nsession {\nidling_timeout 10m\n}")
	other := newLoginSite(t, p, "client_id other")
	signedIn := newVisitor(t, s, p)
	signedIn.signIn("/")
	cookie := signedIn.kept(isSessionName)[0]
	p.SetIntrospectionClient("other", "secret")
	stranger := newVisitor(t, other, p)
	stranger.signIn("/")
	foreign := stranger.kept(isSessionName)[0].Value
	p.SetIntrospectionClient("client", "secret")
	before := hitsOf(p)
	long := strings.Repeat("A", 3000)
	for name, test := range map[string]struct {
		cookies []string // name=value
		deletes bool
	}{
		"nothing":             {nil, false},
		"other cookies":       {[]string{"theme=dark", "optest-sso-1=x"}, false},
		"changed":             {[]string{cookie.Name + "=" + flipped(cookie.Value, len(cookie.Value)/2)}, true},
		"cut":                 {[]string{cookie.Name + "=" + cookie.Value[:20]}, true},
		"rubbish":             {[]string{cookie.Name + "=x"}, true},
		"empty":               {[]string{cookie.Name + "="}, true},
		"of another client":   {[]string{cookie.Name + "=" + foreign}, true},
		"chunks":              {[]string{cookie.Name + ".0=" + long, cookie.Name + ".1=" + long, cookie.Name + ".7=" + long}, true},
		"both":                {[]string{cookie.Name + "=x", cookie.Name + ".0=y", "theme=dark"}, true},
		"logins that are old": {[]string{cookie.Name + "-t-abcdefghij=x", "theme=dark"}, true},
	} {
		for kind, headers := range map[string][]string{"link": clicked, "form": nil, "script": metadata("same-origin", "cors", "empty")} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				v := newVisitor(t, s, p)
				for _, pair := range test.cookies {
					name, value, _ := strings.Cut(pair, "=")
					v.SetCookie(v.url("/"), &http.Cookie{Name: name, Value: value, Path: "/"})
				}
				method := http.MethodGet
				if kind != "link" {
					method = http.MethodPost
				}
				r := v.Do(method, v.url("/oauth2/logout"), "", headers...)
				if kind == "script" {
					if target := v.wantLogoutURL(r); target != "/oauth2/logged-out" {
						t.Errorf("the script is sent to %s", target)
					}
				} else {
					v.wantSignedOut(r, "")
				}
				if deletes := r.Header.Get("Set-Cookie") != ""; deletes != test.deletes {
					t.Errorf("Set-Cookie %q", r.Header.Values("Set-Cookie"))
				}
				own := func(name string) bool { return strings.HasPrefix(name, cookie.Name) }
				if kept := v.kept(own); len(kept) != 0 {
					t.Errorf("the browser still has %v", kept)
				}
				for _, pair := range test.cookies {
					name, _, _ := strings.Cut(pair, "=")
					if left := len(v.kept(func(other string) bool { return other == name })); !own(name) && left != 1 {
						t.Errorf("%s has gone", name)
					}
				}
			})
		}
	}
	t.Run("idle", func(t *testing.T) {
		v := signedIn.clone()
		v.t = t
		v.site.setNow(v.site.handler.runtime.now().Add(defaultAbsoluteTimeout))
		r := v.signOut()
		v.wantSignedOut(r, "")
		if len(v.kept(isSessionName)) != 0 {
			t.Error("the browser still has it")
		}
	})
	wantHits(t, p, before, hits{})
	if p.Hits(optest.EndSession) != 0 || p.Hits(optest.Revocation) != 0 || s.lines("logout") != 0 {
		t.Errorf("%d logouts, %d revocations at the provider, %d lines", p.Hits(optest.EndSession), p.Hits(optest.Revocation), s.lines("logout"))
	}
}
