package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/browser"
)

// expectPage waits for a page of the gateway, checks it, and takes a picture of it.
func expectPage(t *testing.T, tab *browser.Tab, page string, status int, reason string) {
	t.Helper()
	checkPage(t, tab, page, status, reason)
	tab.Screenshot(page)
}

// checkPage waits for a page of the gateway and compares its status and the reason that it gives.
func checkPage(t *testing.T, tab *browser.Tab, page string, status int, reason string) {
	t.Helper()
	shown := tab.Wait("the page "+page, func(shown browser.Page) bool {
		return shown.Text != "" && tab.Has("body."+page+" main h1")
	})
	got := browser.Evaluate[int](tab, `performance.getEntriesByType("navigation")[0].responseStatus`)
	if got != status {
		t.Errorf("the page %s has the status %d, want %d", page, got, status)
	}
	if got := browser.Evaluate[string](tab, `document.querySelector("dd")?.textContent ?? ""`); got != reason {
		t.Errorf("the page %s gives the reason %q, want %q\n%s", page, got, reason, shown.Text)
	}
}

// TestAnotherAccount signs in somebody whom a rule refuses, and then, by the link of that page, somebody whom it does not.
func TestAnotherAccount(t *testing.T) {
	eachLoginProvider(t, func(t *testing.T, p *loginProvider) {
		v := newVisit(t, p, p.adminRule, "username_claim preferred_username", "userinfo on")
		tab := v.open("/admin?tab=2")
		p.signIn(tab, bob)
		expectPage(t, tab, "denied", 403, "claim_required")
		if got := browser.Evaluate[string](tab, `document.querySelector("main bdi").textContent`); got != bob.name {
			t.Errorf("the page names the account %q, want %q", got, bob.name)
		}
		// Looking again does not log in again.
		tab.Reload()
		expectPage(t, tab, "denied", 403, "claim_required")

		tab.Click("main a")
		if p.restart != "" {
			tab.Click(p.restart)
		}
		p.signIn(tab, alice)
		landed(t, tab).expect(t, "/admin?tab=2", p.subject(alice))
	})
}

// TestFramed shows the site in a frame of another one.
func TestFramed(t *testing.T) {
	eachLoginProvider(t, func(t *testing.T, p *loginProvider) {
		v := newVisit(t, p)
		v.gateway.load(t, v.caddyfile(v.at, p), v.embedding("/framed?page=2"))
		outer := v.NewTab()
		outer.Open(string(v.embedder))
		frame := v.Frame(v.url("/"))
		checkPage(t, frame, "framed", 401, "no_credentials")
		outer.Screenshot("framed")

		frame.Click("a")
		tab := v.Opened(p.origin)
		p.signIn(tab, alice)
		landed(t, tab).expect(t, "/framed?page=2", p.subject(alice))
	})
}

// embedding is the Caddyfile of another site, which links to a page of the site, and shows it in a frame.
func (s *surroundings) embedding(path string) string {
	return fmt.Sprintf(`%[1]s {
	bind 127.0.0.1
	header Content-Type text/html
	respond <<HTML
		<!DOCTYPE html>
		<h1>Another site</h1>
		<p><a href="%[2]s">A link</a></p>
		<iframe width="600" height="450" src="%[2]s"></iframe>
		HTML
}
`, s.embedder, string(s.plain)+path)
}

// TestCancelled has somebody who does not want to log in after all.
func TestCancelled(t *testing.T) {
	p := newNodeLogin(t)
	v := newVisit(t, p)
	tab := v.open("/orders?page=2")
	p.asksWho(tab)
	tab.Click(`a[href$="/abort"]`)
	expectPage(t, tab, "error", 403, "access_denied")
	tab.Click("main a")
	p.signIn(tab, alice)
	landed(t, tab).expect(t, "/orders?page=2", p.subject(alice))
}

// TestUnavailable opens the site while its provider is gone.
func TestUnavailable(t *testing.T) {
	p := newNodeLogin(t)
	p.node.stop(t)
	v := newVisit(t, p)
	tab := v.open("/orders?page=2")
	expectPage(t, tab, "unavailable", 503, "discovery_failed")
	p.node.start(t)
	// The page looks again by itself.
	v.finish(t, tab, alice).expect(t, "/orders?page=2", p.subject(alice))
}

// TestLoop has something on the way to the browser that loses the session's cookie.
func TestLoop(t *testing.T) {
	eachLoginProvider(t, func(t *testing.T, p *loginProvider) {
		v := newVisit(t, p)
		v.gateway.load(t, v.caddyfileWith("header >Set-Cookie ^oidc-[0-9a-f]{6}= lost=", v.at, p))
		tab := v.open("/orders")
		// A provider that remembers the first login asks once.
		for logins := 0; ; logins++ {
			if logins > 5 {
				t.Fatal("the loop has no end")
			}
			asked := false
			tab.Wait("the login form or a page of the gateway", func(page browser.Page) bool {
				asked = strings.HasPrefix(page.URL, p.origin) && p.asks(tab)
				return asked || tab.Has("body.loop")
			})
			if !asked {
				break
			}
			p.signIn(tab, alice)
		}
		expectPage(t, tab, "loop", 400, "login_loop")
	})
}

// TestStrict has cookies that do not come along with requests which begin at another site.
func TestStrict(t *testing.T) {
	eachLoginProvider(t, func(t *testing.T, p *loginProvider) {
		strict := []string{"session {", "cookie_same_site strict", "}"}
		v := newVisit(t, p, strict...)
		v.gateway.load(t, v.caddyfile(v.at, p, strict...), v.embedding("/linked?page=3"))
		tab := v.signedIn(t, alice, "/orders?page=2")

		other := v.NewTab()
		other.Open(string(v.embedder))
		other.Click("a")
		landed(t, other).expect(t, "/linked?page=3", p.subject(alice))
		v.expectNoProvider(t, other)

		// What sends the browser on is seen only if that leads nowhere.
		v.forget(tab)
		tab.Open(v.url("/nothing"))
		if !tab.Has("body.continue") {
			p.signIn(tab, alice)
		}
		expectPage(t, tab, "continue", 200, "")
	})
}

// TestSignedOut opens the page that a logout ends on. It starts nothing.
func TestSignedOut(t *testing.T) {
	p := newZitadelLogin(t)
	v := newVisit(t, p)
	tab := v.open("/oauth2/logged-out")
	expectPage(t, tab, "signed_out", 200, "")
	v.expectNoProvider(t, tab)
	tab.Click("main a")
	p.signIn(tab, alice)
	landed(t, tab).expect(t, "/", p.subject(alice))
}
