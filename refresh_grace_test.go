package openidconnect

import (
	"net/http"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Late requests get the newest generation, each of them for the grace of its own.
func TestLateRequestsOfManyGenerations(t *testing.T) {
	t.Parallel()
	r := newRenewing(t, withToken+"refresh_grace 1m")
	const life = 20 * time.Second // renewed 4 seconds ahead
	r.provider.SetAccessLifetime(life)
	r.pass(tokenLife)
	r.wantServed(1)
	var cookies, tokens []string
	for n := range 12 {
		cookies = append(cookies, r.cookie())
		tokens = append(tokens, r.wantServed(1+n).token)
		if n == 11 {
			break
		}
		r.pass(life)
		r.wantServed(2 + n)
	}
	// generation n was replaced 20 seconds after generation n-1, and the last but one just now
	newest := len(cookies) - 1
	for n, cookie := range cookies {
		age := time.Duration(newest-1-n) * life
		switch {
		case n == newest:
			r.wantServed(newest+1, "Cookie: "+cookie)
		case age < time.Minute:
			if got := r.wantServed(newest+1, "Cookie: "+cookie); got.token != tokens[newest] || got.set != cookies[newest] {
				t.Errorf("generation %d gets another token (%t) or cookie (%t)", n, got.token != tokens[newest], got.set != cookies[newest])
			}
		default:
			r.wantAnonymous("Cookie: " + cookie)
		}
	}
	r.wantGrants(newest + 1)
}

// Who goes on with an old cookie gets what the others have, for the grace and not longer, however often he comes.
func TestGraceIsNotExtendedByUse(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		settings string
		grace    time.Duration
		life     time.Duration
		step     time.Duration
	}{
		"by default":                    {"", 2 * time.Minute, tokenLife, 10 * time.Second},
		"of seconds":                    {"refresh_grace 5s", 5 * time.Second, tokenLife, time.Second},
		"of an hour, through renewals":  {"refresh_grace 1h", time.Hour, tokenLife, 2 * time.Minute},
		"with tokens of few seconds":    {"", 2 * time.Minute, 2 * time.Second, time.Second},
		"with a cookie that is renewed": {"session {\nreissue_interval 10s\n}", 2 * time.Minute, tokenLife, 7 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRenewing(t, withToken+test.settings)
			r.provider.SetAccessLifetime(test.life)
			stuck := "Cookie: " + r.cookie()
			r.pass(tokenLife)
			r.ask()
			var newest served
			for after := time.Duration(0); after < test.grace; after += test.step {
				newest = r.ask()
				if late := r.ask(stuck); late.Status != http.StatusOK || late.token != newest.token || late.set == "" {
					t.Fatalf("after %s: got %d (%s), the newest token: %t, Set-Cookie %q", after, late.Status, late.reason, late.token == newest.token, late.set)
				}
				r.pass(test.step)
			}
			if got := r.ask(stuck); got.Status != http.StatusUnauthorized || got.set != "" || got.forgot {
				t.Errorf("after the grace: got %d and Set-Cookie %q", got.Status, got.Header.Values("Set-Cookie"))
			}
			if got := r.ask(); got.Status != http.StatusOK {
				t.Errorf("with the newest cookie: got %d (%s)", got.Status, got.reason)
			}
		})
	}
}

// The answer to a cookie of long ago does not touch what the browser has: in another tab it has gone on.
func TestSpentCookiesTouchNothing(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]string{
		"by default":      "",
		"an idle session": "session {\nidling_timeout 10m\n}",
		"and the storage": "refresh_coordination storage",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t)
			p.SetRefreshTokens(true)
			l := newTimeline(p)
			r := l.welcome(t, l.instance(t, newSharedFolder(t), withToken+settings))
			old := r.cookie()
			for n := range 3 {
				r.pass(tokenLife)
				r.wantServed(n + 1)
			}
			for _, kind := range [][]string{typed, linked, {"Accept: application/json"}, {"Upgrade: websocket", "Connection: Upgrade"}} {
				answer := r.clone().Get(r.url("/"), append([]string{"Cookie: " + old}, kind...)...)
				if set, forgot := cookiesOf(answer.Header); set != "" || forgot || answer.Status == http.StatusOK {
					t.Errorf("%q: got %d and Set-Cookie %q", kind, answer.Status, answer.Header.Values("Set-Cookie"))
				}
			}
			r.wantServed(3)
			wantNoReuse(t, p)
		})
	}
}

// A browser that has nothing but a spent cookie signs in again. That cookie is worth nothing, so the session that it once was goes on wherever
// there is a newer one.
func TestLoginWithASpentCookie(t *testing.T) {
	t.Parallel()
	r := newRenewing(t, withToken)
	late := r.clone()
	r.pass(tokenLife)
	r.wantServed(1)
	r.pass(time.Hour)
	late.signIn("/page")
	got := late.wantServed(1)
	if newest := r.wantServed(2); newest.token == got.token {
		t.Error("the login has led to the old session")
	}
	late.pass(tokenLife)
	late.wantServed(3)
	r.wantServed(4)
}

// Nothing of a session is read when it is not due, whatever its generation: that is what makes all this cost nothing.
func TestOldGenerationsThatStillServe(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetRefreshTokens(true)
	p.SetAccessLifetime(150 * time.Second)
	l := newTimeline(p)
	storage := newSharedFolder(t)
	often := l.instance(t, storage, withToken+"refresh_session_interval 1m")
	seldom := l.instance(t, storage, withToken)
	a := l.welcome(t, often)
	b := a.at(seldom).clone()
	first := b.wantServed(0)
	a.pass(time.Minute)
	newest := a.wantServed(1)
	if got := b.wantServed(1); got.token != first.token || newest.token == first.token {
		t.Error("a request that needs no renewal was given another session")
	}
	a.pass(time.Minute) // the leeway of 30 seconds has begun
	if got := b.wantServed(1); got.token != newest.token || got.set != newest.set {
		t.Errorf("when it is due: the newest token: %t, its cookie: %t", got.token == newest.token, got.set == newest.set)
	}
	wantNoReuse(t, p)
}
