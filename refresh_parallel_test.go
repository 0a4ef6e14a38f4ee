package openidconnect

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// latency is how long the provider takes for an answer.
var latency = optest.Fault{Delay: 50 * time.Millisecond}

// programs is what a session's cookie is sent with by scripts and pages of a site, on connections of either protocol.
func programs(t *testing.T) []http.RoundTripper {
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	return []http.RoundTripper{transport, h2cTransport(t)}
}

// storm sends so many requests with these cookies at once, over both protocols, and returns what they got.
func (r *renewing) storm(t *testing.T, requests int, cookies ...string) []served {
	t.Helper()
	transports := programs(t)
	answers := make([]served, requests)
	start := make(chan struct{})
	var group sync.WaitGroup
	for i := range answers {
		request := newRequest(t, http.MethodGet, r.url(fmt.Sprintf("/tab-%d", i%7)), nil, "Accept: application/json", "Cookie: "+cookies[i%len(cookies)])
		group.Go(func() {
			<-start
			if got := send(t, transports[i%2], request); got != nil {
				answers[i] = servedOf(t, &optest.Response{Status: got.StatusCode, Header: got.Header, Body: got.body})
			}
		})
	}
	close(start)
	group.Wait()
	return answers
}

// wantSame checks that all requests were let through with one and the same access token, and were given one and the same cookie.
func wantSame(t *testing.T, answers []served) served {
	t.Helper()
	for i, got := range answers {
		if got.Status != http.StatusOK || got.token == "" || got.token != answers[0].token || got.set == "" || got.set != answers[0].set {
			t.Errorf("request %d: got %d (%s); with the same token as the first: %t, the same cookie: %t", i, got.Status, got.reason,
				got.token == answers[0].token, got.set == answers[0].set)
		}
	}
	return answers[0]
}

// The case that no gateway with cookie sessions gets right: many requests at once with a token that has expired, at a provider that gives a
// new refresh token each time and ends the session when it sees an old one.
func TestS193ParallelRequests(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		settings string
		groups   int
		at       time.Duration
	}{
		"expired":                       {"", 0, tokenLife + time.Hour},
		"about to expire":               {"", 0, tokenDue},
		"in several cookies":            {"session {\nmax_cookie_bytes 12000\n}", 180, tokenLife},
		"in the storage":                {"session {\nstorage caddy\n}", 0, tokenLife},
		"coordinated with nobody else":  {"refresh_coordination storage", 0, tokenLife},
		"where a failure ends sessions": {"refresh_failure end", 0, tokenLife},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t)
			p.SetRefreshTokens(true)
			p.SetUser(optest.Claims{"groups": manyTexts(test.groups)})
			l := newTimeline(p)
			storage := newSharedFolder(t)
			r := l.welcome(t, l.instance(t, storage, withToken+test.settings))
			old := r.cookie()
			if chunked := strings.Contains(old, ".1="); chunked != (test.groups > 0) {
				t.Fatalf("chunked: %t, with %d bytes", chunked, len(old))
			}
			p.FailRefresh(latency)
			r.pass(test.at)
			first := r.storm(t, 50, old)
			if kept := strings.Contains(test.settings, "storage caddy"); kept {
				for i := range first {
					first[i].set = old // which stands for all generations
				}
			}
			newest := wantSame(t, first)
			r.wantGrants(1)

			r.pass(defaultRefreshGrace - time.Second)
			for _, late := range r.storm(t, 20, old, newest.set) {
				if late.Status != http.StatusOK || late.token != newest.token || late.set != "" && late.set != newest.set {
					t.Errorf("late: got %d (%s), the newest token: %t, Set-Cookie %q", late.Status, late.reason, late.token == newest.token, late.set)
				}
			}
			r.wantGrants(1)
			wantNoReuse(t, p)
			if n := r.site.troubles(); n != 0 {
				t.Errorf("%d lines of trouble", n)
			}
		})
	}
}

// Generation after generation, of two browsers that renew at the same instants: one grant for each, and nobody gets what is another's.
func TestS198SimultaneousSessions(t *testing.T) {
	t.Parallel()
	r := newRenewing(t, withToken+"claim_header X-User sub")
	users := []string{"alice", "alice", "bob", "bob-2"}
	browsers := make([]*renewing, len(users))
	for i, user := range users {
		r.provider.SetUser(optest.Claims{"sub": user})
		browsers[i] = r.welcome(t, r.site)
	}
	r.provider.FailRefresh(latency)
	before := r.provider.RefreshGrants()
	for generation := range 4 {
		r.pass(tokenLife)
		seen := make(map[string]string)
		var mu sync.Mutex
		var group sync.WaitGroup
		for i, browser := range browsers {
			for tab := range 5 {
				one := browser
				if tab > 0 {
					one = browser.clone()
				}
				group.Go(func() {
					got := one.ask()
					mu.Lock()
					defer mu.Unlock()
					if got.Status != http.StatusOK || !strings.Contains(got.Body, `"X-User":["`+users[i]+`"]`) {
						t.Errorf("%s got %d: %s", users[i], got.Status, got.Body)
					}
					for name, value := range map[string]string{"token": got.token, "cookie": got.set} {
						key := fmt.Sprintf("%s %d", name, i)
						if known, ok := seen[key]; ok && known != value {
							t.Errorf("generation %d: another %s for the same browser", generation, name)
						}
						for other, known := range seen {
							if other != key && known == value {
								t.Errorf("generation %d: %s has what %s has", generation, key, other)
							}
						}
						seen[key] = value
					}
				})
			}
		}
		group.Wait()
	}
	if n := r.provider.RefreshGrants() - before; n != 4*len(browsers) {
		t.Errorf("%d grants, want %d", n, 4*len(browsers))
	}
	for user, want := range map[string]int{"alice": 8, "bob": 4, "bob-2": 4} {
		if n := r.provider.RefreshGrantsOf(user); n != want {
			t.Errorf("%d grants for %s, want %d", n, user, want)
		}
	}
}

// A browser that has gone before the answer came has the old cookie, and loses nothing by it.
func TestS201DisconnectBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		after    time.Duration
		signedIn bool
	}{
		"within the grace": {defaultRefreshGrace - time.Second, true},
		"after it":         {defaultRefreshGrace, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRenewing(t, withToken)
			old := "Cookie: " + r.cookie()
			r.pass(tokenLife)
			held := make(chan struct{})
			r.provider.FailRefresh(optest.Fault{Wait: held})
			ctx, leave := context.WithCancel(t.Context())
			gone := make(chan error)
			go func() {
				request := newRequest(t, http.MethodGet, r.url("/"), nil, old).WithContext(ctx)
				_, err := http.DefaultTransport.RoundTrip(request) //nolint:bodyclose // there is none
				gone <- err
			}()
			r.provider.WaitForHits(t, optest.Token, 2)
			leave()
			if err := <-gone; err == nil {
				t.Fatal("the request was answered")
			}
			close(held)
			waitUntil(t, func() bool { return r.site.lines("session renewed") == 1 })
			r.wantGrants(1) // it has gone on without anybody

			r.pass(test.after)
			if test.signedIn {
				if got := r.wantServed(1, old); got.set == "" {
					t.Error("the browser still has no new cookie")
				}
				return
			}
			r.wantAnonymous(old)
			r.signIn("/") // by one click or none
			r.wantServed(1)
		})
	}
}
