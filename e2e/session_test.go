package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/browser"
)

// maxCookieBytes is the budget of a session, over all its cookies.
const maxCookieBytes = 12_000

// TestManyGroups logs in somebody with 300 groups.
func TestManyGroups(t *testing.T) {
	eachLoginProvider(t, func(t *testing.T, p *loginProvider) {
		v := newVisit(t, p, "claim_header X-Groups groups")
		tab := v.signedIn(t, carol, "/orders")
		browser.Evaluate[string](tab, `document.cookie = "theme=dark"`)
		tab.Open(v.url("/again"))
		got := reached(t, tab)

		groups := strings.Split(got.Header.Get("X-Groups"), ",")
		slices.Sort(groups)
		if want := slices.Sorted(slices.Values(carol.groups)); !slices.Equal(groups, want) {
			t.Errorf("the application was told of %d groups, want %d: %.100q…", len(groups), len(want), groups)
		}
		if got, want := got.Header.Get("Cookie"), "theme=dark"; got != want {
			t.Errorf("the application got the cookies %.200q, want %q", got, want)
		}
		size := 0
		for _, c := range v.siteCookies() {
			if !c.HTTPOnly || c.SameSite != "Lax" {
				t.Errorf("the cookie %s has HttpOnly %t and SameSite %q", c.Name, c.HTTPOnly, c.SameSite)
			}
			size += len(c.Name) + len("=") + len(c.Value)
		}
		t.Logf("%d cookies of %d bytes together", len(v.siteCookies()), size)
		if size == 0 || size > maxCookieBytes {
			t.Errorf("the session takes %d bytes of cookies, want 1 to %d", size, maxCookieBytes)
		}
		v.expectNoErrors(t, tab)
	})
}

// TestSessionTooLarge has a budget that 300 groups exceed. The page says what to leave out.
func TestSessionTooLarge(t *testing.T) {
	eachLoginProvider(t, func(t *testing.T, p *loginProvider) {
		v := newVisit(t, p, "claim_header X-Groups groups", "session {", "max_cookie_bytes 4000", "}")
		tab := v.open("/orders")
		p.signIn(tab, carol)
		expectPage(t, tab, "error", 400, "session_too_large")
		if log := v.gateway.log(t); !strings.Contains(log, "the claim groups has") {
			t.Errorf("the log does not name the claim:\n%s", log)
		}
	})
}

// fetched is what a script gets of fetch.
type fetched struct {
	Status     int    `json:"status"`
	Redirected bool   `json:"redirected"`
	Type       string `json:"type"`
	Body       struct {
		Error     string `json:"error"`
		LoginURL  string `json:"login_url"`
		RequestID string `json:"request_id"`
	} `json:"body"`
}

const fetchScript = `fetch("/api/orders").then(async r => ({
	status: r.status, redirected: r.redirected, type: r.headers.get("Content-Type"),
	body: r.headers.get("Content-Type").startsWith("application/json") ? await r.json() : {},
}))`

const socketScript = `new Promise(done => {
	const socket = new WebSocket(location.origin.replace("http", "ws") + "/socket");
	socket.onopen = () => socket.send("ping");
	socket.onmessage = message => done(message.data);
	socket.onerror = () => done("error");
})`

const eventsScript = `new Promise(done => {
	const events = new EventSource("/events");
	events.onmessage = event => { events.close(); done(event.data) };
	events.onerror = () => done(events.readyState === EventSource.CLOSED ? "closed" : "tries again");
})`

// unauthorizedSocket is what Chromium says of a WebSocket that is answered with 401.
const unauthorizedSocket = "HTTP Authentication failed; no valid credentials available"

// TestSessionGone has a page whose session ends while it is open.
func TestSessionGone(t *testing.T) {
	eachLoginProvider(t, func(t *testing.T, p *loginProvider) {
		v := newVisit(t, p)
		tab := v.signedIn(t, alice, "/dashboard?view=1")
		if got := browser.Evaluate[fetched](tab, fetchScript); got.Status != 200 || !strings.HasPrefix(got.Type, "text/html") {
			t.Fatalf("fetch with a session: %+v", got)
		}
		if got := browser.Evaluate[string](tab, socketScript); got != "ping" {
			t.Fatalf("a WebSocket with a session echoes %q", got)
		}
		if got := browser.Evaluate[string](tab, eventsScript); got != "tick" {
			t.Fatalf("the events with a session say %q", got)
		}

		v.forget(tab)
		got := browser.Evaluate[fetched](tab, fetchScript)
		if got.Status != 401 || got.Redirected || got.Body.Error != "login_required" || got.Body.RequestID == "" {
			t.Errorf("fetch without a session: %+v", got)
		}
		if got := browser.Evaluate[string](tab, socketScript); got != "error" {
			t.Errorf("a WebSocket without a session echoes %q", got)
		}
		if got, want := tab.Sockets(), []string{"101", unauthorizedSocket}; !slices.Equal(got, want) {
			t.Errorf("the WebSockets began with %q, want %q", got, want)
		}
		if got := browser.Evaluate[string](tab, eventsScript); got != "closed" {
			t.Errorf("the events without a session: %q", got)
		}
		if cookies := v.siteCookies(); len(cookies) != 0 {
			t.Errorf("the refusals set cookies: %v", cookies)
		}

		// The page follows the login_url, as its script would.
		tab.Open(v.url(strings.TrimPrefix(got.Body.LoginURL, v.url(""))))
		v.finish(t, tab, alice)
		v.expectNoErrors(t, tab)
	})
}

// TestPostWithoutSession sends a form after the session has ended.
func TestPostWithoutSession(t *testing.T) {
	eachLoginProvider(t, func(t *testing.T, p *loginProvider) {
		v := newVisit(t, p)
		tab := v.signedIn(t, alice, "/form")
		tab.Click("form button")
		tab.Wait("the order", func(page browser.Page) bool { return isApplication(page) && strings.HasSuffix(page.URL, "/orders") })
		if got := reached(t, tab); got.Method != "POST" {
			t.Fatalf("the application got %s %s", got.Method, got.URI)
		}

		tab.Open(v.url("/form"))
		v.forget(tab)
		tab.Click("form button")
		expectPage(t, tab, "session_ended", 401, "no_credentials")
		tab.Click("main a")
		v.finish(t, tab, alice)
	})
}

// TestReloadAndRestart replaces the configuration under a session, and then the whole process.
func TestReloadAndRestart(t *testing.T) {
	eachLoginProvider(t, func(t *testing.T, p *loginProvider) {
		v := newVisit(t, p)
		v.signedIn(t, alice, "/orders")
		for _, test := range []struct {
			name string
			step func()
		}{
			{"reload", func() {}},
			{"restart", func() {
				v.gateway.stop(t)
				v.gateway.start(t)
			}},
		} {
			test.step()
			v.gateway.load(t, v.caddyfile(v.at, p, "claim_header X-Step sub"))
			tab := v.open("/after-" + test.name)
			got := landed(t, tab)
			got.expect(t, "/after-"+test.name, p.subject(alice))
			if header := got.Header.Get("X-Step"); header != p.subject(alice) {
				t.Errorf("after the %s, X-Step is %q: it did not take place", test.name, header)
			}
			v.expectNoProvider(t, tab)
		}
	})
}
