package cluster

import (
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// TestLogout ends sessions at one gateway, in all the ways that there are, and holds the others to learning of it in time. What has ended
// stays so: for copies and older generations of its cookies, when all gateways crash, and when what they share was away meanwhile.
func TestLogout(t *testing.T) {
	t.Parallel()
	for _, where := range places(t) {
		t.Run(where.name, func(t *testing.T) {
			t.Parallel()
			l := newLogoutTest(t, where)
			l.enter(t, "bystander")
			l.whileOthersAreBusy(t)
			l.whileOthersAreIdle(t)
			l.beforeCrash(t)
			l.expectPurged(t)
			l.withoutStorage(t)
			l.expectGone(t)
			l.expectAlive(t)
			l.expectNoReuse(t)
			t.Logf("other gateways learned of a logout within %s", l.slowest.Round(time.Millisecond))
		})
	}
}

// whileOthersAreBusy ends sessions at the first gateway while all have requests.
func (l *logoutTest) whileOthersAreBusy(t *testing.T) {
	t.Helper()
	alice := l.enter(t, "alice")
	bobHere, bobThere := l.enter(t, "bob"), l.enter(t, "bob")
	carol := []*visitor{l.enter(t, "carol"), l.enter(t, "carol")}
	dave := l.enterAt(t, l.last(), "dave")

	l.frame(t, l.first(), "nobody's session")
	l.expectAlive(t)

	l.signOut(t, l.first(), alice)
	l.tell(t, l.first(), optest.BySID(bobHere.sid), bobHere)
	l.tell(t, l.first(), optest.BySub("carol"), carol...)
	l.frame(t, l.first(), dave.sid)
	l.leave(t, l.first(), dave)
	l.awaitGone(t, time.Time{}, seenWithin, l.gone...)
	l.expectAlive(t)
	if status := l.use(t, l.first(), bobThere); status != http.StatusOK {
		t.Errorf("bob's other session: status %d, want 200", status)
	}
	l.enter(t, "carol")
}

// enterAt is enter at one gateway, which no other hears of.
func (l *logoutTest) enterAt(t *testing.T, at *Gateway, subject string) *visitor {
	t.Helper()
	v := &visitor{Client: l.newClient(), subject: subject, sid: l.nextSID(subject)}
	l.provider.SetUser(optest.Claims{"sub": subject})
	answer, err := v.Navigate(Pin(t.Context(), at), "/start")
	expectDone(t, "a login", answer, err)
	v.copied = v.Cookie()
	if status := l.use(t, at, v); status != http.StatusOK {
		t.Fatalf("%s: status %d, want 200", v.sid, status)
	}
	return v
}

// whileOthersAreIdle ends a session that has been renewed. Nobody asks the other gateways in the meantime, so that the first request must
// make them look.
func (l *logoutTest) whileOthersAreIdle(t *testing.T) {
	t.Helper()
	l.provider.SetAccessLifetime(4 * tokenLifetime) // all gateways know the session before it is renewed
	old := l.enter(t, "erin")
	l.provider.SetAccessLifetime(time.Hour)
	grants := l.provider.RefreshGrants()
	until(t, "a renewal", 20*time.Second, func() bool {
		answer, err := old.Fetch(Pin(t.Context(), l.first()), "/api")
		expectDone(t, "a request", answer, err)
		return l.provider.RefreshGrants() > grants
	})
	renewed := *old
	renewed.copied = renewed.Cookie()
	if !l.stored && renewed.copied == old.copied {
		t.Fatal("the renewal has not changed the cookie")
	}
	for i, g := range l.gateways {
		if l.alone && i > 0 {
			break // it would present the spent refresh token
		}
		if status := l.use(t, g, old); status != http.StatusOK {
			t.Fatalf("the old cookie gets status %d at gateway %d within its grace, want 200", status, i)
		}
	}
	attempts := l.provider.RefreshAttempts()
	l.signOut(t, l.first(), old)
	l.leave(t, l.first(), &renewed)
	until(t, "the time that others have", seenWithin+time.Second, func() bool { return time.Since(renewed.gone) > seenWithin })
	for i, g := range l.gateways {
		// the first request there
		if status := l.use(t, g, &renewed); status != http.StatusUnauthorized {
			t.Errorf("%s: status %d at gateway %d, %s after its end, want 401", renewed.sid, status, i, time.Since(renewed.gone))
		}
	}
	l.expectGone(t)
	if tries := l.provider.RefreshAttempts() - attempts; tries != 0 {
		t.Errorf("%d refresh tokens were presented after the logout", tries)
	}
	l.expectAlive(t)
}

// beforeCrash kills all gateways as soon as logouts have been answered.
func (l *logoutTest) beforeCrash(t *testing.T) {
	t.Helper()
	frank, grace := l.enter(t, "frank"), l.enter(t, "grace")
	l.signOut(t, l.first(), frank)
	l.tell(t, l.last(), optest.BySID(grace.sid), grace)
	for _, g := range l.gateways {
		g.Kill()
	}
	for _, g := range l.gateways {
		if err := g.Start(); err != nil {
			t.Fatal(err)
		}
	}
	l.expectGone(t)
	l.expectAlive(t)
}

const (
	// patience is how long the answer to a logout may take while what gateways share does not answer.
	patience = 8 * time.Second
	// seenLater is how long after its return they may serve a session that has ended meanwhile: the longest pause between attempts to
	// write comes in addition.
	seenLater = seenWithin + 5*time.Second
)

// withoutStorage ends sessions while what gateways share is away. The one that is asked knows at once; the others learn of it later.
func (l *logoutTest) withoutStorage(t *testing.T) {
	t.Helper()
	l.tolerate = append(l.tolerate, "store_unavailable")
	heidi, ivan := l.enter(t, "heidi"), l.enter(t, "ivan")
	giveBack := l.take(t)
	returned := false
	defer func() {
		if !returned {
			giveBack() // or nothing else can end
		}
	}()
	var signedOut, told *Answer
	var failed [2]error
	var logouts sync.WaitGroup
	logouts.Go(func() { signedOut, failed[0] = heidi.SignOut(Pin(t.Context(), l.first())) })
	logouts.Go(func() {
		told, failed[1] = l.newClient().SendLogout(Pin(t.Context(), l.first()), l.provider.LogoutToken(optest.BySID(ivan.sid)))
	})
	logouts.Wait()
	if err := errors.Join(failed[:]...); err != nil {
		t.Fatal(err)
	}
	t.Logf("without the storage: logout %d after %s, logout token %d after %s", signedOut.Status, signedOut.Duration.Round(time.Millisecond),
		told.Status, told.Duration.Round(time.Millisecond))
	if signedOut.Status != http.StatusOK || signedOut.Duration > patience {
		t.Errorf("the logout was answered with %d after %s: %s", signedOut.Status, signedOut.Duration, signedOut.Body)
	}
	if wanted := map[bool]int{true: http.StatusBadRequest, false: http.StatusOK}[l.stored]; told.Status != wanted || told.Duration > patience {
		t.Errorf("the logout token was answered with %d after %s, want %d: %s", told.Status, told.Duration, wanted, told.Body)
	}
	for _, v := range []*visitor{heidi, ivan} {
		v.gone = time.Now()
		l.gone = append(l.gone, v)
	}
	l.alive = l.alive[:len(l.alive)-2]
	began := time.Now()
	until(t, "a while", 10*time.Second, func() bool {
		for _, v := range []*visitor{heidi, ivan} {
			if status := l.use(t, l.first(), v); status != http.StatusUnauthorized && (!l.stored || status != http.StatusServiceUnavailable) {
				t.Fatalf("%s: status %d at the gateway of the logout", v.sid, status)
			}
		}
		bystander := l.alive[0]
		answer, err := bystander.FetchWith(Pin(t.Context(), l.last()), "/api", bystander.copied)
		if err != nil {
			t.Fatal(err)
		}
		if answer.Status != http.StatusOK && (!l.stored || answer.Status != http.StatusServiceUnavailable) || answer.Duration > patience {
			t.Fatalf("a bystander gets status %d after %s: %s", answer.Status, answer.Duration, answer.Body)
		}
		return time.Since(began) > time.Second
	})
	l.awaitList(t, l.first(), false)

	returned = true
	giveBack()
	since, before := time.Now(), l.slowest
	l.slowest = 0
	l.awaitGone(t, since, seenLater, heidi, ivan)
	t.Logf("all gateways learned of it within %s after the return of the storage", l.slowest.Round(time.Millisecond))
	l.slowest = before
	for _, g := range l.gateways {
		l.awaitList(t, g, true)
	}
	for _, v := range l.alive {
		for _, g := range l.gateways {
			until(t, "200 again", 20*time.Second, func() bool { return l.use(t, g, v) == http.StatusOK })
		}
	}
}
