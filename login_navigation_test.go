package openidconnect

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Where a login is not simply a redirect: forms, frames, strict cookies, preflights, pages of the site's own, and logins that lead nowhere.

func TestSection4FramedNavigationGetsALinkOutOfTheFrame(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	framed := []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe", "Sec-Fetch-Site: cross-site", "Accept: text/html"}
	t.Run("lax", func(t *testing.T) {
		v := newVisitor(t, newLoginSite(t, p, ""), p)
		v.begin("/x?y=z") // in a window of its own
		r := v.Get(v.url("/x?y=z"), framed...)
		v.wantPage(r, 401, "no_credentials")
		if !strings.Contains(r.Body, `<a href="/x?y=z" target="_blank" rel="noopener">`) {
			t.Errorf("the page has no link to a new tab: %s", r.Body)
		}
		if policy := r.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "frame-ancestors *") {
			t.Errorf("nobody can read it in the frame: %s", policy)
		}
		v.wantRefusal(v.Get(v.url("/"), "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: object"), 401, "no_credentials")
		r = v.Get(v.url("/oauth2/login?return_to=/x"), framed...)
		v.wantPage(r, 401, "no_credentials")
		if policy := r.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "frame-ancestors *") ||
			!strings.Contains(r.Body, `<a href="/oauth2/login?return_to=%2Fx" target="_blank" rel="noopener">`) {
			t.Errorf("the login has no link to a new tab, or not in the frame: %s %s", policy, r.Body)
		}
		v.signIn("/")
		same := slices.Concat(framed, []string{"Sec-Fetch-Site: same-origin"})
		v.wantRedirect(v.Get(v.url("/oauth2/login?return_to=/x"), same...), "/x")
	})
	t.Run("none", func(t *testing.T) {
		v := newVisitor(t, newSecureLoginSite(t, p, "session {\ncookie_same_site none\n}"), p)
		request := v.wantLogin(v.Get(v.url("/x?y=z"), framed...))
		r := v.Get(request.Get("redirect_uri")+"?"+v.answerTo(request).Encode(), framed...)
		v.wantRedirect(r, "/x?y=z")
		if cookie := strings.Join(r.Header.Values("Set-Cookie"), "\n"); !strings.Contains(cookie, "SameSite=None; HttpOnly; Secure") {
			t.Errorf("Set-Cookie %s", cookie)
		}
		if r := v.Get(v.url("/x?y=z"), framed...); r.Status != http.StatusOK {
			t.Errorf("in the frame afterwards: %d", r.Status)
		}
	})
}

func TestSection4PostNavigationWithoutASessionIsNeverRedirected(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "")
	v := newVisitor(t, s, p)
	v.signIn("/form?id=7")
	if r := v.Submit(v.url("/form?id=7"), v.url("/form"), url.Values{"a": {"b"}}); r.Status != http.StatusOK || s.last(t).body != "a=b" {
		t.Fatalf("a form with a session got %d", r.Status)
	}
	s.advance()
	v.ClearCookies()
	r := v.Submit(v.url("/form?id=7"), v.url("/form"), url.Values{"a": {"b"}})
	v.wantPage(r, 401, "no_credentials")
	if !strings.Contains(r.Body, "has not been passed on") || len(r.Steps) != 1 {
		t.Errorf("the page does not say that nothing was sent on: %s", r.Body)
	}
	r = v.Post(v.url("/form"), url.Values{"a": {"b"}}, append([]string{"Referer: " + v.url("/form?id=7")}, typed...)...)
	if want := `href="/oauth2/login?return_to=%2Fform%3Fid%3D7"`; !strings.Contains(r.Body, want) {
		t.Errorf("the way out is not %s: %s", want, r.Body)
	}
	r = v.Post(v.url("/form"), url.Values{"a": {"b"}}, append([]string{"Referer: https://evil.example/x"}, typed...)...)
	if strings.Contains(r.Body, "evil") || !strings.Contains(r.Body, `href="/oauth2/login"`) {
		t.Errorf("the way out: %s", r.Body)
	}
}

func TestSection2StrictCookiesComeBackByAPageThatReloadsItself(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	v := newVisitor(t, newSecureLoginSite(t, p, "session {\ncookie_same_site strict\n}"), p)
	elsewhere := "https://elsewhere.example/"
	leadsTo := func(r *optest.Response, path string) {
		t.Helper()
		if r.Status != http.StatusOK || !strings.Contains(r.Body, `http-equiv="refresh" content="0; url=`+path+`"`) ||
			r.Header.Get("Cache-Control") != "no-store" {
			t.Fatalf("got %d, %v, want a page that goes on to %s: %s", r.Status, r.Header, path, r.Body)
		}
		if n := v.upstream.advance(); n != 0 {
			t.Errorf("%d requests reached the upstream", n)
		}
	}
	// a link from another site, before there is a session
	leadsTo(v.NavigateFrom(elsewhere, v.url("/x?y=z")), "/x?y=z")
	// the page reloads itself, the login begins, and the callback ends on such a page too
	landed := v.NavigateFrom(v.url("/x?y=z"), v.url("/x?y=z"))
	leadsTo(landed, "/x?y=z")
	if !strings.HasPrefix(landed.URL, v.url("/oauth2/callback?")) {
		t.Fatalf("the login ended at %s", landed.URL)
	}
	for _, cookie := range v.kept(isSessionName) {
		if cookie.SameSite != http.SameSiteStrictMode || !cookie.Secure || !cookie.HttpOnly || !strings.HasPrefix(cookie.Name,
			"__Host-oidc-") {
			t.Errorf("the session's cookie is %s", cookie)
		}
	}
	for _, step := range landed.Steps {
		for _, cookie := range step.SetCookies {
			if isTransactionName(cookie.Name) && cookie.SameSite == http.SameSiteStrictMode {
				t.Errorf("a strict transaction: %s", cookie)
			}
		}
	}
	if r := v.NavigateFrom(landed.URL, v.url("/x?y=z")); r.Status != http.StatusOK || v.upstream.advance() != 1 {
		t.Errorf("after the login: %d", r.Status)
	}
	// a link from another site, with a session that does not come along
	leadsTo(v.NavigateFrom(elsewhere, v.url("/other")), "/other")
	if r := v.NavigateFrom(v.url("/other"), v.url("/other")); r.Status != http.StatusOK || v.upstream.advance() != 1 ||
		len(r.Steps) != 1 {
		t.Errorf("after the page's reload: %d", r.Status)
	}
	// typed, nothing is in the way
	if r := v.Navigate(v.url("/other")); r.Status != http.StatusOK || v.upstream.advance() != 1 {
		t.Errorf("typed: %d", r.Status)
	}
}

func TestSection4Preflight(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	preflight := []string{
		"Origin: https://elsewhere.example", "Access-Control-Request-Method: PUT", "Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty",
		"X-Userinfo: forged", "Cookie: a=b",
	}
	s := newLoginSite(t, p, "")
	v := newVisitor(t, s, p)
	v.wantRefusal(v.Do(http.MethodOptions, v.url("/"), "", preflight...), 401, "no_credentials")

	s = newLoginSite(t, p, "allow_preflight")
	v = newVisitor(t, s, p)
	if r := v.Do(http.MethodOptions, v.url("/"), "", preflight...); r.Status != http.StatusOK || s.advance() != 1 {
		t.Errorf("an allowed preflight got %d", r.Status)
	}
	if forged := s.last(t).Header["X-Userinfo"]; forged != nil {
		t.Errorf("the upstream got %q", forged)
	}
	v.wantRefusal(v.Do(http.MethodOptions, v.url("/"), "", "Origin: https://elsewhere.example"), 401, "no_credentials")
}

func TestSection4HandleErrorsGetsTheRefusalButNotThatOfOwnEndpoints(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "error_responses handle_errors\ndenied_claim sub mallory")
	v := newVisitor(t, s, p)
	handled := func(r *optest.Response, status int, reason string) {
		t.Helper()
		if r.Status != status || !strings.HasPrefix(r.Body, "handle_errors: ") || r.Header.Get("X-Handled-Reason") != reason {
			t.Errorf("got %d, %v, %s", r.Status, r.Header, r.Body)
		}
		if r.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("headers %v", r.Header)
		}
		v.wantNothingGiven(r)
	}
	request := v.begin("/") // a login is no refusal
	handled(v.Get(v.url("/")), 401, "no_credentials")
	answer := v.answerTo(request)
	answer.Add("code", "twice")
	v.wantPage(v.arrive(request, answer), 400, "duplicate_parameter")
	v.wantRefusal(v.Get(request.Get("redirect_uri")+"?error=access_denied"), 400, "provider_error")
	p.SetUser(optest.Claims{"sub": "mallory"})
	handled(v.Navigate(v.url("/")), 403, "claim_denied")
	p.Down()
	stranger := newVisitor(t, newLoginSite(t, optest.New(t), "error_responses handle_errors"), p)
	stranger.provider.Down()
	if r := stranger.Get(stranger.url("/oauth2/session")); r.Status != http.StatusOK {
		t.Errorf("/session got %d", r.Status)
	}
}

// Logins that nobody ever comes back from are ended by a page that says why.
func TestSection4LoopBreaker(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, settings string
		lose           func(v *visitor) // what becomes of the new session
		says           string
	}{
		{"the cookie never came back", "", func(v *visitor) { v.lose(isSessionName) }, "never came back"},
		{"the cookie could not be opened", "", func(v *visitor) {
			for _, cookie := range v.kept(isSessionName) {
				cookie.Value = randomText()
				v.SetCookie(v.url("/"), cookie)
			}
		}, "could not be opened"},
		{
			"the session was expired on arrival", "set_access_token_header", func(v *visitor) { v.later(2 * time.Second) },
			"expired on arrival",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t)
			p.SetTokenResponse(func(answer map[string]any) { answer["expires_in"] = 1 })
			s := newLoginSite(t, p, test.settings)
			v := newVisitor(t, s, p)
			logIn := func() {
				t.Helper()
				request := v.begin("/x?y=z")
				v.wantRedirect(v.arrive(request, v.answerTo(request)), "/x?y=z")
				test.lose(v)
			}
			for range 3 {
				logIn()
			}
			before := hitsOf(p)
			v.wantRefusal(v.Get(v.url("/")), 401, "no_credentials") // scripts hear of nothing else
			r := v.open("/x?y=z")
			v.wantPage(r, 400, "login_loop")
			if !strings.Contains(r.Body, test.says) {
				t.Errorf("the page does not say that it %s: %s", test.says, shown(r))
			}
			if !strings.Contains(r.Body, `href="/oauth2/login?return_to=%2Fx%3Fy%3Dz"`) {
				t.Errorf("the page offers no way out: %s", shown(r))
			}
			wantHits(t, p, before, hits{})
			lines := s.logs.FilterMessage("login loop ended").All()
			if len(lines) != 1 || lines[0].Level != zapcore.WarnLevel || !strings.Contains(lines[0].ContextMap()["got"].(string), test.says) {
				t.Errorf("log lines %v", lines)
			}
			// what the user then does is his own try
			request := v.wantLogin(v.open("/oauth2/login?return_to=%2Fx%3Fy%3Dz"))
			v.wantRedirect(v.arrive(request, v.answerTo(request)), "/x?y=z")
			v.wantSession(true)
		})
	}

	t.Run("no loop while requests are passed on between the logins", func(t *testing.T) {
		t.Parallel()
		p := optest.New(t)
		v := newVisitor(t, newLoginSite(t, p, ""), p)
		for range 5 {
			v.signIn("/")
			v.lose(isSessionName)
		}
	})
	t.Run("no loop after a minute", func(t *testing.T) {
		t.Parallel()
		p := optest.New(t)
		v := newVisitor(t, newLoginSite(t, p, ""), p)
		for range 6 {
			request := v.begin("/")
			v.wantRedirect(v.arrive(request, v.answerTo(request)), "/")
			v.lose(isSessionName)
			v.later(21 * time.Second)
		}
	})
}
