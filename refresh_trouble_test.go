package openidconnect

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// failingOnce is a storage that fails once when something with this in its name is written.
type failingOnce struct {
	*sharedFolder
	name  string
	armed atomic.Bool
}

func (s *failingOnce) Store(ctx context.Context, key string, value []byte) error {
	if strings.Contains(key, s.name) && s.armed.Swap(false) {
		return errStorage
	}
	return s.sharedFolder.Store(ctx, key, value)
}

// A write that fails once, right after a grant, costs nobody anything: other instances get the result a moment later, and do not present the
// spent token meanwhile.
func TestResultThatIsWrittenLate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ settings, written string }{
		"sessions in cookies":     {withToken + "refresh_coordination storage\n", "/renewals/"},
		"sessions in the storage": {inStorage, "/sessions/"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t)
			p.SetRefreshTokens(true)
			t.Cleanup(func() { wantNoReuse(t, p) })
			l := newTimeline(p)
			storage := &failingOnce{sharedFolder: newSharedFolder(t), name: test.written}
			on := func(timeout string) *site {
				return l.process(newSiteOn(t, storage, p, sealedWithSecret(test.settings)+"\ntimeout "+timeout))
			}
			a := l.welcome(t, on("5s"))
			b := a.at(on("5001ms"))
			old := "Cookie: " + a.cookie()
			a.pass(tokenLife)
			held := make(chan struct{})
			p.FailRefresh(optest.Fault{Wait: held})
			answer := make(chan served, 1)
			go func() { answer <- a.clone().ask(old) }()
			p.WaitForHits(t, optest.Token, 2)
			storage.armed.Store(true)
			close(held)
			newest := <-answer
			if newest.Status != http.StatusOK {
				t.Fatalf("got %d (%s)", newest.Status, newest.reason)
			}
			if storage.armed.Load() {
				waitUntil(t, func() bool { return !storage.armed.Load() })
			}
			waitUntil(t, func() bool { // nobody is refused for good meanwhile
				got := b.clone().ask(old)
				if got.Status != http.StatusOK && got.Status != http.StatusServiceUnavailable {
					t.Fatalf("the other instance: got %d (%s)", got.Status, got.reason)
				}
				return got.token == newest.token
			})
			a.wantGrants(1)
		})
	}
}

// A store that has lost what was written last, as after a failover, keeps its users out for a while, as the newer record may yet come, and no
// longer: then they sign in again.
func TestStoreThatGoesBack(t *testing.T) {
	t.Parallel()
	r, storage := newStored(t, inStorage)
	before := storage.files(t, "openid_connect/sessions")
	r.pass(tokenLife)
	r.wantServed(1)
	waitUntil(t, storage.isIdle)
	for name, content := range before {
		writeFile(t, name, content)
	}
	r.pass(defaultRefreshGrace + rereadAfter)
	for range 90 {
		got := r.clone().open("/")
		if got.Status != http.StatusServiceUnavailable && got.Status != http.StatusFound && got.Status != http.StatusOK {
			t.Fatalf("got %d", got.Status)
		}
		r.pass(10 * time.Second)
	}
	if got := r.provider.RefreshAttempts(); got > 2 {
		t.Errorf("%d attempts", got)
	}
	if got := r.clone().ask(); got.Status != http.StatusOK {
		r.upstream.advance()
		r.wantLogin(r.open("/"))
		r.signIn("/")
	}
}

// A renewed session that outgrows its record keeps the claims it had.
func TestRecordsThatAreOutgrown(t *testing.T) {
	t.Parallel()
	r, _ := newStored(t, inStorage+"userinfo on\nclaim_header X-Email email\nscope \"openid email\"")
	r.provider.SetThinIDTokens(true)
	first := r.wantServed(0)
	r.provider.SetUserinfo(func(claims optest.Claims) {
		claims["email"] = "new@example.com"
		claims["groups"] = manyTexts(9000)
	})
	r.pass(tokenLife)
	if got := r.wantServed(1); got.token == first.token {
		t.Error("the access token was not renewed")
	}
	r.site.wantHeaders(map[string]string{"X-Email": "alice@example.com"})
	r.provider.SetUserinfo(func(claims optest.Claims) { claims["email"] = "new@example.com" })
	r.pass(tokenLife)
	r.wantServed(2)
	r.site.wantHeaders(map[string]string{"X-Email": "new@example.com"})
}

// However many requests bring a session that has to be read from a slow storage, none is refused for that.
func TestManyRequestsAndASlowStore(t *testing.T) {
	t.Parallel()
	r, storage := newStored(t, inStorage)
	r.wantServed(0)
	cookie := r.cookie()
	r.forgetOpened()
	storage.hang()
	time.AfterFunc(300*time.Millisecond, storage.answer)
	for i, got := range r.storm(t, maxStoreCalls+100, cookie) {
		if got.Status != http.StatusOK {
			t.Fatalf("request %d: got %d (%s)", i, got.Status, got.reason)
		}
	}
}

// What one session has in the storage and cannot be read concerns that session alone.
func TestOneEntryThatCannotBeRead(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetRefreshTokens(true)
	storage := newSharedFolder(t)
	l := newTimeline(p)
	t.Cleanup(func() { wantNoReuse(t, p) })
	const settings = withToken + "refresh_coordination storage\n"
	a := l.welcome(t, l.instance(t, storage, settings+"timeout 5s"))
	b := a.at(l.instance(t, storage, settings+"timeout 5001ms"))
	a.pass(tokenLife)
	a.wantServed(1)
	waitUntil(t, storage.isIdle)
	for name := range storage.files(t, "openid_connect/renewals") { // a folder in its place
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(name, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(name, "x"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const users = 5
	var others [users]*renewing
	for i := range others {
		others[i] = a.welcome(t, a.site)
	}
	a.pass(tokenLife)
	a.ask()
	before := p.RefreshGrants()
	var group sync.WaitGroup
	for _, other := range others {
		old := "Cookie: " + other.cookie()
		for _, one := range []*renewing{other, other.at(b.site)} {
			group.Go(func() {
				if got := one.clone().ask(old); got.Status != http.StatusOK {
					t.Errorf("another user: got %d (%s)", got.Status, got.reason)
				}
			})
		}
	}
	group.Wait()
	if n := p.RefreshGrants() - before; n != users {
		t.Errorf("%d grants for %d users at two instances", n, users)
	}
}

// refresh_failure end is about a provider that does not answer. One that takes its time, or a storage that fails, ends nothing; where something
// ends that is told once, and to the other instances.
func TestWhatEndsASession(t *testing.T) {
	t.Parallel()
	a, b, _ := newInstances(t, withToken+"refresh_coordination storage\nrefresh_failure end\n")
	old := "Cookie: " + a.cookie()
	a.provider.FailRefresh(optest.Fault{Status: http.StatusBadGateway})
	a.pass(tokenLife)
	a.wantAnonymous(old)
	a.site.settle()
	a.site.logged(zapcore.InfoLevel, "session ended", map[string]string{"reason": "refresh_unavailable"})
	if n := a.site.lines("session ended"); n != 1 {
		t.Errorf("%d lines about it", n)
	}
	a.provider.HealRefresh()
	a.pass(maxPause)
	b.wantAnonymous(old)
	if n := a.provider.RefreshAttempts(); n != 1 {
		t.Errorf("%d attempts", n)
	}
}

// A storage that hangs costs those whose token has expired a wait, once, and no session.
func TestCoordinationThatHangsAtTheEndOfAToken(t *testing.T) {
	t.Parallel()
	r, storage := newStored(t, withToken+"refresh_coordination storage")
	other := r.welcome(t, r.site)
	storage.hang()
	r.pass(tokenLife)
	start := time.Now()
	waitUntil(t, func() bool {
		r.pass(time.Second)
		return r.ask().Status == http.StatusOK
	})
	if took := time.Since(start); took > 2*renewalWait {
		t.Errorf("it took %s", took)
	}
	waitUntil(t, func() bool {
		other.pass(time.Second)
		return other.ask().Status == http.StatusOK
	})
	r.wantGrants(2)
	storage.answer()
	for n := range 2 {
		r.pass(tokenLife)
		waitUntil(t, func() bool {
			r.pass(time.Second)
			return r.ask().Status == http.StatusOK
		})
		r.wantGrants(3 + n)
	}
}

// A storage that cannot be reached for a moment keeps a session from being renewed as long as its token lives, as somebody else may have done
// so: alone an instance renews only what cannot wait.
func TestBlipOnOneInstance(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetRefreshTokens(true)
	t.Cleanup(func() { wantNoReuse(t, p) })
	l := newTimeline(p)
	storage := newSharedFolder(t)
	const settings = withToken + "refresh_coordination storage\n"
	a := l.welcome(t, l.instance(t, storage, settings+"timeout 5s"))
	away := &folderStorage{FileStorage: storage.FileStorage}
	b := a.at(l.process(newSiteOn(t, away, p, sealedWithSecret(settings))))
	first := b.wantServed(0)
	old := "Cookie: " + a.cookie()
	a.pass(tokenDue)
	newest := a.wantServed(1)
	away.noLoad.Store(true)
	if got := b.clone().ask(old); got.Status != http.StatusOK || got.token != first.token {
		t.Errorf("while it is away: got %d (%s)", got.Status, got.reason)
	}
	away.noLoad.Store(false)
	a.pass(firstPause)
	if got := b.wantServed(1, old); got.token != newest.token {
		t.Error("when it is back: another token")
	}
}

// Instances whose absolute_timeout differs, as for a while when it is changed, find each other's renewals all the same.
func TestInstancesWithOtherTimeouts(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetRefreshTokens(true)
	t.Cleanup(func() { wantNoReuse(t, p) })
	l := newTimeline(p)
	storage := newSharedFolder(t)
	const settings = withToken + "refresh_coordination storage\nsession {\nabsolute_timeout "
	a := l.welcome(t, l.instance(t, storage, settings+"24h\n}"))
	b := a.at(l.instance(t, storage, settings+"72h\n}"))
	for n := range 3 {
		old := "Cookie: " + a.cookie()
		a.pass(tokenLife)
		first, second := a, b
		if n == 1 {
			first, second = b, a
		}
		newest := first.wantServed(n + 1)
		if got := second.wantServed(n+1, old); got.token != newest.token {
			t.Error("the other instance has another token")
		}
		second.wantServed(n + 1)
	}
}
