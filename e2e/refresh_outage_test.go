package e2e

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/browser"
	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/keycloak"
)

// TestProviderSuspended has Keycloak do nothing for a while, as a machine with too much to do, or a network that drops everything.
// Nobody has to give a password because of it. No other test that needs Keycloak may run meanwhile.
func TestProviderSuspended(t *testing.T) {
	const timeout = 4 * time.Second // half of which is enough for Keycloak on a slow machine
	r := newRenewingAlone(t, newKeycloakAccount, "timeout "+timeout.String())
	passing := newRenewing(t, newKeycloakAccount, "timeout "+timeout.String())
	tab, passingTab, server := r.logsIn(t, "/orders"), passing.logsIn(t, "/orders"), keycloakServer.get(t)
	kept, passed := r.session(), passing.session()

	// For less than the timeout: all wait for the one answer.
	expire(t)
	r.renews(t, func() {
		resume := suspend(t, server)
		time.AfterFunc(timeout/2, resume)
		for i, answer := range r.getAll(t, slices.Repeat([]cookies{kept}, atOnce)...) {
			if answer.status != http.StatusOK {
				t.Errorf("request %d got %d: %s", i, answer.status, answer.body)
			}
			kept = answer.kept
		}
		resume()
	})
	passed = passing.get(t, passed).kept

	// For longer: what needs no token goes on, and what does is told to come back.
	expire(t)
	given, givenPassing := r.provider.grants(t).Given, passing.provider.grants(t).Given
	resume := suspend(t, server)
	var slowest time.Duration
	for began := time.Now(); time.Since(began) < 3*timeout; pass(t, timeout/10) {
		asked := time.Now()
		answer := r.get(t, kept)
		slowest = max(slowest, time.Since(asked))
		if answer.status != http.StatusOK {
			t.Errorf("a request gets %d: %s", answer.status, answer.body)
		}
		kept = answer.kept
	}
	t.Logf("the slowest request took %s", slowest)
	if slowest > 2*timeout {
		t.Errorf("a request took %s with a timeout of %s", slowest, timeout)
	}
	answer := passing.get(t, passed)
	if answer.status != http.StatusServiceUnavailable || answer.header.Get("Retry-After") == "" {
		t.Errorf("what needs a token gets %d with Retry-After %q: %s", answer.status, answer.header.Get("Retry-After"), answer.body)
	}
	resume()

	// Keycloak may find a request that nobody waits for any more, and spend a refresh token for it. That costs the session at worst:
	// there is nothing to see of it but a trip to Keycloak, where the user is still signed in.
	for _, site := range []struct {
		*renewing
		kept  cookies
		given int
		tab   *browser.Tab
	}{{r, kept, given, tab}, {passing, answer.kept, givenPassing, passingTab}} {
		eventually(t, "the renewal after all, or the end of the session", time.Minute, func() bool {
			answer := site.get(t, site.kept)
			site.kept = answer.kept
			return answer.status == http.StatusUnauthorized ||
				answer.status == http.StatusOK && site.provider.grants(t).Given > site.given
		})
		if g := site.provider.grants(t); g.Refused > 1 {
			t.Errorf("%d refresh tokens were refused, want 1 at most", g.Refused)
		}
		site.tab.Open(site.url("/again"))
		landed(t, site.tab).expect(t, "/again", site.subject())
		site.expectNoErrors(t, site.tab)
	}
}

// suspend has Keycloak do nothing until resume is called, which can be done more than once.
func suspend(t *testing.T, server *keycloak.Keycloak) (resume func()) {
	t.Helper()
	resume = func() {
		if err := server.Resume(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(resume)
	if err := server.Suspend(); err != nil {
		t.Fatal(err)
	}
	return resume
}

// TestRenewalAfterRestart has a request with the cookie of the login come after a renewal and a restart of the gateway, which
// keeps in Caddy's storage what it has renewed.
func TestRenewalAfterRestart(t *testing.T) {
	t.Parallel()
	const option = "refresh_coordination storage"
	r := newRenewing(t, newNodeLoginWith, option)
	r.logsIn(t, "/orders")
	login := r.session()
	expire(t)
	var newest *scriptAnswer
	r.renews(t, func() { newest = r.get(t, login) })

	r.gateway.stop(t)
	r.gateway.start(t)
	r.gateway.load(t, r.config)
	for range 2 {
		answer := r.get(t, login)
		if answer.status != http.StatusOK {
			t.Fatalf("the cookie of the login gets %d: %s", answer.status, answer.body)
		}
		r.get(t, newest.kept).expect(t, "/received", r.subject())
		expire(t)
	}
	if g := r.provider.grants(t); g.Refused != 0 {
		t.Errorf("%d refresh tokens were refused", g.Refused)
	}
}

// TestRenewalAfterGrace has a request with the cookie of the login come when nobody expects it any more. It gets nothing, does no
// harm, and its refresh token goes nowhere.
func TestRenewalAfterGrace(t *testing.T) {
	t.Parallel()
	r := newRenewing(t, newNodeLoginWith, "refresh_grace 1s")
	r.logsIn(t, "/orders")
	login := r.session()
	expire(t)
	var newest *scriptAnswer
	r.renews(t, func() { newest = r.get(t, login) })
	pass(t, time.Second+100*time.Millisecond)

	answer := r.get(t, login)
	r.expectLoginRequired(t, answer)
	if set := answer.header["Set-Cookie"]; len(set) != 0 {
		t.Errorf("the answer sets %d cookies", len(set))
	}
	expire(t)
	r.renews(t, func() { r.get(t, newest.kept).expect(t, "/received", r.subject()) })
	r.expectLoginRequired(t, r.get(t, login))
	if g := r.provider.grants(t); g.Given != 2 || g.Refused != 0 {
		t.Errorf("%d refresh tokens were redeemed and %d refused, want 2 and none", g.Given, g.Refused)
	}
}

// TestNoRefreshToken asks oidc-provider for one without the prompt that it wants for that. The session lives without, where no
// token is passed on.
func TestNoRefreshToken(t *testing.T) {
	t.Parallel()
	withoutPrompt := func(t *testing.T, o loginOptions) *loginProvider {
		t.Helper()
		p := newNodeLoginWith(t, o)
		p.offlineOption = ""
		return p
	}
	for _, test := range []struct {
		name  string
		site  func(*testing.T, newProvider, ...string) *renewing
		lives bool
	}{
		{"kept", newRenewingAlone, true},
		{"passed on", newRenewing, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := test.site(t, withoutPrompt)
			tab := r.logsIn(t, "/orders")
			expire(t)
			answer := r.get(t, r.session())
			if test.lives {
				answer.expect(t, "/received", r.subject())
			} else {
				r.expectLoginRequired(t, answer)
			}
			second := r.open("/orders?page=2")
			r.finish(t, second, r.provider.user).expect(t, "/orders?page=2", r.subject())
			r.expectNoErrors(t, tab)
			if g := r.provider.grants(t); g.Given != 0 || g.Refused != 0 {
				t.Errorf("%d refresh tokens were redeemed and %d refused, want none", g.Given, g.Refused)
			}
		})
	}
}
