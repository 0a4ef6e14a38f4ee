package openidconnect

import (
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// A provider that is away is asked now and then, however many sessions there are and however often they are used; the operator hears of it once
// a minute, and once that it is over.
func TestOutage(t *testing.T) {
	t.Parallel()
	for name, sessions := range map[string]int{"one session": 1, "thirty sessions": 30} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRenewing(t, "")
			browsers := []*renewing{r}
			for len(browsers) < sessions {
				browsers = append(browsers, r.welcome(t, r.site))
			}
			r.provider.FailRefresh(optest.Fault{Status: http.StatusBadGateway})
			r.pass(tokenLife)
			all := func() {
				t.Helper()
				var group sync.WaitGroup
				for _, browser := range browsers {
					group.Go(func() {
						if got := browser.ask(); got.Status != http.StatusOK {
							t.Errorf("got %d (%s)", got.Status, got.reason)
						}
					})
				}
				group.Wait()
			}
			const minutes = 3
			for range 60 * minutes {
				all()
				r.pass(time.Second)
			}
			// after 1, 2, 4, 8 and 16 seconds and then every 30 by one that has failed; once by each of those that have not
			if attempts := r.provider.RefreshAttempts(); attempts > sessions+5+60*minutes/30 || attempts < 60*minutes/30 {
				t.Errorf("%d attempts in %d minutes", attempts, minutes)
			}
			const told = "sessions cannot be renewed at the moment; it is tried again"
			if n := r.site.lines(told); n < minutes || n > minutes+1 {
				t.Errorf("%d lines about it in %d minutes", n, minutes)
			}
			r.site.logged(zapcore.WarnLevel, told, map[string]string{"reason": "refresh_unavailable", "issuer": r.provider.Issuer(), "error": "502"})
			if n := r.site.troubles(); n != r.site.lines(told) {
				t.Errorf("%d lines of trouble, %d of them about this", n, r.site.lines(told))
			}

			r.provider.HealRefresh()
			r.pass(maxPause)
			waitUntil(t, func() bool {
				r.pass(time.Second)
				all()
				return r.provider.RefreshGrants() >= sessions
			})
			if n := r.provider.RefreshGrants(); n != sessions {
				t.Errorf("%d grants afterwards for %d sessions", n, sessions)
			}
			if n := r.site.lines("sessions can be renewed again"); n != 1 {
				t.Errorf("%d lines about the end", n)
			}
		})
	}
}

// The provider says when to come back, and is left alone until then.
func TestRetryAfterOfTheProvider(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status int
		value  string
		pause  time.Duration
	}{
		"seconds":                  {429, "45", 45 * time.Second},
		"with 503":                 {503, "90", 90 * time.Second},
		"shorter than our own":     {429, "0", firstPause},
		"nonsense":                 {429, "soon", firstPause},
		"a day, which nobody does": {503, "86400", 10 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRenewing(t, withToken)
			r.provider.SetAccessLifetime(time.Hour)
			r.pass(tokenLife)
			r.wantServed(1)
			r.provider.FailRefresh(optest.Fault{Status: test.status, Header: http.Header{"Retry-After": {test.value}}, Times: 1})
			r.pass(time.Hour)
			r.wantUnavailable()
			other := r.welcome(t, r.site) // whom it does not concern
			other.ask()
			refused := r.ask()
			if seconds, err := strconv.Atoi(refused.Header.Get("Retry-After")); err != nil || time.Duration(seconds)*time.Second != test.pause {
				t.Errorf("Retry-After %q, want %s", refused.Header.Get("Retry-After"), test.pause)
			}
			r.pass(test.pause - time.Second/2)
			r.wantUnavailable()
			if n := r.provider.RefreshAttempts(); n != 2 {
				t.Errorf("%d attempts within the pause", n-1)
			}
			r.pass(time.Second / 2)
			if got := r.ask(); got.Status != http.StatusOK || r.provider.RefreshGrants() != 2 {
				t.Errorf("after it: got %d (%s) with %d grants", got.Status, got.reason, r.provider.RefreshGrants())
			}
		})
	}
}

// After a failure a request whose token lives does not wait for the next attempt: that is made beside it.
func TestNobodyWaitsAfterAFailure(t *testing.T) {
	t.Parallel()
	r := newRenewing(t, withToken+"timeout 5s")
	first := r.wantServed(0)
	r.provider.FailRefresh(optest.Fault{Status: http.StatusBadGateway})
	r.pass(tokenDue)
	r.ask()
	held := make(chan struct{})
	r.provider.FailRefresh(optest.Fault{Wait: held})
	r.pass(firstPause)
	for range 3 { // the first of them has the provider asked
		if got := r.ask(); got.Status != http.StatusOK || got.token != first.token {
			t.Errorf("got %d (%s)", got.Status, got.reason)
		}
	}
	r.provider.WaitForHits(t, optest.Token, 3)
	if n := r.provider.RefreshGrants(); n != 0 {
		t.Fatal("the provider has answered before it should")
	}
	close(held)
	waitUntil(t, func() bool { return r.site.lines("session renewed") == 1 })
	if got := r.ask(); got.Status != http.StatusOK || got.token == first.token || got.set == "" {
		t.Errorf("when the answer is there: got %d (%s), Set-Cookie %q", got.Status, got.reason, got.Header.Values("Set-Cookie"))
	}
}

// One session whose renewals fail keeps no other from being renewed.
func TestOneFailureIsNoOutage(t *testing.T) {
	t.Parallel()
	r := newRenewing(t, withToken)
	other := r.welcome(t, r.site)
	r.pass(tokenLife)
	r.provider.FailRefresh(optest.Fault{Status: http.StatusBadGateway, Times: 1})
	r.wantUnavailable()
	if got := other.ask(); got.Status != http.StatusOK || r.provider.RefreshGrants() != 1 {
		t.Errorf("another session: got %d (%s) with %d grants", got.Status, got.reason, r.provider.RefreshGrants())
	}
	r.pass(firstPause)
	if got := r.ask(); got.Status != http.StatusOK || r.provider.RefreshGrants() != 2 {
		t.Errorf("the same: got %d (%s) with %d grants", got.Status, got.reason, r.provider.RefreshGrants())
	}
	if n := r.site.lines("sessions can be renewed again"); n != 0 {
		t.Error("the end of an outage is told that was none")
	}
}

// An answer that is lost on its way takes the refresh token with it. That session ends, with a clean login and no more than one attempt.
func TestAnswerThatIsLost(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetRefreshTokens(true)
	l := newTimeline(p)
	r := l.welcome(t, l.rule(newLoginSite(t, p, withToken+"refresh_coordination local")))
	p.LoseRefreshAnswer(1)
	r.pass(tokenDue)
	if got := r.ask(); got.Status != http.StatusOK {
		t.Errorf("while the token lives: got %d (%s)", got.Status, got.reason)
	}
	r.pass(defaultLeeway)
	r.wantAnonymous()
	r.signIn("/")
	r.pass(tokenLife)
	if got := r.ask(); got.Status != http.StatusOK {
		t.Errorf("the new session: got %d (%s)", got.Status, got.reason)
	}
	if grants, reuses := p.RefreshGrants(), p.RefreshReuses(); grants != 2 || reuses != 1 {
		t.Errorf("%d grants, %d reuses", grants, reuses)
	}
}

// Nobody waits longer for a renewal than the bound, whatever the provider does; then a token that lives is good enough.
func TestWaitingIsBounded(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		at     time.Duration
		status int
	}{
		"with a token that lives":      {tokenDue, http.StatusOK},
		"with one that has expired":    {tokenLife, http.StatusServiceUnavailable},
		"one that expires in the wait": {tokenLife - 5*time.Second, http.StatusServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRenewing(t, withToken+"timeout 30s")
			r.pass(test.at)
			r.provider.FailRefresh(optest.Fault{Hang: true})
			if test.at == tokenLife-5*time.Second {
				real := time.Now()
				r.site.handler.runtime.now = func() time.Time { return r.now().Add(time.Since(real)) } // this one must not stand still
			}
			start := time.Now()
			got := r.ask()
			if took := time.Since(start); got.Status != test.status || took < renewalWait-time.Second || took > 2*renewalWait {
				t.Errorf("got %d (%s) after %s", got.Status, got.reason, took)
			}
			if seconds := got.Header.Get("Retry-After"); (seconds != "") != (test.status == http.StatusServiceUnavailable) || seconds == "0" {
				t.Errorf("Retry-After %q", seconds)
			}
		})
	}
}
