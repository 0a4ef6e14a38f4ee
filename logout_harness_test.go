package openidconnect

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// clicked is what browsers say when somebody follows a link of the site itself.
var clicked = []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Sec-Fetch-Site: same-origin", "Accept: text/html,*/*;q=0.8"}

// signOut follows the link to the logout, and stays where that leads away from the site.
func (v *visitor) signOut(headers ...string) *optest.Response {
	v.t.Helper()
	return v.Get(v.url("/oauth2/logout"), append(slices.Clone(clicked), headers...)...)
}

// wantLogout checks that a response ends the session of the browser and leads to the provider, and returns what it is asked there.
func (v *visitor) wantLogout(r *optest.Response) url.Values {
	v.t.Helper()
	endpoint, query, _ := strings.Cut(r.Location(), "?")
	if want, _, _ := strings.Cut(v.provider.Endpoint(optest.EndSession), "?"); r.Status != http.StatusFound || endpoint != want {
		v.t.Fatalf("got %d and %q, want a redirect to %s: %s", r.Status, r.Location(), want, shown(r))
	}
	if r.Body != "" {
		v.t.Errorf("the redirect has a body: %s", shown(r))
	}
	v.wantEndOf(r)
	values, err := url.ParseQuery(query)
	if err != nil {
		v.t.Fatal(err)
	}
	for name, got := range values {
		if len(got) != 1 {
			v.t.Errorf("%s stands %d times in the request", name, len(got))
		}
	}
	return values
}

// wantEndOf checks what all answers that end a session have in common.
func (v *visitor) wantEndOf(r *optest.Response) {
	v.t.Helper()
	for name, want := range map[string]string{"Cache-Control": "no-store", "Access-Control-Allow-Origin": "", "Refresh": ""} {
		if got := r.Header.Get(name); got != want {
			v.t.Errorf("%s %q, want %q", name, got, want)
		}
	}
	if r.Status == http.StatusFound && r.Header.Get("Referrer-Policy") != "no-referrer" {
		v.t.Errorf("Referrer-Policy %q", r.Header.Get("Referrer-Policy"))
	}
	if set := append(sessionsIn(r), transactionsIn(r)...); len(set) != 0 {
		v.t.Errorf("the answer sets %q", set)
	}
	if kept := slices.Concat(v.kept(isSessionName), v.kept(isTransactionName)); len(kept) != 0 {
		v.t.Errorf("the browser still has %v", kept)
	}
	if n := v.upstream.advance(); n != 0 {
		v.t.Errorf("%d requests reached the upstream", n)
	}
}

// wantNotice checks that a response is a page of ours with this title and this link, which does nothing by itself.
func (v *visitor) wantNotice(r *optest.Response, title, link string) {
	v.t.Helper()
	if r.Status != http.StatusOK || r.Header.Get("Content-Type") != "text/html; charset=utf-8" || !strings.Contains(r.Body, "<h1>"+title+"</h1>") {
		v.t.Fatalf("got %d %q %q, want the page %q: %s", r.Status, r.Header.Get("Content-Type"), r.Location(), title, shown(r))
	}
	if !strings.Contains(r.Body, `<a href="`+link+`">`) || strings.Count(r.Body, "href=") != 1 {
		v.t.Errorf("the page has not the one link to %s: %s", link, shown(r))
	}
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "Location": "", "Refresh": "",
	} {
		if got := r.Header.Get(name); got != want {
			v.t.Errorf("%s %q, want %q", name, got, want)
		}
	}
	policy := r.Header.Get("Content-Security-Policy")
	if !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "script") {
		v.t.Errorf("Content-Security-Policy %q", policy)
	}
	if r.FramableBy("https://elsewhere.example/") || strings.Contains(r.Body, "http-equiv") || strings.Contains(r.Body, "<form") {
		v.t.Errorf("the page does more than it should: %s", r.Body)
	}
	v.wantNothingGiven(r)
}

// wantSignedOut checks that a response says that nobody is signed in, and with it a certain detail; empty is none.
func (v *visitor) wantSignedOut(r *optest.Response, detail string) {
	v.t.Helper()
	v.wantNotice(r, "You are signed out", "/oauth2/login")
	if strings.Contains(r.Body, `class="box"`) != (detail != "") || !strings.Contains(r.Body, detail) {
		v.t.Errorf("the page does not tell just %q: %s", detail, shown(r))
	}
}

// wantQuestion checks that a response leaves the session alone and asks whether to end it.
func (v *visitor) wantQuestion(r *optest.Response) {
	v.t.Helper()
	v.wantNotice(r, "Sign out?", "/oauth2/logout")
	if got := r.Header.Values("Set-Cookie"); got != nil {
		v.t.Errorf("Set-Cookie %q", got)
	}
}

// wantDead checks that cookies, given as a Cookie header, open nothing: not for a program, not for a page. No answer brings anything of a
// session.
func (v *visitor) wantDead(cookies string) {
	v.t.Helper()
	v.upstream.advance()
	copied := v.clone()
	with := "Cookie: " + cookies
	copied.wantRefusal(copied.Get(v.url("/data"), "Accept: application/json", with), http.StatusUnauthorized, "no_credentials")
	copied.wantLogin(copied.open("/page", with))
}

// wantAlive checks that cookies, given as a Cookie header, open what is protected.
func (v *visitor) wantAlive(cookies string) {
	v.t.Helper()
	v.upstream.advance()
	r := v.clone().Get(v.url("/data"), "Accept: application/json", "Cookie: "+cookies)
	if n := v.upstream.advance(); r.Status != http.StatusOK || n != 1 {
		v.t.Errorf("got %d, and %d requests reached the upstream: %s", r.Status, n, r.Body)
	}
}

// newSignedIn signs somebody in at a site of its own, whose provider ends single sign-on sessions.
func newSignedIn(t *testing.T, settings string) (*visitor, *optest.Provider) {
	t.Helper()
	p := optest.New(t, optest.WithEndSession())
	v := newVisitor(t, newLoginSite(t, p, settings), p)
	v.signIn("/")
	return v, p
}
