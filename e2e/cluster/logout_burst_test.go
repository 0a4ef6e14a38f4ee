package cluster

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

const (
	// burst is how many sessions end at the same time.
	burst = 500
	// burstLogins is how many logins are under way at a time.
	burstLogins = 16
)

// TestLogoutBurst ends 500 sessions at once on two gateways, half of them by their users and half by the provider, and loses none of the
// logouts on either, also when both crash later.
func TestLogoutBurst(t *testing.T) {
	t.Parallel()
	for _, where := range places(t) {
		if where.size != 2 || where.alone {
			continue
		}
		t.Run(where.name, func(t *testing.T) {
			t.Parallel()
			where.options.handler = append(where.options.handler, "username_claim sid") // so that a login tells its sid
			l := newLogoutTest(t, where)
			crowd := l.crowd(t, burst+1)
			bystander, crowd := crowd[burst], crowd[:burst]
			l.endAtOnce(t, crowd)
			last := time.Now()
			// Those that are polled show how long it takes, the others whether any is lost.
			l.awaitGone(t, time.Time{}, seenWithin, crowd[:8]...)
			until(t, "the time that others have", seenWithin+time.Second, func() bool { return time.Since(last) > seenWithin })
			l.gone, l.alive = crowd, []*visitor{bystander}
			l.expectGone(t)
			l.expectAlive(t)
			for _, g := range l.gateways {
				g.Kill()
				if err := g.Start(); err != nil {
					t.Fatal(err)
				}
			}
			l.expectGone(t)
			l.expectAlive(t)
			t.Logf("the other gateway learned of the logouts within %s", l.slowest.Round(time.Millisecond))
		})
	}
}

// crowd signs in so many browsers, of which each has a session with a sid of its own.
func (l *logoutTest) crowd(t *testing.T, size int) []*visitor {
	t.Helper()
	var sids, next atomic.Int64
	l.provider.SetSIDs(func() string { return fmt.Sprintf("session-%d", sids.Add(1)) })
	l.provider.Heal(optest.Token) // which takes its time otherwise
	all := make([]*visitor, size)
	var logins sync.WaitGroup
	for range burstLogins {
		logins.Go(func() {
			for i := next.Add(1) - 1; i < int64(size); i = next.Add(1) - 1 {
				v := &visitor{Client: l.newClient()}
				answer, err := v.Navigate(t.Context(), "/start")
				if err != nil || answer.Status != http.StatusOK {
					t.Errorf("a login ends with %v, status %d: %s", err, answer.Status, answer.Body)
					return
				}
				v.sid, v.subject, v.copied = answer.Body, answer.Body, v.Cookie()
				all[i] = v
			}
		})
	}
	logins.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for _, v := range all {
		if status := l.use(t, l.first(), v); status != http.StatusOK || !strings.HasPrefix(v.sid, "session-") {
			t.Fatalf("%q: status %d, want 200", v.sid, status)
		}
	}
	return all
}

// endAtOnce ends all of the sessions, in turn by the user and by the provider, and at one gateway and the other.
func (l *logoutTest) endAtOnce(t *testing.T, crowd []*visitor) {
	t.Helper()
	tokens := make([]string, len(crowd))
	for i, v := range crowd {
		tokens[i] = l.provider.LogoutToken(optest.BySID(v.sid))
	}
	var slowest atomic.Int64
	begin := make(chan struct{})
	var logouts sync.WaitGroup
	for i, v := range crowd {
		logouts.Go(func() {
			<-begin
			at := l.gateways[i/2%2]
			logout := func() (*Answer, error) { return v.SignOut(Pin(t.Context(), at)) }
			if i%2 == 0 {
				logout = func() (*Answer, error) { return l.newClient().SendLogout(Pin(t.Context(), at), tokens[i]) }
			}
			answer, err := logout()
			v.gone = time.Now()
			if err != nil || answer.Status != http.StatusOK {
				t.Errorf("%s: %v, status %d: %s", v.sid, err, answer.Status, answer.Body)
				return
			}
			for most := slowest.Load(); int64(answer.Duration) > most && !slowest.CompareAndSwap(most, int64(answer.Duration)); {
				most = slowest.Load()
			}
			if again, err := v.FetchWith(Pin(t.Context(), at), "/api", v.copied); err != nil || again.Status != http.StatusUnauthorized {
				t.Errorf("%s: %v, status %d at the gateway of the logout, want 401", v.sid, err, again.Status)
			}
		})
	}
	began := time.Now()
	close(begin)
	logouts.Wait()
	t.Logf("%d logouts in %s, the slowest answer after %s", len(crowd), time.Since(began).Round(time.Millisecond),
		time.Duration(slowest.Load()).Round(time.Millisecond))
	if took := time.Duration(slowest.Load()); took > patience {
		t.Errorf("a logout was answered after %s", took)
	}
}
