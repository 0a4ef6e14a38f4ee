package e2e

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/browser"
)

// TestLogout logs out in one tab. It ends the session here, at the provider, and in the other tab.
func TestLogout(t *testing.T) {
	eachLoginProvider(t, func(t *testing.T, p *loginProvider) {
		v := newVisit(t, p)
		tab := v.signedIn(t, alice, "/orders?page=2")
		other := v.open("/other")
		reached(t, other).expect(t, "/other", p.subject(alice))
		expectSession(t, other, true)
		copied := v.session()
		v.expectCopy(t, copied, http.StatusOK, http.StatusOK)

		tab.Click(signOut)
		query := v.leaves(t, tab, true)
		if query.Get("id_token_hint") == "" {
			t.Error("the provider got no id_token_hint")
		}
		v.expectRest(t, tab)
		v.expectNoErrors(t, tab)
		v.expectCopy(t, copied, http.StatusUnauthorized, http.StatusFound)

		expectSession(t, other, false)
		if got := browser.Evaluate[fetched](other, fetchScript); got.Status != http.StatusUnauthorized || got.Redirected ||
			got.Body.Error != "login_required" {
			t.Errorf("a script in the other tab gets %+v", got)
		}
		other.Click(next)
		p.signIn(other, alice)
		landed(t, other).expect(t, "/next", p.subject(alice))
		v.expectNoErrors(t, other)
		v.expectCopy(t, copied, http.StatusUnauthorized, http.StatusFound)

		// The first tab learns nothing of that by itself. Its link leads to a login, which ends at once now.
		tab.Rest()
		checkPage(t, tab, "signed_out", http.StatusOK, "")
		tab.Click("main a")
		landed(t, tab).expect(t, "/", p.subject(alice))
	})
}

// TestLogoutWithoutHint has sessions without the ID token, so that nobody vouches for the request but the user, whom Keycloak asks.
func TestLogoutWithoutHint(t *testing.T) {
	p := newKeycloakLogin(t)
	v := newVisit(t, p, "session_contents id_token user")
	tab := v.signedIn(t, alice, "/orders")
	first := v.session()
	v.expectCopy(t, first, http.StatusOK, http.StatusOK)
	tab.Click(signOut)
	tab.Wait("the question of the provider", func(browser.Page) bool { return tab.Has(p.confirmation) })

	// Without an answer the session there goes on. The one here is over all the same.
	v.expectCopy(t, first, http.StatusUnauthorized, http.StatusFound)
	tab.Open(v.at.loggedOut())
	v.expectRest(t, tab)
	tab.Click("main a")
	landed(t, tab).expect(t, "/", p.subject(alice)) // nobody had to log in

	second := v.session()
	v.expectCopy(t, second, http.StatusOK, http.StatusOK)
	tab.Click(signOut)
	if query := v.leaves(t, tab, false); query.Has("id_token_hint") {
		t.Error("the provider got an id_token_hint")
	}
	v.expectRest(t, tab)
	v.expectCopy(t, second, http.StatusUnauthorized, http.StatusFound)
	tab.Click("main a")
	p.signIn(tab, alice)
	landed(t, tab).expect(t, "/", p.subject(alice))
}

// TestLogoutByScript logs out as a page does that is one script: it asks where to go, and goes there.
func TestLogoutByScript(t *testing.T) {
	p := newKeycloakLogin(t)
	v := newVisit(t, p)
	tab := v.signedIn(t, alice, "/app")
	other := v.open("/other")
	reached(t, other).expect(t, "/other", p.subject(alice))
	expectSession(t, other, true)
	copied := v.session()
	v.expectCopy(t, copied, http.StatusOK, http.StatusOK)

	target := v.logsOutByScript(t, tab)
	expectSession(t, other, false) // although the provider knows nothing of it yet
	v.expectCopy(t, copied, http.StatusUnauthorized, http.StatusFound)
	v.expectNoProvider(t, other)

	follow(tab, target)
	v.leaves(t, tab, true)
	v.expectRest(t, tab)

	// There is nothing left to log out, which is no error for a script.
	again := browser.Evaluate[scriptLogout](other, logoutScript)
	if again.Status != http.StatusOK || again.Redirected || again.LogoutURL != "/oauth2/logged-out" {
		t.Errorf("the script of the other tab got %+v", again)
	}
	other.Click(next)
	p.signIn(other, alice)
	landed(t, other).expect(t, "/next", p.subject(alice))
}

// logsOutByScript has a script in the tab ask for a logout, and returns where it is told to go.
func (v *visit) logsOutByScript(t *testing.T, tab *browser.Tab) string {
	t.Helper()
	got := browser.Evaluate[scriptLogout](tab, logoutScript)
	if got.Status != http.StatusOK || got.Redirected || !strings.HasPrefix(got.LogoutURL, v.provider.endSessionURL()+"?") {
		t.Fatalf("the script got %+v", got)
	}
	return got.LogoutURL
}

// follow has a script in the tab go to an address.
func follow(tab *browser.Tab, target string) {
	browser.Evaluate[string](tab, "location.assign("+strconv.Quote(target)+`); ""`)
}

// scriptLogout is what a script gets of a logout.
type scriptLogout struct {
	Status     int    `json:"status"`
	Redirected bool   `json:"redirected"`
	LogoutURL  string `json:"logoutURL"`
}

const logoutScript = `fetch("/oauth2/logout", {method: "POST", headers: {Accept: "application/json"}}).then(async r => ({
	status: r.status, redirected: r.redirected, logoutURL: (await r.json()).logout_url,
}))`

// expectSession compares what the site tells a script in this tab about the session.
func expectSession(t *testing.T, tab *browser.Tab, authenticated bool) {
	t.Helper()
	if got := browser.Evaluate[bool](tab, `fetch("/oauth2/session").then(r => r.json()).then(s => s.authenticated)`); got != authenticated {
		t.Errorf("authenticated is %t, want %t", got, authenticated)
	}
}

// leaves follows a tab that has just logged out through the provider to the page that says so, and returns what the provider was asked.
func (v *visit) leaves(t *testing.T, tab *browser.Tab, hinted bool) url.Values {
	t.Helper()
	p := v.provider
	asked := false
	for {
		confirms := false
		tab.Wait("the question of the provider or the signed-out page", func(page browser.Page) bool {
			confirms = !asked && strings.HasPrefix(page.URL, p.origin) && p.confirmation != "" && tab.Has(p.confirmation)
			return confirms || strings.HasPrefix(page.URL, v.at.loggedOut()) && page.Text != ""
		})
		if !confirms {
			break
		}
		asked = true
		tab.Click(p.confirmation)
	}
	checkPage(t, tab, "signed_out", http.StatusOK, "")
	tab.Screenshot("signed_out_everywhere")
	if wants := p.confirmation != "" && (p.asksAlways || !hinted); asked != wants {
		t.Errorf("the provider asked whether to sign out: %t, want %t", asked, wants)
	}

	query := v.lastQuery(t, tab, p.endSessionURL(), "client_id")
	back := v.lastQuery(t, tab, v.at.loggedOut(), "state")
	if got := query.Get("client_id"); got != p.client {
		t.Errorf("the provider got client_id %q, want %q", got, p.client)
	}
	if got := query.Get("post_logout_redirect_uri"); got != v.at.loggedOut() {
		t.Errorf("the provider got post_logout_redirect_uri %q, want %q", got, v.at.loggedOut())
	}
	if sent, got := query.Get("state"), back.Get("state"); sent == "" || got != sent {
		t.Errorf("the browser left with a state of %d bytes, and came back with the same: %t", len(sent), got == sent)
	}
	if text := browser.Evaluate[string](tab, `document.querySelector("main").innerText`); !strings.Contains(text, "signed out as well") {
		t.Errorf("the page does not tell of the provider:\n%s", text)
	}
	for _, left := range v.siteCookies() {
		if !strings.HasSuffix(left.Name, "-loop") { // counts logins, and tells nothing
			t.Errorf("the browser still has the cookie %s", left.Name)
		}
	}
	return query
}

// lastQuery is that of the last document of this address that the tab asked for with this parameter. Hydra comes back to the address with
// another one.
func (v *visit) lastQuery(t *testing.T, tab *browser.Tab, of, with string) (last url.Values) {
	t.Helper()
	for _, answer := range tab.Answers() {
		parsed, err := url.Parse(answer.URL)
		if err != nil {
			t.Error(err)
		} else if query := parsed.Query(); strings.HasPrefix(answer.URL, of+"?") && query.Has(with) {
			last = query
		}
	}
	if last == nil {
		t.Errorf("the tab did not ask for %s with %s", of, with)
	}
	return last
}

// expectRest expects that the signed-out page, which the tab shows, starts nothing: neither by itself, nor when it is loaded again.
func (v *visit) expectRest(t *testing.T, tab *browser.Tab) {
	t.Helper()
	tab.Rest()
	before := len(tab.Requests())
	tab.Reload()
	tab.Rest()
	checkPage(t, tab, "signed_out", http.StatusOK, "")
	since := tab.Requests()[before:]
	if len(since) == 0 {
		t.Error("the tab made no request to load the page again")
	}
	for _, request := range since {
		if !strings.HasPrefix(request.URL, v.at.loggedOut()) {
			t.Errorf("the signed-out page asks for %s", request.URL)
		}
	}
	if cookies := v.session(); len(cookies) != 0 {
		t.Error("the signed-out page brings a session")
	}
}

// expectCopy compares what a thief gets who has made a copy of the cookies: as a script, and as a browser that opens a page.
func (v *visit) expectCopy(t *testing.T, copied cookies, script, page int) {
	t.Helper()
	if len(copied) == 0 {
		t.Fatal("there is no cookie to copy")
	}
	for _, request := range []struct {
		mode, dest string
		status     int
	}{{"cors", "empty", script}, {"navigate", "document", page}} {
		status, location := v.ask(t, copied, request.mode, request.dest)
		if status != request.status {
			t.Errorf("a copy of the cookies gets %d by %s, want %d", status, request.mode, request.status)
		}
		if request.status == http.StatusFound && !strings.HasPrefix(location, v.provider.origin) {
			t.Errorf("a copy of the cookies leads to %s, not to the provider", location)
		}
	}
}

// ask asks for a page of the site with these cookies, and returns the status, and where that leads. It knows no TLS.
func (v *visit) ask(t *testing.T, with cookies, mode, dest string) (status int, location string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, string(v.at.numeric())+"/received", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = strings.TrimPrefix(string(v.at), "http://")
	for name, value := range with {
		req.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	req.Header.Set("Sec-Fetch-Mode", mode)
	req.Header.Set("Sec-Fetch-Dest", dest)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode, resp.Header.Get("Location")
}
