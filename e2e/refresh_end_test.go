package e2e

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/browser"
	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/keycloak"
)

// TestEndAtProvider ends a session at Keycloak, in every way. The site notices with the next renewal.
func TestEndAtProvider(t *testing.T) {
	t.Parallel()
	const sessionMax = 4 * tokenLifetime
	for _, test := range []struct {
		name    string
		start   newProvider
		end     func(t *testing.T, admin *keycloak.Admin, subject string) error
		returns bool // can log in again
	}{
		{
			"account disabled", newKeycloakAccount,
			func(t *testing.T, admin *keycloak.Admin, subject string) error {
				return admin.Disable(t.Context(), subject)
			},
			false,
		},
		{
			"session removed", newKeycloakAccount,
			func(t *testing.T, admin *keycloak.Admin, subject string) error {
				return admin.RemoveSessions(t.Context(), subject)
			},
			true,
		},
		{
			"longest time reached", newKeycloakRealm(sessionMax),
			func(t *testing.T, _ *keycloak.Admin, _ string) error { pass(t, sessionMax); return nil },
			true,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRenewing(t, test.start)
			tab := r.logsIn(t, "/orders?page=2")
			expire(t)
			r.renews(t, func() { r.fetchParts(t, tab, 1) })

			if err := test.end(t, r.provider.admin, r.subject()); err != nil {
				t.Fatal(err)
			}
			expire(t)
			for range 3 {
				if got := browser.Evaluate[fetched](tab, fetchScript); got.Status != http.StatusUnauthorized || got.Redirected ||
					got.Body.Error != "login_required" || got.Body.LoginURL == "" {
					t.Errorf("a script gets %+v", got)
				}
			}
			if got := browser.Evaluate[string](tab, socketScript); got != "error" {
				t.Errorf("a WebSocket echoes %q", got)
			}
			if g := r.provider.grants(t); g.Refused != 1 {
				t.Errorf("%d refresh tokens were refused, want 1: nobody asks again", g.Refused)
			}

			tab.Open(r.url("/again"))
			r.provider.asksWho(tab)
			if left := r.session(); len(left) != 0 {
				t.Errorf("the browser still has %q", slices.Collect(maps.Keys(left)))
			}
			if test.returns {
				r.provider.signIn(tab, r.provider.user)
				landed(t, tab).expect(t, "/again", r.subject())
			}
			r.expectNoErrors(t, tab)
		})
	}
}

// TestClaimsRenewal changes what Keycloak knows of somebody who works. Rules and headers follow within the interval.
func TestClaimsRenewal(t *testing.T) {
	t.Parallel()
	const interval = 2 * time.Second
	longer := func(t *testing.T, o loginOptions) *loginProvider {
		t.Helper()
		o.tokenLifetime = time.Hour
		return newKeycloakAccount(t, o)
	}
	r := newRenewing(t, longer, "refresh_session_interval "+interval.String(), "claim_header X-Groups groups",
		"required_claim realm_access.roles admin")
	tab := r.logsIn(t, "/orders")
	admin, subject, kept := r.provider.admin, r.subject(), r.session()

	// becomes waits for an answer, and lets pass only that and the one of before.
	becomes := func(what, before, after string) {
		t.Helper()
		eventually(t, what, 30*time.Second, func() bool {
			answer := r.get(t, kept)
			kept = answer.kept
			got := http.StatusText(answer.status)
			if answer.status == http.StatusOK {
				groups := strings.Split(answer.Header.Get("X-Groups"), ",")
				slices.Sort(groups)
				got = strings.Join(groups, " ")
			}
			if got != before && got != after {
				t.Fatalf("%s: got %q, which is neither %q nor %q", what, got, before, after)
			}
			return got == after
		})
	}
	change := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	becomes("the groups of the login", "", "admins staff")
	change(admin.LeaveGroup(t.Context(), subject, "staff"))
	becomes("one group less", "admins staff", "admins")
	change(admin.TakeRole(t.Context(), subject, "admin"))
	becomes("the role is gone", "admins", "Forbidden")
	tab.Open(r.url("/orders"))
	checkPage(t, tab, "denied", http.StatusForbidden, "claim_required")
	change(admin.GiveRole(t.Context(), subject, "admin"))
	becomes("the role is back", "Forbidden", "admins")

	// All this time nobody had to log in.
	second := r.open("/orders")
	landed(t, second).expect(t, "/orders", subject)
	r.expectNoProvider(t, second)
	if g := r.provider.grants(t); g.Given < 3 || g.Refused != 0 {
		t.Errorf("%d refresh tokens were redeemed and %d refused, want at least 3 and none", g.Given, g.Refused)
	}
}
