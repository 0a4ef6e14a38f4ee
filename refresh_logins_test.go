package openidconnect

import (
	"net/http"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// signInAgain has the browser log in once more, with what it has of a session.
func (r *renewing) signInAgain() {
	r.t.Helper()
	r.upstream.advance()
	request := r.wantLogin(r.open("/oauth2/login?prompt=login"))
	r.wantRedirect(r.arrive(request, r.answerTo(request)), "/")
}

// A request that was sent with the cookie of before a login, and arrives after it, does not take away what the login has brought, whyever that
// cookie is worth nothing now.
func TestLateRequestsAfterALogin(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		settings string
		login    func(r *renewing)
	}{
		"ended by the provider, as a script was told": {"", func(r *renewing) {
			r.provider.RevokeRefreshTokens()
			r.pass(tokenLife)
			r.ask()
			r.signInAgain()
		}},
		"replaced while it was good, and due since": {"", func(r *renewing) {
			r.signInAgain()
			r.pass(tokenLife)
		}},
		"replaced, and too old since": {"session {\nabsolute_timeout 1h\n}", func(r *renewing) {
			r.pass(tokenLife)
			r.signInAgain()
			r.pass(time.Hour - time.Minute)
		}},
		"replaced, and unused since": {"session {\nidling_timeout 30m\n}", func(r *renewing) {
			r.pass(tokenLife)
			r.signInAgain()
			r.pass(30 * time.Minute)
		}},
		"replaced in the storage": {"session {\nstorage caddy\n}", func(r *renewing) {
			r.pass(tokenLife)
			r.signInAgain()
			r.pass(rereadAfter)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, _ := newStored(t, withToken+"refresh_coordination local\n"+test.settings)
			old := "Cookie: " + r.cookie()
			test.login(r)
			for _, kind := range [][]string{typed, linked, {"Accept: application/json"}} {
				answer := r.clone().Get(r.url("/"), append([]string{old}, kind...)...)
				if set, forgot := cookiesOf(answer.Header); set != "" || forgot || answer.Status == http.StatusOK {
					t.Errorf("%q: got %d and Set-Cookie %q", kind, answer.Status, answer.Header.Values("Set-Cookie"))
				}
			}
		})
	}
	t.Run("and a browser that has nothing else forgets it", func(t *testing.T) {
		t.Parallel()
		r := newRenewing(t, withToken)
		r.provider.RevokeRefreshTokens()
		r.pass(tokenLife)
		if _, forgot := cookiesOf(r.open("/").Header); !forgot || r.cookie() != "" {
			t.Error("the cookie is not deleted")
		}
	})
}

// The cookie of a session that a login of its browser has replaced is taken for as long as refresh_grace, and no longer, however often it has
// been used by then.
func TestReplacedByALogin(t *testing.T) {
	t.Parallel()
	for name, used := range map[string]bool{"unused since": false, "used since": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t)
			p.SetRefreshTokens(true)
			p.SetAccessLifetime(12 * time.Hour)
			r := newRenewingAt(t, newLoginSite(t, p, withToken+"refresh_coordination local"), p)
			old := r.cookie()
			r.signInAgain()
			r.pass(defaultRefreshGrace - time.Second)
			if used {
				r.clone().wantServed(0, "Cookie: "+old)
			}
			r.pass(time.Second)
			r.wantAnonymous("Cookie: " + old)
			r.wantServed(0)
		})
	}
}

// One user whose renewals the provider always fails takes nothing from the others, however often he tries.
func TestOneUserWhoseRenewalsFail(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]optest.Fault{
		"with 500":                          {Status: http.StatusInternalServerError},
		"with 429, and ten minutes to wait": {Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"600"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRenewing(t, withToken)
			for attempts := range 6 {
				r.provider.FailRefresh(fault)
				r.pass(tokenLife)
				if attempts > 0 {
					r.pass(keptPastExpiry)
				}
				r.clone().ask()
				r.clone().ask()
				r.provider.HealRefresh()
				other := r.welcome(t, r.site)
				before := r.provider.RefreshGrants()
				r.pass(tokenLife)
				r.provider.FailRefresh(fault)
				r.clone().ask()
				r.provider.HealRefresh()
				if got := other.ask(); got.Status != http.StatusOK || r.provider.RefreshGrants() != before+1 {
					t.Errorf("another user after %d rounds: got %d (%s), %d grants", attempts, got.Status, got.reason, r.provider.RefreshGrants()-before)
				}
			}
		})
	}
}
