package openidconnect

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

// coordinated are the settings with which instances renew sessions together, by where the sessions are.
var coordinated = map[string]string{
	"sessions in cookies":     withToken + "refresh_coordination storage\n",
	"by default":              withToken,
	"sessions in the storage": withToken + "session {\nstorage caddy\n}\n",
}

// stormBoth sends so many requests with these cookies at once, to two instances in turn.
func stormBoth(t *testing.T, a, b *renewing, requests int, cookie string) []served {
	t.Helper()
	var answers [2][]served
	var group sync.WaitGroup
	for i, one := range []*renewing{a, b} {
		group.Go(func() { answers[i] = one.storm(t, requests/2, cookie) })
	}
	group.Wait()
	return append(answers[0], answers[1]...)
}

// Two instances that see the same session expire at once have it renewed once, and both give the result to all.
func TestInstancesRenewOnce(t *testing.T) {
	t.Parallel()
	for name, settings := range coordinated {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b, _ := newInstances(t, settings)
			stored := strings.Contains(settings, "storage caddy")
			a.provider.FailRefresh(latency)
			for generation := range 3 {
				old := a.cookie()
				a.pass(tokenLife)
				answers := stormBoth(t, a, b, 40, old)
				if stored {
					for i := range answers {
						answers[i].set = old
					}
				}
				newest := wantSame(t, answers)
				a.wantGrants(generation + 1)
				for _, one := range []*renewing{a, b} {
					if late := one.wantServed(generation+1, "Cookie: "+old); late.token != newest.token {
						t.Error("a late request gets another token")
					}
				}
				a.pass(defaultRefreshGrace)
				if !stored {
					a.wantAnonymous("Cookie: " + old)
					b.wantAnonymous("Cookie: " + old)
				}
				a.wantServed(generation + 1)
			}
			for _, one := range []*renewing{a, b} {
				if n := one.site.troubles(); n != 0 {
					t.Errorf("%d lines of trouble", n)
				}
			}
		})
	}
}

// What one instance hears of the provider holds for the other: the end of a session, and a pause.
func TestInstancesShareFailures(t *testing.T) {
	t.Parallel()
	for name, settings := range coordinated {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b, _ := newInstances(t, settings)
			old := a.cookie()
			a.pass(tokenLife)
			a.provider.FailRefresh(optest.Fault{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"20"}}})
			a.wantUnavailable("Cookie: " + old)
			b.wantUnavailable("Cookie: " + old)
			a.pass(19 * time.Second)
			b.wantUnavailable("Cookie: " + old)
			if n := a.provider.RefreshAttempts(); n != 1 {
				t.Errorf("%d attempts within the pause", n)
			}
			a.pass(time.Second)
			a.provider.HealRefresh()
			a.provider.RevokeRefreshTokens()
			b.wantAnonymous("Cookie: " + old)
			a.wantAnonymous("Cookie: " + old)
			if n := a.provider.RefreshAttempts(); n != 2 {
				t.Errorf("%d attempts, want one that fails and one that is refused", n)
			}
		})
	}
}

// An instance that has its own copy of an old session learns of the newest one when that counts, and never presents what is spent.
func TestInstanceThatComesLate(t *testing.T) {
	t.Parallel()
	for name, settings := range coordinated {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b, _ := newInstances(t, settings)
			old := a.cookie()
			b.wantServed(0)
			for n := range 3 {
				a.pass(tokenLife)
				a.wantServed(n + 1)
			}
			newest := a.wantServed(3)
			if got := b.wantServed(3, "Cookie: "+a.cookie()); got.token != newest.token {
				t.Error("the newest cookie is of another token")
			}
			if strings.Contains(settings, "storage caddy") {
				if got := b.wantServed(3, "Cookie: "+old); got.token != newest.token {
					t.Error("the cookie of all generations is of another token")
				}
				return
			}
			b.wantAnonymous("Cookie: " + old)
			a.wantGrants(3)
		})
	}
}

// Clocks that differ by some seconds change nothing.
func TestInstancesWithOtherClocks(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{-8 * time.Second, 8 * time.Second} {
		for name, settings := range coordinated {
			t.Run(ahead.String()+" "+name, func(t *testing.T) {
				t.Parallel()
				a, b, _ := newInstances(t, settings)
				b.site.handler.runtime.now = func() time.Time { return b.now().Add(ahead) }
				for generation := range 3 {
					old := a.cookie()
					a.pass(tokenLife + 10*time.Second)
					first, second := a, b
					if generation%2 == 1 {
						first, second = b, a
					}
					newest := first.wantServed(generation + 1)
					if got := second.wantServed(generation+1, "Cookie: "+old); got.token != newest.token {
						t.Error("a late request at the other instance gets another token")
					}
					second.wantServed(generation + 1)
				}
			})
		}
	}
}

// A login that takes the place of a session ends it at all instances, and a renewal that is under way elsewhere does not bring it back.
func TestLoginEndsTheSessionEverywhere(t *testing.T) {
	t.Parallel()
	for name, settings := range coordinated {
		for _, underWay := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				a, b, storage := newInstances(t, settings)
				old := a.cookie()
				a.pass(tokenLife)
				renewed := make(chan served, 1)
				held := make(chan struct{})
				if underWay {
					a.provider.FailRefresh(optest.Fault{Wait: held})
					other := b.clone()
					go func() { renewed <- other.ask() }()
					a.provider.WaitForHits(t, optest.Token, 2)
				} else {
					renewed <- b.clone().ask()
					waitUntil(t, storage.isIdle)
				}
				request := a.wantLoginAfter(a.open("/oauth2/login?prompt=login"))
				a.wantRedirect(a.arrive(request, a.answerTo(request)), "/")
				close(held)
				waitUntil(t, func() bool { return a.provider.RefreshGrants() == 1 })
				got := <-renewed
				waitUntil(t, storage.isIdle)
				a.wantServed(1)
				a.pass(tokenLife)
				for _, cookie := range []string{old, got.set} {
					for _, one := range []*renewing{a, b} {
						if answer := one.clone().ask("Cookie: " + cookie); cookie != "" && answer.Status != http.StatusUnauthorized {
							t.Errorf("under way %t: the session that was replaced: got %d (%s)", underWay, answer.Status, answer.reason)
						}
					}
				}
				wantNoReuse(t, a.provider)
			})
		}
	}
}

// wantLoginAfter is wantLogin, whatever has reached the upstream before.
func (r *renewing) wantLoginAfter(answer *optest.Response) map[string][]string {
	r.t.Helper()
	r.upstream.advance()
	return r.wantLogin(answer)
}

// A refusal is believed when nobody else has been quicker: the provider may have answered another instance, and that not yet us.
func TestRefusalBecauseAnotherWasQuicker(t *testing.T) {
	t.Parallel()
	a, b, _ := newInstances(t, withToken+"refresh_coordination storage")
	alone := a.at(a.instance(t, newSharedFolder(t), withToken+"refresh_coordination local\ntimeout 5002ms")).clone()
	old := a.cookie()
	a.pass(tokenLife)
	quicker := alone.wantServed(1) // tells nobody
	held := make(chan struct{})
	a.provider.FailRefresh(optest.Fault{Wait: held, Status: 400, Body: []byte(`{"error":"invalid_grant"}`)})
	answer := make(chan served, 1)
	go func() { answer <- b.clone().ask("Cookie: " + old) }()
	a.provider.WaitForHits(t, optest.Token, 3)
	opened := b.opened(old)
	_, sealed, _ := strings.Cut(quicker.set, "=")
	until := a.now().Add(defaultRefreshGrace)
	l := b.site.handler.runtime.login
	err := l.shared.Save(t.Context(), opened.ID, l.endOf(opened.Session), &session.Renewal{
		Generation: 1, Sealed: sealed, Until: until, Replaced: []session.Replaced{{Generation: 0, Until: until}},
	})
	if err != nil {
		t.Fatal(err)
	}
	close(held)
	if got := <-answer; got.Status != http.StatusOK || got.token != quicker.token || got.set != quicker.set {
		t.Errorf("got %d (%s)", got.Status, got.reason)
	}
	if n := b.site.lines("session ended"); n != 0 {
		t.Errorf("%d lines about an end", n)
	}
}

// opened is the session in a cookie.
func (r *renewing) opened(cookie string) *openedSession {
	r.t.Helper()
	rt := r.site.handler.runtime
	_, sealed, _ := strings.Cut(cookie, "=")
	host, _, _ := strings.Cut(r.site.host(), ":")
	opened, reason, refused := rt.openSession(r.t.Context(), &visit{host: host}, sealed, rt.now())
	if opened == nil {
		r.t.Fatal(reason, refused)
	}
	return opened
}
