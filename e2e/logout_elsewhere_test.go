package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/browser"
)

// TestLogoutFromElsewhere has another site that tries to log somebody out, with cookies that stay here, and with such that go along.
func TestLogoutFromElsewhere(t *testing.T) {
	s, p := around.get(t), newKeycloakLogin(t)
	for _, test := range []struct {
		name      string
		at        address
		options   []string
		goesAlong bool
	}{
		{"SameSite=Lax", s.plain, nil, false},
		{"SameSite=None", s.tls, []string{"session {", "cookie_same_site none", "}"}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := newVisitAt(t, test.at, p, test.options...)
			v.gateway.load(t, v.config, v.attacking())
			tab := v.signedIn(t, alice, "/orders")
			stays := func(what string) {
				t.Helper()
				if got := browser.Evaluate[fetched](tab, fetchScript); got.Status != http.StatusOK {
					t.Fatalf("%s: a script of the site gets %d", what, got.Status)
				}
				expectSession(t, tab, true)
			}
			stays("before")

			elsewhere := v.NewTab()
			elsewhere.Open(string(v.embedder))
			for _, by := range []string{"image", "frame"} {
				eventually(t, "the end of the "+by, 30*time.Second, func() bool {
					request := v.attack(elsewhere, by)
					return request.Status != 0 || request.Failed != ""
				})
				// The browser does not always tell what it got in place of an image.
				if request := v.attack(elsewhere, by); request.Status != http.StatusOK && (by == "frame" || request.Status != 0) {
					t.Errorf("the %s gets %d, want the question whether to sign out", by, request.Status)
				}
			}
			stays("an image and a frame")

			elsewhere.Click("form button")
			checkPage(t, elsewhere, "sign_out", http.StatusForbidden, "cross_site_logout")
			form := v.attack(elsewhere, "form")
			if along := len(form.Cookies) > 0; form.Method != http.MethodPost || along != test.goesAlong {
				t.Errorf("the form came by %s with the cookies %q, want any: %t", form.Method, form.Cookies, test.goesAlong)
			}
			stays("a form")

			elsewhere.Open(string(v.embedder))
			elsewhere.Click("a")
			expectPage(t, elsewhere, "sign_out", http.StatusOK, "")
			if link := v.attack(elsewhere, "link"); len(link.Cookies) == 0 {
				t.Error("no cookie went along with the link")
			}
			stays("a link")
			for _, request := range elsewhere.Requests() {
				if strings.HasPrefix(request.URL, p.origin) {
					t.Errorf("the other site caused a request for %s", request.URL)
				}
			}

			// Nothing of that logs anybody out, but the button does.
			elsewhere.Click("main a")
			v.leaves(t, elsewhere, true)
			expectSession(t, tab, false)
			if got := browser.Evaluate[fetched](tab, fetchScript); got.Status != http.StatusUnauthorized {
				t.Errorf("after the logout a script of the site gets %d", got.Status)
			}
		})
	}
}

// attacking is the Caddyfile of another site, which tries what it can.
func (v *visit) attacking() string {
	return fmt.Sprintf(`%[1]s {
	bind 127.0.0.1
	header Content-Type text/html
	respond <<HTML
		<!DOCTYPE html>
		<h1>Another site</h1>
		<p><a href="%[2]s?by=link">A link</a></p>
		<form method="post" action="%[2]s?by=form"><button>A button</button></form>
		<img alt="An image" src="%[2]s?by=image">
		<iframe width="600" height="450" src="%[2]s?by=frame"></iframe>
		HTML
}
`, v.embedder, v.url("/oauth2/logout"))
}

// attack is the last request for a logout by which the other site has tried it.
func (v *visit) attack(tab *browser.Tab, by string) (last browser.Request) {
	for _, request := range tab.Requests() {
		if request.URL == v.url("/oauth2/logout?by="+by) {
			last = request
		}
	}
	return last
}
