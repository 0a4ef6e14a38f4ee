package openidconnect

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Logouts and requests at once: whoever is named is out when the provider has its answer, and nobody else is, at any time.
func TestLogoutTokensAndRequestsAtOnce(t *testing.T) {
	t.Parallel()
	const pairs = 50
	for where, settings := range keptWhere {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			b := newBackchannel(t, settings)
			victims, others := make([]*renewing, pairs), make([]*renewing, pairs)
			for i := range pairs {
				victims[i] = &renewing{b.signIn(fmt.Sprint("user-", i), fmt.Sprint("s-", i)), b.timeline}
				others[i] = &renewing{b.signIn(fmt.Sprint("user-", i), fmt.Sprint("t-", i)), b.timeline}
			}
			transports := programs(t)
			ask := func(r *renewing, i int) int {
				request := newRequest(t, http.MethodGet, r.url("/data"), nil, "Accept: application/json", "Cookie: "+r.cookie())
				if got := send(t, transports[i%2], request); got != nil {
					return got.StatusCode
				}
				return 0
			}
			tokens := make([]string, pairs)
			for i := range tokens {
				tokens[i] = b.p.LogoutToken(optest.BySIDAndSub(fmt.Sprint("s-", i), fmt.Sprint("user-", i)))
			}
			start := make(chan struct{})
			var group sync.WaitGroup
			for i := range pairs {
				group.Go(func() {
					<-start
					wantDone(t, b.p.SendLogout(t, b.uri, tokens[i]))
					if status := ask(victims[i], i); status != http.StatusUnauthorized {
						t.Errorf("after its logout a session gets %d", status)
					}
				})
				group.Go(func() {
					<-start
					for n := range 3 {
						if status := ask(others[i], i+n); status != http.StatusOK {
							t.Errorf("a session that is not named gets %d", status)
						}
						ask(victims[i], i+n)
					}
				})
			}
			close(start)
			group.Wait()
			for i := range pairs {
				if alive, dead := ask(others[i], i), ask(victims[i], i); alive != http.StatusOK || dead != http.StatusUnauthorized {
					t.Errorf("in the end %d and %d", alive, dead)
				}
			}
		})
	}
}

// The same token many times at once is one logout, and each of the senders hears that it is done.
func TestOneLogoutTokenManyTimesAtOnce(t *testing.T) {
	t.Parallel()
	for where, settings := range keptWhere {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			b := newBackchannel(t, settings)
			victim, other := b.signIn("alice", "s"), b.signIn("bob", "t")
			token := b.p.LogoutToken(optest.BySID("s"))
			var group sync.WaitGroup
			for range 50 {
				group.Go(func() { wantDone(t, b.p.SendLogout(t, b.uri, token)) })
			}
			group.Wait()
			wantEnded(t, victim)
			wantAlive(t, other)
			if n := b.site.lines("logout"); n != 1 {
				t.Errorf("%d lines about one logout", n)
			}
		})
	}
}

// Many tokens of strangers and one of the provider: it is heard among them (S-225).
func TestS225GenuineTokenAmongStrangers(t *testing.T) {
	t.Parallel()
	b := newBackchannel(t, "")
	victim := b.signIn("alice", "s")
	genuine := b.p.LogoutToken(optest.BySID("s"))
	var group sync.WaitGroup
	group.Go(func() { b.strangers(200) })
	wantDone(t, b.p.SendLogout(t, b.uri, genuine))
	group.Wait()
	wantEnded(t, victim)
	if n := b.site.listed(); n != 1 {
		t.Errorf("%d revocations of one logout", n)
	}
}
