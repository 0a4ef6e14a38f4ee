package openidconnect

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

const inStorage = withToken + "session {\nstorage caddy\n}\n"

// newStored signs somebody in at a site that keeps its sessions in a storage.
func newStored(t *testing.T, settings string) (*renewing, *sharedFolder) {
	t.Helper()
	p := optest.New(t)
	p.SetRefreshTokens(true)
	l := newTimeline(p)
	storage := newSharedFolder(t)
	t.Cleanup(func() { wantNoReuse(t, p) })
	return l.welcome(t, l.instance(t, storage, settings)), storage
}

// A session in the storage is written when it begins and when it is renewed, and at no other time; its cookie stays good for all
// generations.
func TestStoredSessionsAreWrittenWhenRenewed(t *testing.T) {
	t.Parallel()
	r, storage := newStored(t, inStorage)
	login := r.cookie()
	for n := range 3 {
		stored := storage.stored.Load()
		for range 20 {
			r.pass(6 * time.Second)
			r.wantServed(n)
		}
		if written := storage.stored.Load() - stored; written != 0 {
			t.Errorf("generation %d: %d writes for requests that change nothing", n, written)
		}
		before := storage.files(t, "openid_connect/sessions")
		r.pass(tokenLife - 2*time.Minute)
		newest := r.wantServed(n + 1)
		waitUntil(t, storage.isIdle)
		after := storage.files(t, "openid_connect/sessions")
		if len(before) != 1 || len(after) != 1 {
			t.Fatalf("%d and %d records", len(before), len(after))
		}
		for name := range before {
			if after[name] == "" || after[name] == before[name] {
				t.Error("the record is not another one now")
			}
		}
		if got := r.wantServed(n+1, "Cookie: "+login); got.token != newest.token {
			t.Error("with the cookie of the login: another token")
		}
		r.pass(rereadAfter) // as after a restart
		if got := r.wantServed(n + 1); got.token != newest.token {
			t.Error("the record is of another token")
		}
	}
}

// Another instance sees what was renewed when it reads the record again, and renews no session that it remembers as an old one.
func TestStoredSessionsAreReadAgain(t *testing.T) {
	t.Parallel()
	a, b, storage := newInstances(t, inStorage+"claim_header X-Groups groups")
	b.wantServed(0)
	a.provider.SetUser(optest.Claims{"groups": "new"})
	a.pass(tokenLife)
	newest := a.wantServed(1)
	waitUntil(t, storage.isIdle)
	if got := b.wantServed(1); got.token != newest.token {
		t.Error("at once: another token")
	}
	b.site.wantHeaders(map[string]string{"X-Groups": "new"})
	a.pass(rereadAfter)
	b.wantServed(1)
	a.provider.SetUser(optest.Claims{"groups": "newer"})
	a.pass(tokenLife)
	b.wantServed(2)
	a.wantServed(2)
	a.site.wantHeaders(map[string]string{"X-Groups": "newer"})
}

// A renewed session that cannot be written is not lost: this process goes on with it, and writes it as soon as the storage works.
func TestStoreThatFailsAfterTheGrant(t *testing.T) {
	t.Parallel()
	r, storage := newStored(t, inStorage)
	before := storage.files(t, "openid_connect/sessions")
	r.pass(tokenLife)
	held := make(chan struct{})
	r.provider.FailRefresh(optest.Fault{Wait: held})
	answer := make(chan served, 1)
	go func() { answer <- r.clone().ask() }()
	r.provider.WaitForHits(t, optest.Token, 2)
	storage.noStore.Store(true)
	close(held)
	newest := <-answer
	if newest.Status != http.StatusOK || newest.token == "" {
		t.Fatalf("got %d (%s)", newest.Status, newest.reason)
	}
	r.provider.HealRefresh()
	r.site.logged(zapcore.ErrorLevel, "renewed session not stored; it is tried again", map[string]string{"reason": "store_unavailable", "error": errStorage.Error()})
	for _, after := range []time.Duration{0, rereadAfter, defaultRefreshGrace} {
		r.pass(after)
		if got := r.wantServed(1); got.token != newest.token {
			t.Errorf("%s later: another token", after)
		}
	}
	storage.noStore.Store(false)
	waitUntil(t, func() bool {
		for name, content := range storage.files(t, "openid_connect/sessions") {
			return content != before[name]
		}
		return false
	})
	// a process that has just started knows what is in the storage, and no more
	other := r.at(r.instance(t, storage, inStorage+"timeout 5003ms")).clone()
	if got := other.wantServed(1); got.token != newest.token {
		t.Error("the record is of another token")
	}
	other.pass(tokenLife)
	other.wantServed(2)
}

// Without its store no session is renewed: the result could not be kept. Nobody loses anything by that.
func TestStoreThatFailsBeforeTheGrant(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"keep", "end"} {
		for what, fail := range map[string]func(s *sharedFolder) (mend func()){
			"it cannot be read": func(s *sharedFolder) func() { s.noLoad.Store(true); return func() { s.noLoad.Store(false) } },
			"it panics":         func(s *sharedFolder) func() { s.panics.Store(true); return func() { s.panics.Store(false) } },
		} {
			t.Run(policy+", "+what, func(t *testing.T) {
				t.Parallel()
				r, storage := newStored(t, inStorage+"refresh_failure "+policy)
				r.pass(tokenLife - 2*time.Second)
				p := r.provider
				mend := fail(storage)
				// what was read a moment ago is believed for some seconds more
				r.pass(time.Second)
				r.forgetOpened()
				r.wantStoreFailure()
				mend()
				first := r.wantServed(1)
				r.pass(tokenDue - time.Second)
				r.wantServed(1) // read again
				fail(storage)
				r.pass(time.Second)
				if got := r.ask(); got.Status != http.StatusOK || got.token != first.token {
					t.Errorf("while the token lives: got %d (%s)", got.Status, got.reason)
				}
				if n := p.RefreshAttempts(); n != 1 {
					t.Errorf("%d attempts while the store fails", n)
				}
				r.pass(defaultLeeway)
				if got := r.ask(); got.Status != http.StatusServiceUnavailable {
					t.Errorf("after its end: got %d (%s)", got.Status, got.reason)
				}
				mend()
				r.pass(maxPause)
				if got := r.wantServed(2); got.token == first.token {
					t.Error("no new token")
				}
			})
		}
	}
}

// A session whose token has expired while it was remembered, and whose store fails at that moment, has not ended: the provider was not even
// asked. Who needs no token goes on.
func TestStoreThatFailsWhenTheTokenExpires(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"keep", "end"} {
		for _, passesOn := range []string{withToken, ""} {
			t.Run(policy+" "+passesOn, func(t *testing.T) {
				t.Parallel()
				r, storage := newStored(t, passesOn+strings.TrimPrefix(inStorage, withToken)+"access_token_expires_leeway 0\nrefresh_failure "+policy)
				r.pass(tokenLife - time.Second)
				r.wantServed(0)
				storage.noLoad.Store(true)
				r.pass(time.Second)
				if passesOn != "" {
					r.wantUnavailableSomehow()
				} else {
					r.wantServed(0)
				}
				storage.noLoad.Store(false)
				r.pass(maxPause)
				r.wantServed(1)
			})
		}
	}
}

// wantUnavailableSomehow checks that requests are told to come back, for whatever reason, and keep their cookie.
func (r *renewing) wantUnavailableSomehow() {
	r.t.Helper()
	for _, headers := range [][]string{typed, {"Accept: application/json"}} {
		answer := r.clone().Get(r.url("/"), headers...)
		if set, forgot := cookiesOf(answer.Header); answer.Status != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" || set != "" || forgot {
			r.t.Errorf("%q: got %d %v: %s", headers, answer.Status, answer.Header, shown(answer))
		}
	}
}

// Renewals of sessions in cookies go on without the storage by which instances agree on them, with one warning.
func TestCoordinationThatFails(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(s *sharedFolder){
		"it cannot be read":     func(s *sharedFolder) { s.noLoad.Store(true) },
		"it cannot be written":  func(s *sharedFolder) { s.noStore.Store(true) },
		"it panics":             func(s *sharedFolder) { s.panics.Store(true) },
		"it gives no locks":     func(s *sharedFolder) { s.beforeLock(func(string) error { return errStorage }) },
		"it panics in the lock": func(s *sharedFolder) { s.beforeLock(func(string) error { panic(errStorage) }) },
		"all of it": func(s *sharedFolder) {
			s.noLoad.Store(true)
			s.noStore.Store(true)
			s.beforeLock(func(string) error { return errStorage })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, storage := newStored(t, withToken+"refresh_coordination storage")
			r.pass(tokenLife)
			r.wantServed(1)
			waitUntil(t, storage.isIdle)
			fail(storage)
			for n := range 3 {
				old := r.cookie()
				r.pass(tokenLife)
				newest := wantSame(t, r.storm(t, 10, old))
				r.wantGrants(n + 2)
				if got := r.wantServed(n+2, "Cookie: "+old); got.token != newest.token {
					t.Error("a late request gets another token")
				}
			}
			if n := r.site.troubles(); n < 1 || n > 2*4 { // at most one of each kind in a minute
				t.Errorf("%d lines of trouble", n)
			}
			if n := len(r.site.logs.FilterMessageSnippet("as the storage fails").All()); n < 1 || n > 4 {
				t.Errorf("%d warnings", n)
			}
		})
	}
}

// A storage that hangs, as a dead network mount does, keeps nobody waiting for longer than the bound, and nobody at all whose token lives and
// who comes later.
func TestCoordinationThatHangs(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]string{"sessions in cookies": withToken + "refresh_coordination storage", "sessions in the storage": inStorage} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, storage := newStored(t, settings)
			first := r.wantServed(0)
			r.pass(tokenDue)
			if strings.Contains(settings, "storage caddy") {
				r.forgetOpened()
				r.pass(-time.Second)
				r.wantServed(0) // it is remembered
				r.pass(time.Second)
			}
			storage.hang()
			start := time.Now()
			got := r.ask()
			if took := time.Since(start); got.Status != http.StatusOK || got.token != first.token || took > 2*renewalWait {
				t.Errorf("got %d (%s) after %s", got.Status, got.reason, took)
			}
			start = time.Now()
			for range 5 {
				if got := r.ask(); got.Status != http.StatusOK || got.token != first.token {
					t.Errorf("later: got %d (%s)", got.Status, got.reason)
				}
			}
			if took := time.Since(start); took > 2*renewalWait {
				t.Errorf("later: five requests took %s", took)
			}
			storage.answer()
			waitUntil(t, storage.isIdle)
			r.pass(defaultLeeway)
			waitUntil(t, func() bool { // the attempts of before end in pauses of their own
				r.pass(time.Second)
				got := r.ask()
				return got.Status == http.StatusOK && got.token != first.token
			})
			r.wantGrants(1)
		})
	}
}
