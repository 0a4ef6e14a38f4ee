package openidconnect

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Where a logout ends, with whatever state.

// landingURL is that of the page which the provider sends browsers back to.
func landingURL(values url.Values) string {
	if len(values) == 0 {
		return "/oauth2/logged-out"
	}
	return "/oauth2/logged-out?" + values.Encode()
}

// Whatever comes back from the provider ends on a harmless page: no loop, no login, no word with the provider (C-076, S-214).
func TestC076LandingWithAnyState(t *testing.T) {
	t.Parallel()
	p := optest.New(t, optest.WithEndSession())
	s := newLoginSite(t, p, "")
	other := newLoginSite(t, p, "path_prefix /oauth2\nclient_id other")
	v, elsewhere := newVisitor(t, s, p), newVisitor(t, s, p)
	v.signIn("/")
	good := v.wantLogout(v.signOut()).Get("state")
	login := v.begin("/page").Get("state")
	begun := v.clone()
	v.lose(isTransactionName)
	v.Resolve("app.example.com", strings.TrimPrefix(s.server.URL, "http://"))

	// the same at another host, and of another client under the same secret
	elsewhere.Resolve("app.example.com", strings.TrimPrefix(s.server.URL, "http://"))
	elsewhere.origin = "http://app.example.com"
	elsewhere.signIn("/")
	ofHost := elsewhere.wantLogout(elsewhere.signOut()).Get("state")
	p.SetIntrospectionClient("other", "secret")
	stranger := newVisitor(t, other, p)
	stranger.signIn("/")
	ofClient := stranger.wantLogout(stranger.signOut()).Get("state")
	p.SetIntrospectionClient("client", "secret")

	before, logouts := hitsOf(p), p.Hits(optest.EndSession)
	for name, test := range map[string]struct {
		values url.Values
		good   bool
	}{
		"right":                  {url.Values{"state": {good}}, true},
		"right, and more":        {url.Values{"state": {good}, "code": {"x"}, "iss": {p.Issuer()}, "error": {"x"}}, true},
		"none":                   {nil, false},
		"empty":                  {url.Values{"state": {""}}, false},
		"twice":                  {url.Values{"state": {good, good}}, false},
		"right and wrong":        {url.Values{"state": {good, "x"}}, false},
		"wrong and right":        {url.Values{"state": {"x", good}}, false},
		"by another name":        {url.Values{"State": {good}}, false},
		"changed":                {url.Values{"state": {flipped(good, len(good)/2)}}, false},
		"changed at its front":   {url.Values{"state": {flipped(good, 0)}}, false},
		"changed at its end":     {url.Values{"state": {flipped(good, len(good)-2)}}, false},
		"cut":                    {url.Values{"state": {good[:len(good)-1]}}, false},
		"longer":                 {url.Values{"state": {good + "A"}}, false},
		"padded":                 {url.Values{"state": {good + "="}}, false},
		"of a login":             {url.Values{"state": {login}}, false},
		"of another host":        {url.Values{"state": {ofHost}}, false},
		"of another client":      {url.Values{"state": {ofClient}}, false},
		"somebody's own":         {url.Values{"state": {"af0ifjsldkj"}}, false},
		"a script":               {url.Values{"state": {"<script>alert(1)</script>"}}, false},
		"binary":                 {url.Values{"state": {"\x00\xff\r\nSet-Cookie: a=b"}}, false},
		"very long":              {url.Values{"state": {strings.Repeat(good, 100)}}, false},
		"a session's cookie":     {url.Values{"state": {begun.kept(isTransactionName)[0].Value}}, false},
		"with an error":          {url.Values{"error": {"access_denied"}, "error_description": {"<b>no</b>"}}, false},
		"where to go afterwards": {url.Values{"return_to": {"https://evil.example/"}, "rd": {"//evil.example"}, "post_logout_redirect_uri": {"https://evil.example/"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			v := *v
			v.t = t
			detail := ""
			if test.good {
				detail = detailSignedOutThere
			}
			for _, headers := range [][]string{linked, typed, clicked, {"Accept: text/html"}, {"Accept: application/json"}, append([]string{"Sec-Purpose: prefetch"}, linked...)} {
				r := v.Get(v.url(landingURL(test.values)), headers...)
				v.wantSignedOut(r, detail)
				if r.Header.Get("Set-Cookie") != "" || strings.Contains(r.Body, "evil") || strings.Contains(r.Body, "<b>") || strings.Contains(r.Body, "script") {
					t.Errorf("Set-Cookie %q: %s", r.Header.Values("Set-Cookie"), shown(r))
				}
			}
			if landed := v.Navigate(v.url(landingURL(test.values))); len(landed.Steps) != 1 {
				t.Errorf("it leads on to %s", landed.URL)
			}
			if r := v.Do(http.MethodHead, v.url(landingURL(test.values)), "", linked...); r.Status != http.StatusOK || r.Body != "" {
				t.Errorf("HEAD got %d: %s", r.Status, r.Body)
			}
		})
	}
	wantHits(t, p, before, hits{})
	if n := p.Hits(optest.EndSession) - logouts; n != 0 {
		t.Errorf("the provider was asked %d times to end a session", n)
	}
	v.wantSession(false)

	t.Run("the callback takes none of a logout", func(t *testing.T) {
		v := *begun
		v.t = t
		for _, answer := range []url.Values{{"code": {"x"}, "state": {good}}, {"state": {good}}, {"error": {"x"}, "state": {good}}} {
			r := v.Get(v.url("/oauth2/callback?"+answer.Encode()), linked...)
			if r.Status != http.StatusBadRequest || len(sessionsIn(r)) != 0 {
				t.Errorf("got %d: %s", r.Status, shown(r))
			}
		}
		wantHits(t, p, before, hits{})
	})
	t.Run("somebody who is signed in stays so", func(t *testing.T) {
		v := newVisitor(t, s, p)
		v.signIn("/")
		for _, values := range []url.Values{nil, {"state": {good}}, {"state": {"x"}}} {
			r := v.Get(v.url(landingURL(values)), linked...)
			if r.Status != http.StatusOK || r.Header.Get("Set-Cookie") != "" {
				t.Errorf("got %d, Set-Cookie %q", r.Status, r.Header.Values("Set-Cookie"))
			}
			v.upstream.advance()
			v.wantSession(true)
		}
	})
}

// A state is good for as long as a provider may take with a logout, and each is another one (C-075).
func TestC075StatesAreUnguessableAndGrowOld(t *testing.T) {
	t.Parallel()
	v, _ := newSignedIn(t, "")
	start := v.site.handler.runtime.now()
	var states []string
	for range 5 {
		state := v.wantLogout(v.signOut()).Get("state")
		if len(state) < 40 || slices.Contains(states, state) {
			t.Errorf("the state %q is not a new one", state)
		}
		states = append(states, state)
		for n := range 8 { // they have no part in common that would be worth guessing the rest
			at := len(state) * n / 8
			for _, earlier := range states[:len(states)-1] {
				if n > 0 && at+8 <= len(earlier) && earlier[at:at+8] == state[at:at+8] {
					t.Errorf("two states have %q in common", state[at:at+8])
				}
			}
		}
		v.signIn("/")
	}
	state := v.wantLogout(v.signOut()).Get("state")
	at := func(age time.Duration) *optest.Response {
		v.site.setNow(start.Add(age))
		return v.Get(v.url(landingURL(url.Values{"state": {state}})), linked...)
	}
	v.wantSignedOut(at(time.Second), detailSignedOutThere)
	v.wantSignedOut(at(logoutStateLifetime-2*time.Second), detailSignedOutThere)
	for _, age := range []time.Duration{logoutStateLifetime + 10*time.Second, time.Hour, 365 * 24 * time.Hour} {
		v.wantSignedOut(at(age), "")
	}
}

// What the certification plan has the provider do with the state: rp-init-logout, -other-state and -no-state. However it comes back, the user
// is signed out (C-076).
func TestC076CertificationPlan(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(state string) string
		good   bool
	}{
		"rp-init-logout":             {nil, true},
		"rp-init-logout-other-state": {func(state string) string { return state + "x" }, false},
		"rp-init-logout-no-state":    {func(string) string { return "" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, p := newSignedIn(t, "")
			p.SetPostLogoutRedirectURIs(v.url("/oauth2/logged-out"))
			p.SetLogoutState(test.change)
			copied := cookieHeader(v)
			v.wantAlive(copied)
			before := hitsOf(p)
			landed := v.NavigateFrom(v.url("/"), v.url("/oauth2/logout"))
			detail := ""
			if test.good {
				detail = detailSignedOutThere
			}
			v.wantSignedOut(landed, detail)
			if logouts := p.Logouts(); len(logouts) != 1 || logouts[0].Refused != "" || !logouts[0].HintValid || len(p.SSOSessions()) != 0 {
				t.Errorf("the provider was asked %+v", logouts)
			}
			wantHits(t, p, before, hits{})
			v.wantSession(false)
			v.wantDead(copied)
		})
	}
}

// The session has ended here before the provider has heard of it, and whatever becomes of that (C-077).
func TestC077ProviderThatNeverSendsBack(t *testing.T) {
	t.Parallel()
	for name, misbehave := range map[string]func(p *optest.Provider){
		"shows a page of its own": func(p *optest.Provider) { p.SetLogoutRedirect(false) },
		"does not know the URI":   func(p *optest.Provider) { p.SetPostLogoutRedirectURIs("https://another.example.com/") },
		"fails":                   func(p *optest.Provider) { p.Fail(optest.EndSession, optest.Fault{Status: 500}) },
		"redirects elsewhere":     func(p *optest.Provider) { p.Fail(optest.EndSession, optest.Fault{Redirect: p.URL() + "/nowhere"}) },
		"has no such page":        func(p *optest.Provider) { p.Fail(optest.EndSession, optest.Fault{Status: 404}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, p := newSignedIn(t, "")
			copied := cookieHeader(v)
			v.wantAlive(copied)
			misbehave(p)
			landed := v.NavigateFrom(v.url("/"), v.url("/oauth2/logout"))
			if !strings.HasPrefix(landed.URL, p.URL()) || p.Hits(optest.EndSession) != 1 {
				t.Errorf("landed on %s with %d", landed.URL, landed.Status)
			}
			v.wantSession(false)
			v.wantDead(copied)
		})
	}
}
